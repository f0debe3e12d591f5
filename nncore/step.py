"""One training step, in phases that can be called separately."""

from math import isfinite

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer


class TrainStep:
    """A training step with its model, criterion and optimizer: zero_grad, forward, loss, backward, optimizer.

    The default criterion is cross-entropy, the default optimizer Adam with learning rate `lr` (which is
    ignored if a torch_optimizer is given).

    Raises:
        ValueError: the learning rate is not positive and finite.

    """

    def __init__(
        self,
        model: nn.Module,
        criterion: nn.Module | None = None,
        torch_optimizer: Optimizer | None = None,
        lr: float = 0.001,
    ) -> None:
        if not (isfinite(lr) and lr > 0):
            raise ValueError(f"lr: {lr} is not a positive number (example: 0.001)")
        self.model = model
        self.criterion = nn.CrossEntropyLoss() if criterion is None else criterion
        self.torch_optimizer = Adam(model.parameters(), lr=lr) if torch_optimizer is None else torch_optimizer

    def zero_grad(self) -> None:
        """Drop the gradients of the step before, to which backward would add."""
        self.torch_optimizer.zero_grad()

    def forward(self, inputs: Tensor) -> Tensor:  # [N, input_size]
        """Return the model's logits, [N, classes]."""
        logits: Tensor = self.model(inputs)
        return logits

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:  # [N, classes], [N] int64
        """Return the mean loss of the batch, a scalar with its autograd graph."""
        loss: Tensor = self.criterion(logits, targets)
        return loss

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of the loss into the parameters' `.grad`."""
        torch.autograd.backward(loss)  # what loss.backward() calls

    def optimizer(self) -> None:
        """Update every parameter from its gradient."""
        self.torch_optimizer.step()

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Run the whole step on one batch and return its loss, a scalar on the model's device.

        There is no `.item()`, which would make the CPU wait for the GPU at every step.
        """
        self.zero_grad()
        logits = self.forward(inputs)
        loss = self.loss(logits, targets)
        self.backward(loss)
        self.optimizer()
        return loss
