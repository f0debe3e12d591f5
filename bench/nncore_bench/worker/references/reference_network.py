"""The reference network that measures the machine's drift, independent of the measured code.

It resembles SimpleNN and its training step in `nncore` but shares no line with them on purpose: otherwise a
change to the measured code would slow down case and reference alike, and pass for drift.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle

import torch
from torch import Tensor, nn

from nncore.step import TrainStep
from nncore_bench.cases import BlockKind, Case
from nncore_bench.worker.subjects.state import State
from nncore_bench.worker.subjects.subject import SEED, Subject

INPUTS, CLASSES = 784, 10
BATCHES = 8
LEARNING_RATE = 0.001


class ReferenceStep(TrainStep):
    """The phases of a training step; a TrainStep in its interface only, every method is overridden."""

    def __init__(self, hidden: int, device: torch.device) -> None:
        self.model = nn.Sequential(nn.Linear(INPUTS, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES)).to(
            device
        )
        self.criterion = nn.CrossEntropyLoss()
        self.torch_optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)

    def zero_grad(self) -> None:
        """Drop the gradients."""
        self.torch_optimizer.zero_grad()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits, [N, 10]."""
        logits: Tensor = self.model(inputs)
        return logits

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy, a scalar."""
        loss: Tensor = self.criterion(logits, targets)
        return loss

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients."""
        torch.autograd.backward(loss)

    def optimizer(self) -> None:
        """Update the parameters."""
        self.torch_optimizer.step()

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Run the whole step and return its loss."""
        self.zero_grad()
        logits = self.forward(inputs)
        loss = self.loss(logits, targets)
        self.backward(loss)
        self.optimizer()
        return loss


class ReferenceNetwork(Subject):
    """Training on noise with the batch size and hidden width of a case."""

    kinds: tuple[BlockKind, ...] = ("plain", "laps", "inference")

    def __init__(self, case: Case) -> None:
        torch.manual_seed(SEED)
        self.device = torch.device(case.device)
        self.step = ReferenceStep(int(case.hidden), self.device)
        self.batches = [_batch(case.batch_size, self.device) for _ in range(BATCHES)]
        self.feed = cycle(self.batches)
        self._state = State(self.step.model, self.step.torch_optimizer)

    @contextmanager
    def mode(self, kind: BlockKind) -> Iterator[None]:
        """Set eval mode without gradients for inference; other kinds need no context."""
        if kind != "inference":
            yield
            return
        self.step.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.step.model.train()


def _batch(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    inputs, targets = torch.rand(size, INPUTS), torch.randint(CLASSES, (size,))
    return inputs.to(device), targets.to(device)
