"""Pairs: a base and a candidate, both freshly launched on the same core, measured in turn in short blocks.

Whatever has an order is decided by a coin: which folder an arm sits in, which is launched, set up and warmed
up first, which goes first in every sample. Only then is the test that judges the pairs exact. The core, or as
many as a case has threads, is the same for both arms, so that it may be chosen by what earlier pairs showed.

On the CPU a block with laps is step and phases at once. On a device recording the laps costs time, so the
step is a plain block by the wall clock, and a block with laps beside it tells of the phases.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nncore_bench.campaign.conductor import SPIN_UP_S
from nncore_bench.campaign.launcher import Asked, WorkerError, patience
from nncore_bench.cases import BLOCK_LAPS, STEP_PHASES, BlockKind, Case
from nncore_bench.gate.cores import Cores
from nncore_bench.runs import NANO
from nncore_bench.worker import messages
from nncore_bench.worker.blocks import LEAST_ITERATIONS

BLOCK_S = 0.008
SAMPLES = 8
ON_CPU: tuple[BlockKind, ...] = ("laps",)
ON_DEVICE: tuple[BlockKind, ...] = ("plain", "laps")
"""The blocks of a sample; the first one is as long as BLOCK_S says."""

TICK_NS = 500.0
"""The resolution of a device's events (CUDA Runtime API, cudaEventElapsedTime): no lap counts as less."""

HOST_SETS_THE_PACE = 0.9
"""From this share of the wall clock on the host spends launching, the device waits for it.

Blocks are too short for the launch queue to fill, in which the host would wait for the device as well.
"""

FEWEST_TICKS = 20
"""A phase on a device that is shorter than so many ticks is not judged: its ratios are those of the clock."""

LENGTHS = 3
"""Blocks are longer than the shortest by up to one step in so many, lest all meet alike what is periodic."""

BASE, CANDIDATE = 0, 1
MEASURED = ("step", *STEP_PHASES)
COLUMNS = [BLOCK_LAPS["laps"].index(phase) for phase in STEP_PHASES]


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
    """Hold the blocks of both arms: of each of MEASURED the smallest and the mean lap, in nanoseconds.

    Shapes [arm, measured]. The mean is without the time that others had the core; `clock_mean`, of shape
    [arm], is that of the whole step with it, as a clock alone sees it. On a device the smallest is the mean.
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
        if self.cases[numbers[0]].on_device:  # its clock fell while the workers started
            for arm in self._either_first():
                self._ask(arms, arm, numbers[0], messages.SpinUp(SPIN_UP_S))
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
        kinds = self._kinds(number)
        request = messages.Prepare(number, self.cases[number], warm_up=True, kinds=kinds)
        reply = self._ask(arms, arm, number, request)
        if number not in self.steps and isinstance(reply, messages.Prepared):
            self.steps[number] = max(LEAST_ITERATIONS, round(BLOCK_S / reply.seconds[kinds[0]]))

    def _kinds(self, number: int) -> tuple[BlockKind, ...]:
        return ON_DEVICE if self.cases[number].on_device else ON_CPU

    def _sample(self, arms: Mapping[int, Arm], number: int, cores: tuple[int, ...]) -> Sample:
        low, mean, clock_mean = np.empty((2, len(MEASURED))), np.empty((2, len(MEASURED))), np.empty(2)
        steps = self.steps[number]
        steps += self.random.randrange(steps // LENGTHS + 1)
        replies: dict[int, dict[BlockKind, messages.Measured]] = {BASE: {}, CANDIDATE: {}}
        for kind in self._kinds(number):
            for arm in self._either_first():
                reply = self._ask(arms, arm, number, messages.Measure(number, kind, steps))
                if isinstance(reply, messages.Measured):
                    replies[arm][kind] = reply
                    self._cores.note(cores, reply.waited_ns, reply.wall_ns)
        for arm, of_arm in replies.items():
            times = times_of(of_arm["laps"]) if len(of_arm) == 1 else device_times_of(**of_arm)
            low[arm], mean[arm], clock_mean[arm] = times
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
    """Return what a sample holds of one arm on the CPU: counted laps, and the step as the sum of its laps."""
    laps = reply.block("laps").host[1:].astype(np.float64)

    def measured(laps: Times) -> Times:
        return np.column_stack([laps.sum(axis=1), laps[:, COLUMNS]])

    mean = measured(without_waiting(laps, reply.waited_ns)).mean(axis=0)
    return measured(laps).min(axis=0), mean, float(laps.sum(axis=1).mean())


def device_times_of(plain: messages.Measured, laps: messages.Measured) -> tuple[Times, Times, float]:
    """Return what a sample holds of one arm on a device: means alone, since these add up.

    The step is the wall time of the plain block, without the time that others had the core where the host
    sets the pace; the phases are spans between events, none shorter than a tick of theirs.
    """
    step, parts = plain.block("plain"), laps.block("laps")
    waited_ns = step.waited_ns if step.each_ns.sum() >= HOST_SETS_THE_PACE * step.wall_ns else 0
    spans = (parts.host if parts.device is None else parts.device)[1:, COLUMNS].mean(axis=0)
    mean = np.array([(step.wall_ns - waited_ns) / step.iterations, *np.maximum(spans, TICK_NS)])
    return mean, mean, step.wall_mean_ns


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


def judgeable(case: Case, ratios: Sequence[Ratios]) -> tuple[str, ...]:
    """Return the step, and the phases that can be judged: on a device those of FEWEST_TICKS or more.

    By the geometric mean of both arms, which stays as it is when they are exchanged: which columns there are
    must not depend on which arm is slower.
    """
    both_s = np.median([one.base_s * np.exp(one.low / 2) for one in ratios], axis=0)
    least_s = FEWEST_TICKS * TICK_NS * NANO if case.on_device else 0.0
    return tuple(name for name, s in zip(MEASURED, both_s, strict=True) if name == "step" or s >= least_s)
