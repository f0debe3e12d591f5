"""Pairs: a base and a candidate, both freshly launched on the same core, measured in turn in short blocks.

Whatever has an order is decided by a coin: which folder an arm sits in, which is launched, set up and warmed
up first, which goes first in every sample. Only then is the test that judges the pairs exact. The core, or as
many as a case has threads, is the same for both arms, so that it may be chosen by what earlier pairs showed.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bench.cases import BLOCK_LAPS, STEP_PHASES, BlockKind, Case
from bench.measure import messages
from bench.measure.blocks import LEAST_ITERATIONS
from bench.measure.scheduling import Cores
from bench.measure.workers import Asked, WorkerError, patience

BLOCK_S = 0.008
SAMPLES = 8
KIND: BlockKind = "laps"
LENGTHS = 3
"""Blocks are longer than the shortest by up to one step in so many, lest all meet alike what is periodic."""

BASE, CANDIDATE = 0, 1
MEASURED = ("step", *STEP_PHASES)
NANO = 1e-9


class Arm(Asked, Protocol):
    """A worker that measures the code of one revision."""

    def close(self) -> None:
        """End it."""


Launch = Callable[[int, str, Path, tuple[int, ...]], Arm]
"""Start a worker of an arm for a device that measures the code of a folder, on some cores (none: any)."""

Times = npt.NDArray[np.float64]


class ArmError(RuntimeError):
    """Say which arm cannot measure which case, and why."""

    def __init__(self, arm: int, case: Case | None, reason: str) -> None:
        super().__init__(reason)
        self.arm = arm
        self.case = case


@dataclass(frozen=True)
class Sample:
    """Hold a block of both arms: of each of MEASURED the smallest and the mean lap, in nanoseconds.

    Shapes [arm, measured]. The mean is without the time that others had the core; `clock_mean`, of shape
    [arm], is that of the whole step with it, as a clock alone sees it.
    """

    low: Times
    mean: Times
    clock_mean: Times


@dataclass
class Pairing:
    """Measure launch pairs of some cases; `steps` is settled by the first pair, the same for both arms."""

    cases: Sequence[Case]
    launch: Launch
    cores: Sequence[int]
    random: random.Random
    samples: int = SAMPLES
    steps: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._cores = Cores(self.cores, self.random)

    def measure(self, paths: tuple[Path, Path], numbers: Sequence[int]) -> dict[int, list[Sample]]:
        """Return the samples of the cases of these numbers.

        They come from one pair of fresh launches for each device and number of threads. Raises ArmError.
        """
        groups: dict[tuple[str, int | str], list[int]] = {}
        for number in numbers:
            groups.setdefault(self.cases[number].place[:2], []).append(number)
        found: dict[int, list[Sample]] = {}
        for device, threads in self.random.sample(list(groups), len(groups)):
            count = threads if isinstance(threads, int) else 0
            found |= self._pair(device, paths, groups[device, threads], self._cores.choose(count))
        return found

    def _pair(
        self, device: str, paths: tuple[Path, Path], numbers: Sequence[int], cores: tuple[int, ...]
    ) -> dict[int, list[Sample]]:
        arms: dict[int, Arm] = {}
        try:
            for arm in self._either_first():
                arms[arm] = self._launched(arm, device, paths[arm], cores)
            return self._measured(arms, numbers, cores)
        finally:
            for arm in sorted(arms):
                arms[arm].close()

    def _measured(
        self, arms: Mapping[int, Arm], numbers: Sequence[int], cores: tuple[int, ...]
    ) -> dict[int, list[Sample]]:
        for number in self._shuffled(numbers):
            for arm in self._either_first():
                self._prepare(arms, arm, number)
        found: dict[int, list[Sample]] = {number: [] for number in numbers}
        for _ in range(self.samples):
            for number in self._shuffled(numbers):
                found[number].append(self._sample(arms, number, cores))
        return found

    def _launched(self, arm: int, device: str, path: Path, cores: tuple[int, ...]) -> Arm:
        try:
            return self.launch(arm, device, path, cores)
        except WorkerError as error:
            raise ArmError(arm, None, str(error)) from None

    def _prepare(self, arms: Mapping[int, Arm], arm: int, number: int) -> None:
        request = messages.Prepare(number, self.cases[number], warm_up=True, kinds=(KIND,))
        reply = self._ask(arms, arm, number, request)
        if number not in self.steps and isinstance(reply, messages.Prepared):
            self.steps[number] = max(LEAST_ITERATIONS, round(BLOCK_S / reply.seconds[KIND]))

    def _sample(self, arms: Mapping[int, Arm], number: int, cores: tuple[int, ...]) -> Sample:
        low, mean, clock_mean = np.empty((2, len(MEASURED))), np.empty((2, len(MEASURED))), np.empty(2)
        steps = self.steps[number]
        steps += self.random.randrange(steps // LENGTHS + 1)
        for arm in self._either_first():
            reply = self._ask(arms, arm, number, messages.Measure(number, KIND, steps))
            if isinstance(reply, messages.Measured):
                low[arm], mean[arm], clock_mean[arm] = times_of(reply)
                self._cores.note(cores, reply.waited_ns, reply.wall_ns)
        return Sample(low, mean, clock_mean)

    def _ask(
        self, arms: Mapping[int, Arm], arm: int, number: int, request: messages.Request
    ) -> messages.Reply:
        try:
            reply = arms[arm].ask(request, patience(request))
        except WorkerError as error:
            raise ArmError(arm, self.cases[number], f"its worker process {error}") from None
        if isinstance(reply, messages.Refused):
            raise ArmError(arm, self.cases[number], reply.reason)
        return reply

    def _either_first(self) -> list[int]:
        return self.random.sample((BASE, CANDIDATE), 2)

    def _shuffled(self, numbers: Sequence[int]) -> list[int]:
        return self.random.sample(list(numbers), len(numbers))


def times_of(reply: messages.Measured) -> tuple[Times, Times, float]:
    """Return what a sample holds of one arm, of the counted laps; the step is the sum of its laps."""
    names = BLOCK_LAPS[KIND]
    source, waited_ns = (reply.host, reply.waited_ns) if reply.device is None else (reply.device, 0)
    laps = np.frombuffer(source, np.int64).reshape(-1, len(names))[1:].astype(np.float64)
    columns = [names.index(phase) for phase in STEP_PHASES]

    def measured(laps: Times) -> Times:
        return np.column_stack([laps.sum(axis=1), laps[:, columns]])

    mean = measured(without_waiting(laps, waited_ns)).mean(axis=0)
    return measured(laps).min(axis=0), mean, float(laps.sum(axis=1).mean())


def without_waiting(laps: Times, waited_ns: float) -> Times:
    """Return laps, of shape [iterations, laps], without the time that others had the core.

    Only its sum is known. A turn of another lasts as long as many laps, so it is taken from those that stand
    out most above the smallest of their column, down to that.
    """
    above = (laps - laps.min(axis=0)).ravel()
    order = np.argsort(-above)
    taken = np.zeros_like(above)
    taken[order] = np.clip(waited_ns - (np.cumsum(above[order]) - above[order]), 0.0, above[order])
    left: Times = laps - taken.reshape(laps.shape)
    return left


@dataclass(frozen=True)
class Ratios:
    """Hold what one pair showed of a case, each of shape [measured].

    `low` and `mean` are log-ratios, candidate over base, of smallest and mean laps: medians over the samples.
    Of the mean laps of the whole step it is that of their sums, in which a slow call counts however rare it
    is and whatever phase it is in. `base_s` is the smallest lap of the base in seconds. `steps_ns` are the
    samples of the whole step in nanoseconds, of shape [smallest or mean lap by the clock, samples, arms].
    """

    low: Times
    mean: Times
    base_s: Times
    steps_ns: Times


def ratios_of(samples: Mapping[int, Sequence[Sample]]) -> dict[int, Ratios]:
    """Return what a pair showed of each of its cases."""
    return {number: _ratios(of_case) for number, of_case in samples.items()}


def _ratios(samples: Sequence[Sample]) -> Ratios:
    lows, means = np.array([one.low for one in samples]), np.array([one.mean for one in samples])
    low, mean = (
        np.asarray(np.median(np.log(kind[:, CANDIDATE] / kind[:, BASE]), axis=0)) for kind in (lows, means)
    )
    mean[0] = np.log(means[:, CANDIDATE, 0].sum() / means[:, BASE, 0].sum())
    steps = np.stack([lows[:, :, 0], np.array([one.clock_mean for one in samples])])
    return Ratios(low, mean, lows[:, BASE].min(axis=0) * NANO, steps)
