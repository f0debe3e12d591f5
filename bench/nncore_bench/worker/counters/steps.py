"""Steps for counting passes, with each phase in a context of its own.

Passes must not disturb each other (a dispatch mode adds operators, a profiler memory), so each runs its
own steps from the restored state, and none of them in a process that also times.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor

from nncore.step import TrainStep
from nncore_bench.cases import BlockKind

SETTLING_STEPS = 2
"""Steps before the counted one: the first creates the optimizer's state, and allocators settle."""

Batch: TypeAlias = tuple[Any, Any]
Around: TypeAlias = Callable[[str], AbstractContextManager[object]]
"""Returns the context in which to run the phase of that name."""

Reading = TypeVar("Reading")


class Countable(Protocol):
    """A training step with its batches, such as a Subject."""

    @property
    def step(self) -> TrainStep:
        """The training step."""

    @property
    def batches(self) -> Sequence[Batch]:
        """Batches of one size, resident on the device."""

    @property
    def device(self) -> torch.device:
        """The device that computes."""

    @property
    def replays(self) -> bool:
        """Whether the step is captured and replayed as a whole, without phases."""

    def restore(self) -> None:
        """Restore the parameters and the optimizer state that every pass starts from."""

    def mode(self, kind: BlockKind) -> AbstractContextManager[object]:
        """Return the context for iterations of a kind."""


def batch(work: Countable, number: int) -> Batch:
    """Return the batch of step `number`; batches repeat in a cycle."""
    return work.batches[number % len(work.batches)]


def settle(work: Countable) -> None:
    """Restore the state and run the uncounted steps."""
    work.restore()
    for number in range(SETTLING_STEPS):
        work.step(*batch(work, number))


def train_once(work: Countable, number: int, around: Around) -> None:
    """Run one step, each phase in its context, with the calls and lifetimes of TrainStep.__call__."""
    inputs, targets = batch(work, number)
    step = work.step
    with around("zero_grad"):
        step.zero_grad()
    with around("forward"):
        logits = step.forward(inputs)
    with around("loss"):
        loss = step.loss(logits, targets)
    with around("backward"):
        step.backward(loss)
    with around("optimizer"):
        step.optimizer()


def infer_once(work: Countable, number: int, around: Around) -> None:
    """Run inference on one batch; the output is freed within the phase."""
    inputs, _targets = batch(work, number)
    plain = isinstance(inputs, Tensor) and not getattr(work.step, "needed", ())
    infer = work.step.model if plain else work.step.forward  # as in the blocks that are timed
    with work.mode("inference"), around("inference"):
        infer(inputs)


def count_once(work: Countable, around: Around) -> None:
    """Run one settled step and one inference, each phase in its context."""
    settle(work)
    train_once(work, SETTLING_STEPS, around)
    infer_once(work, SETTLING_STEPS, around)


def read_around_phases(work: Countable, read: Callable[[], Reading]) -> dict[str, tuple[Reading, Reading]]:
    """Return what `read` says before and after each phase of a settled step, and of inference."""
    readings: dict[str, tuple[Reading, Reading]] = {}

    @contextmanager
    def around(phase: str) -> Iterator[None]:
        before = read()
        yield
        readings[phase] = before, read()

    count_once(work, around)
    return readings
