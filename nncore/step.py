"""One step of training, in phases that can be called one by one."""

from math import isfinite

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer


class TrainStep:
    """Hold what a training step needs, and run it: zero_grad, forward, loss, backward, optimizer.

    Without a criterion it takes the cross-entropy, without a torch_optimizer Adam with the learning rate `lr`
    (`lr` means nothing when a torch_optimizer is given: it has its own).

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
        """Drop the gradients of the step before; backward would add to them."""
        self.torch_optimizer.zero_grad()

    def forward(self, inputs: Tensor) -> Tensor:  # [N, input_size]
        """Return the model's logits, [N, classes]."""
        logits: Tensor = self.model(inputs)
        return logits

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:  # [N, classes], [N] int64
        """Return the mean loss of the batch, a scalar that still knows how it was computed."""
        loss: Tensor = self.criterion(logits, targets)
        return loss

    def backward(self, loss: Tensor) -> None:
        """Compute the gradient of the loss for every parameter, into its `.grad`."""
        torch.autograd.backward(loss)  # what loss.backward() calls

    def optimizer(self) -> None:
        """Move every parameter a little against its gradient."""
        self.torch_optimizer.step()

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Run the whole step on one batch and return its loss, a scalar on the model's device.

        No `.item()` here: it would make the CPU wait for the GPU at every step.
        """
        self.zero_grad()
        logits = self.forward(inputs)
        loss = self.loss(logits, targets)
        self.backward(loss)
        self.optimizer()
        return loss
