"""Steps to count that are no Subject: any model, at work on zeros."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nncore.evaluate import evaluating
from nncore.model import SimpleNN
from nncore.step import TrainStep
from nncore_bench.cases import BlockKind


@dataclass
class Bench:
    """A step that is no Subject; it goes on from where it is instead of restoring."""

    step: TrainStep
    batches: list[tuple[Tensor, Tensor]]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    replays: bool = False

    def restore(self) -> None:
        pass

    def mode(self, kind: BlockKind) -> AbstractContextManager[object]:
        return evaluating(self.step.model) if kind == "inference" else nullcontext()


def bench(
    model: nn.Module, shape: tuple[int, int], make: Callable[..., torch.optim.Optimizer] | None = None
) -> Bench:
    """Return a model at work on zeros of a shape, with targets that are class 0."""
    optimizer = None if make is None else make(model.parameters())
    batch = (torch.zeros(shape), torch.zeros(shape[0], dtype=torch.int64))
    return Bench(TrainStep(model, torch_optimizer=optimizer), [batch])


def simple(inputs: int, hidden: int, outputs: int, batch: int) -> Bench:
    return bench(SimpleNN(inputs, hidden, outputs), (batch, inputs))
