"""Workloads with a known duration, with which `selftest` tests the instrument on the user's machine."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from nncore_bench.cases import STEP_PHASES, BlockKind, Case
from nncore_bench.worker.subjects.subject import Mark, Subject

DELAY_NS = 300_000
EVERY = 3
"""Delay every third iteration; not every second, because step times already alternate."""

Wait = Callable[[int], None]


def second_clock() -> int:
    """Return the nanoseconds of a clock that is never adjusted and that the laps do not use."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_MONOTONIC_RAW", time.CLOCK_MONOTONIC))


def busy_wait(nanoseconds: int) -> None:
    """Spin for a given time by the second clock."""
    end = second_clock() + nanoseconds
    while second_clock() < end:
        pass


class BusyWait:
    """A step that does nothing but wait for a known time in its forward phase."""

    kinds: tuple[BlockKind, ...] = ("plain", "laps")
    assumed: tuple[str, ...] = ()

    def __init__(self, nanoseconds: int, wait: Wait = busy_wait) -> None:
        self.device = torch.device("cpu")
        self.nanoseconds = nanoseconds
        self.wait = wait

    def iteration(self, kind: BlockKind) -> Callable[[int, Mark], None]:
        """Return the function that runs one iteration of a kind."""
        return self._lapped if kind == "laps" else self._plain

    def mode(self, _kind: BlockKind) -> AbstractContextManager[object]:
        """Return a context that does nothing."""
        return nullcontext()

    def _lapped(self, _number: int, mark: Mark) -> None:
        for phase in STEP_PHASES:
            mark()
            if phase == "forward":
                self.wait(self.nanoseconds)
        mark()

    def _plain(self, _number: int, mark: Mark) -> None:
        mark()
        self.wait(self.nanoseconds)

    def check(self) -> dict[str, float]:
        """Return no figures: no network is trained here."""
        return {}

    def begin(self) -> dict[str, float]:
        """Return no figures: waiting has no first step."""
        return {}

    def save(self) -> None:
        """Do nothing: waiting has no state."""

    def restore(self) -> None:
        """Do nothing, see `save`."""

    def denormals(self) -> int:
        """Return 0: there are no values."""
        return 0


class DelayedPhase(Subject):
    """A real training step with a delay in one phase of every third iteration of `laps` blocks.

    The iterations in between show what the phase takes without it. Plain blocks have no phases to delay.
    """

    kinds: tuple[BlockKind, ...] = ("plain", "laps")

    def __init__(self, case: Case, phase: str, wait: Wait = busy_wait) -> None:
        super().__init__(case)
        self.wait = wait
        self.phase = phase
        self.waits = False
        usual = getattr(self.step, phase)

        def delayed(*arguments: object) -> object:
            result = usual(*arguments)
            if self.waits:
                self.wait(DELAY_NS)
            return result

        setattr(self.step, phase, delayed)

    def _lapped(self, number: int, mark: Mark) -> None:
        self.waits = number % EVERY == 1
        super()._lapped(number, mark)

    def _plain(self, number: int, mark: Mark) -> None:
        self.waits = False
        super()._plain(number, mark)
