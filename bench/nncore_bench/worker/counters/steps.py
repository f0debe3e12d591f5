"""Steps for counting passes, with a call at the beginning of each phase.

Passes must not disturb each other (a dispatch mode adds operators, a profiler memory), so each runs its
own steps from the restored state, and none of them in a process that also times.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol, TypeAlias, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer
from torch.profiler import record_function

from nncore_bench.cases import UNATTRIBUTED, BlockKind

SETTLING_STEPS = 2
"""Steps before the counted one: the first creates the optimizer's state, and allocators settle."""

INFERENCE: Final = "inference"

Switch: TypeAlias = Callable[[str], None]
"""Takes the name of the phase that begins now; UNATTRIBUTED is what lies between iterations."""

Reading = TypeVar("Reading")


class Countable(Protocol):
    """A training step with its batches, such as a Subject."""

    kinds: tuple[BlockKind, ...]
    """The kinds of block it can run; without `inference` it has none."""

    device: torch.device

    @property
    def parts(self) -> tuple[str, ...]:
        """The phases that make up its step."""

    @property
    def replays(self) -> bool:
        """Whether the step is captured and replayed as a whole, without phases."""

    @property
    def models(self) -> Sequence[nn.Module]:
        """The networks that it trains."""

    @property
    def optimizers(self) -> Sequence[Optimizer]:
        """The optimizers."""

    def train(self, number: int) -> object:
        """Run the step of a number on its batch; batches repeat in a cycle."""

    def train_in_phases(self, number: int, switch: Switch) -> None:
        """Run the same step, and tell `switch` when each phase begins; a phase may begin several times."""

    def infer(self, number: int, switch: Switch) -> None:
        """Run inference on the batch of a number as the phase INFERENCE, which frees the output."""

    def drop_gradients(self) -> None:
        """Drop all gradients, as zero_grad does."""

    def count_nodes(self) -> dict[str, int]:
        """Return the number of autograd nodes that forward and loss add, and that backward runs."""

    def restore(self) -> None:
        """Restore the parameters and the optimizer state that every pass starts from."""

    def mode(self, kind: BlockKind) -> AbstractContextManager[object]:
        """Return the context for iterations of a kind."""


def labelled(prefix: str = "") -> Switch:
    """Return a switch that puts each phase under a label of the profiler, `prefix` and its name."""
    under_way: list[record_function] = []

    def switch(phase: str) -> None:
        if under_way:
            under_way.pop().__exit__(None, None, None)
        if phase != UNATTRIBUTED:
            label = record_function(prefix + phase)
            label.__enter__()  # type: ignore[no-untyped-call] # torch leaves it without types
            under_way.append(label)

    return switch


def counted(work: Countable) -> tuple[str, ...]:
    """Return the phases to count: those of the step, and inference if it has any."""
    return (*work.parts, *((INFERENCE,) if INFERENCE in work.kinds else ()))


def settle(work: Countable) -> None:
    """Restore the state and run the uncounted steps."""
    work.restore()
    for number in range(SETTLING_STEPS):
        work.train(number)


def count_once(
    work: Countable, switch: Switch, recording: AbstractContextManager[object] | None = None
) -> None:
    """Run one settled step and one inference while `recording`; tell `switch` when each phase begins."""
    settle(work)
    with recording or nullcontext():
        work.train_in_phases(SETTLING_STEPS, switch)
        if INFERENCE in work.kinds:
            work.infer(SETTLING_STEPS, switch)


def read_around_phases(
    work: Countable, read: Callable[[], Reading]
) -> dict[str, list[tuple[Reading, Reading]]]:
    """Return what `read` says before and after each phase of a settled step, and of inference.

    A phase that begins several times has as many pairs; one that did not begin has none.
    """
    readings: dict[str, list[tuple[Reading, Reading]]] = {name: [] for name in counted(work)}
    begun: list[tuple[str, Reading]] = []

    def switch(phase: str) -> None:
        now = read()
        if begun:
            name, before = begun.pop()
            readings.setdefault(name, []).append((before, now))
        if phase != UNATTRIBUTED:
            begun.append((phase, read()))

    count_once(work, switch)
    return readings
