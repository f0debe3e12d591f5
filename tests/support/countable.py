"""Steps to count that are no Subject: any model, at work on zeros."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nncore.model import SimpleNN
from nncore.step import TrainStep
from nncore_bench.worker.subjects.subject import Subject


class Bench(Subject):
    """A step made by hand; it goes on from where it is instead of restoring."""

    def __init__(
        self,
        step: TrainStep,
        batches: list[tuple[Tensor, Tensor]],
        device: torch.device | None = None,
        *,
        replays: bool = False,
    ) -> None:
        self.step, self.batches = step, batches
        self.device = device or torch.device("cpu")
        self._replays = replays

    @property
    def replays(self) -> bool:
        return self._replays

    def restore(self) -> None:
        pass


def bench(
    model: nn.Module, shape: tuple[int, int], make: Callable[..., torch.optim.Optimizer] | None = None
) -> Bench:
    """Return a model at work on zeros of a shape, with targets that are class 0."""
    optimizer = None if make is None else make(model.parameters())
    batch = (torch.zeros(shape), torch.zeros(shape[0], dtype=torch.int64))
    return Bench(TrainStep(model, torch_optimizer=optimizer), [batch])


def simple(inputs: int, hidden: int, outputs: int, batch: int) -> Bench:
    return bench(SimpleNN(inputs, hidden, outputs), (batch, inputs))
