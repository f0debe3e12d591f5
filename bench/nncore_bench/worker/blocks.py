"""Blocks: some consecutive iterations of one case, with a clock read at each boundary."""

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import numpy as np

from nncore_bench.cases import BLOCK_LAPS, OTHER, UNATTRIBUTED, BlockKind, parts_in
from nncore_bench.runs import Block, Nanoseconds
from nncore_bench.worker.clock import Clock
from nncore_bench.worker.waiting import Waiting


class IncorrectError(RuntimeError):
    """A case that computes a wrong result, so that its times mean nothing."""


class SubjectError(IncorrectError):
    """What is wrong with the result of a factory, and what to write instead, in one sentence."""


class Workload(Protocol):
    """Run single iterations of a case, passing a boundary of the clock where a lap begins."""

    def restore(self) -> None:
        """Put parameters and optimizer state back to where every block starts."""

    def iteration(self, kind: BlockKind) -> Callable[[int, Callable[[], None]], None]:
        """Return the function that runs the iteration of a number and marks its boundaries."""

    def mode(self, kind: BlockKind) -> AbstractContextManager[object]:
        """Return the context the iterations of a kind run in."""


class NamedLaps:
    """The laps of an own step by name: a part may have several in an iteration, or none.

    `names` has the part that begins at each mark, and STEP_BEGINS where an iteration begins, in OTHER.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._seen: dict[str, None] = {}
        self.mark: Callable[[str], None] = self.names.append

    def mark_with(self, clock: Clock) -> None:
        """Drop all names; from now on `mark` records a boundary by this clock and a name."""
        self._seen.update(dict.fromkeys(self.names))
        self.names.clear()
        self.mark = clock.naming(self.names)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts seen so far, in the order of `parts_in`."""
        self._seen.update(dict.fromkeys(self.names))
        begun = (name for name in self._seen if name not in (STEP_BEGINS, UNATTRIBUTED))
        return tuple(parts_in([*begun, OTHER]))

    def summed(self, laps: Nanoseconds) -> Nanoseconds:
        """Return the time of each part in each iteration, of shape [iterations, parts and UNATTRIBUTED]."""
        columns = {name: number for number, name in enumerate((*self.parts, UNATTRIBUTED))}
        columns[STEP_BEGINS] = columns[OTHER]
        begins = np.array([name == STEP_BEGINS for name in self.names])
        width = len(columns) - 1
        cells = (begins.cumsum() - 1) * width + [columns[name] for name in self.names]
        summed = np.zeros(int(begins.sum()) * width, np.int64)
        np.add.at(summed, cells, laps)
        return summed.reshape(-1, width)


STEP_BEGINS = "(step begins)"
LEAST_ITERATIONS = 4
"""The fewest counted iterations of a block: the smallest of four avoids a burst of some milliseconds."""

LONGEST_LEAST_S = 3.2
"""The longest that the fewest iterations may take, in seconds, unless a single one takes longer.

An iteration of a second is a thousand bursts long: it averages what the smallest of four avoids.
"""


def least_iterations(seconds: float) -> int:
    """Return the fewest counted iterations of a block: 4 up to 0.8 s each, 2 of 1.5 s, 1 of 2 s and more."""
    return max(1, int(LONGEST_LEAST_S / max(seconds, LONGEST_LEAST_S / LEAST_ITERATIONS)))


def run_block(
    workload: Workload, clock: Clock, kind: BlockKind, iterations: int, laps: NamedLaps | None = None
) -> Block:
    """Run one leading and some counted iterations from the restored state, and return all their laps.

    `laps` are the names of those that an own step marks.

    Nothing waits inside an iteration. The device is waited for after the leading iteration and at the end,
    so that `wall_ns` holds the counted iterations alone.
    """
    if iterations < 1:
        raise ValueError(f"iterations: {iterations} is not positive")
    workload.restore()
    if laps is not None:
        laps.mark_with(clock)
    run = workload.iteration(kind)
    with workload.mode(kind), no_collection():
        clock.begin(marks=(iterations + 1) * len(BLOCK_LAPS[kind]) + 1)
        run(0, clock.mark)
        clock.settle()
        waiting = Waiting()
        start = clock.now()
        for number in range(1, iterations + 1):
            run(number, clock.mark)
        clock.mark()
        clock.settle()
        wall_ns = clock.now() - start
        waited = waiting.ns()
    host, device = clock.host_laps(), clock.device_laps()
    if laps is not None:
        parts = laps.parts
        device = None if device is None else laps.summed(device)
        return Block(kind, laps.summed(host), device, wall_ns, waited, parts=parts)
    shape = (iterations + 1, len(BLOCK_LAPS[kind]))
    device = None if device is None else device.reshape(shape)
    return Block(kind, host.reshape(shape), device, wall_ns, waited)


@contextmanager
def no_collection() -> Iterator[None]:
    """Disable automatic garbage collection within a block; collections then run between blocks."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
