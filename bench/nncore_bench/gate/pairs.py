"""Pairs: a base and a candidate, both freshly launched on the same core, measured in turn in short blocks.

A coin decides everything that has an order: which folder a side sits in, which is launched, set up and warmed
up first, and which goes first in every sample. The test that judges the pairs is exact only if it does. Both
sides have the same core, or as many as a case has threads, so that earlier pairs may decide which.

On the CPU a block with laps times step and phases at once. On a device recording the laps costs time, so the
step is a plain block by the wall clock, and a second block with laps times the phases.
"""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from nncore_bench.campaign.conductor import SPIN_UP_S
from nncore_bench.campaign.launcher import Asked, WorkerError
from nncore_bench.cases import STEP_PHASES, BlockKind, Case
from nncore_bench.estimate.positions import even_steps
from nncore_bench.gate.cores import Cores
from nncore_bench.gate.ratios import STEP, PairRatios
from nncore_bench.records import VARIES
from nncore_bench.runs import NANO, Block
from nncore_bench.worker import messages
from nncore_bench.worker.blocks import least_iterations

BLOCK_S = 0.008
SAMPLES = 8
ON_CPU: tuple[BlockKind, ...] = ("laps",)
ON_DEVICE: tuple[BlockKind, ...] = ("plain", "laps")
"""The blocks of a sample; the first one takes BLOCK_S."""

TICK_NS = 500.0
"""The resolution of a device's events (CUDA Runtime API, cudaEventElapsedTime); shorter laps count as one."""

HOST_SETS_THE_PACE = 0.9
"""A host that spends this share of the wall clock launching keeps the device waiting.

Blocks are too short to fill the launch queue, so the host does not wait for the device.
"""

FEWEST_TICKS = 20
"""Do not judge a phase on a device that is shorter than this: its ratios would be those of the clock."""

LENGTHS = 3
"""Lengthen blocks at random by up to 1/LENGTHS, so that periodic noise does not hit every block alike."""

BASE, CANDIDATE = BOTH = 0, 1
Thing = TypeVar("Thing")


Launch = Callable[[int, str, Path, tuple[int, ...]], Asked]
"""Start a worker of a side, for a device, that measures the code of a folder on some cores (none: any)."""

Workers = Mapping[int, Asked]
"""The worker of each side."""

Times = npt.NDArray[np.float64]
Replies = Mapping[int, Mapping[str, messages.Measured]]
"""The blocks of one sample, by side and kind."""


class SideError(RuntimeError):
    """The reason why a side cannot measure a case; without a case, why its worker does not start."""

    def __init__(self, side: int, case: Case | None, reason: str) -> None:
        super().__init__(reason)
        self.side = side
        self.case = case


class Sample(NamedTuple):
    """One side's block: the smallest and the mean lap of the step and of each of its parts, in nanoseconds.

    The mean leaves out the time that other programs had the core; `clock_mean`, of the whole step, keeps it,
    as a clock alone would. On a device `low` is the mean as well.
    """

    low: Times
    mean: Times
    clock_mean: float


@dataclass
class Pairing:
    """Launch pairs of some cases; the first pair settles `steps` and `parts`, the same for both sides.

    The parts of a step are those that both sides have; others are laps of OTHER.
    """

    cases: Sequence[Case]
    launch: Launch
    cores: Sequence[int]
    random: random.Random
    samples: int = SAMPLES
    steps: dict[int, int] = field(default_factory=dict)
    parts: dict[int, tuple[str, ...]] = field(default_factory=dict)
    varying: set[int] = field(default_factory=set)
    """The cases whose steps differ in their work on any side."""

    def __post_init__(self) -> None:
        self._cores = Cores(self.cores, self.random)

    def measure(self, paths: tuple[Path, Path], numbers: Sequence[int]) -> dict[int, PairRatios]:
        """Measure the cases of these numbers; raises SideError.

        Cases share a pair of fresh launches with those of the same device and number of threads.
        """
        groups: dict[tuple[str, int | str], list[int]] = {}
        for number in numbers:
            groups.setdefault(self.cases[number].place[:2], []).append(number)
        found: dict[int, PairRatios] = {}
        for device, threads in self._shuffled(groups):
            count = threads if isinstance(threads, int) else 0
            found |= self._pair(device, paths, groups[device, threads], self._cores.choose(count))
        return found

    def _pair(
        self, device: str, paths: tuple[Path, Path], numbers: Sequence[int], cores: tuple[int, ...]
    ) -> dict[int, PairRatios]:
        workers: dict[int, Asked] = {}
        try:
            for side in self._shuffled(BOTH):
                workers[side] = self.launch(side, device, paths[side], cores)
            return self._measured(workers, numbers, cores)
        except WorkerError as error:  # at launch: later ones are named with their case
            raise SideError(side, None, str(error)) from None
        finally:
            for side in sorted(workers):
                workers[side].close()

    def _measured(
        self, workers: Workers, numbers: Sequence[int], cores: tuple[int, ...]
    ) -> dict[int, PairRatios]:
        for number in self._shuffled(numbers):
            prepared = [self._prepare(workers, side, number) for side in self._shuffled(BOTH)]
            self.parts.setdefault(number, common_parts(*(one.parts for one in prepared)))
            if any(one.correct.get(VARIES) for one in prepared):
                self.varying.add(number)
        if self.cases[numbers[0]].on_device:  # its clock fell while the workers started
            for side in self._shuffled(BOTH):
                self._ask(workers, side, numbers[0], messages.SpinUp(SPIN_UP_S))
        replies: dict[int, list[Replies]] = {number: [] for number in numbers}
        for _ in range(self.samples):
            for number in self._shuffled(numbers):
                replies[number].append(self._sample(workers, number, cores))
        return {
            number: ratios_of(self._samples(number, of_case), self.parts[number])
            for number, of_case in replies.items()
        }

    def _samples(self, number: int, replies: Sequence["Replies"]) -> list[tuple[Sample, Sample]]:
        """Return the samples of a case from the blocks of both sides."""
        parts = self.parts[number]
        sides = []
        for side in BOTH:
            own = [both[side] for both in replies]
            if self.cases[number].on_device:
                sides.append([device_sample_of(**one, parts=parts) for one in own])
            else:
                blocks = [one["laps"].block("laps").with_parts(parts) for one in own]
                blocks = even_steps(blocks) if number in self.varying else blocks
                sides.append([sample_of(block) for block in blocks])
        base, candidate = sides
        return list(zip(base, candidate, strict=True))

    def _prepare(self, workers: Workers, side: int, number: int) -> messages.Prepared:
        kinds = self._kinds(number)
        request = messages.Prepare(number, self.cases[number], warm_up=True, kinds=kinds)
        reply = self._ask(workers, side, number, request)
        assert isinstance(reply, messages.Prepared)  # noqa: S101 - anything else was raised
        if number not in self.steps:
            seconds = reply.seconds[kinds[0]]
            self.steps[number] = max(least_iterations(seconds), round(BLOCK_S / seconds))
        return reply

    def _kinds(self, number: int) -> tuple[BlockKind, ...]:
        return ON_DEVICE if self.cases[number].on_device else ON_CPU

    def _sample(self, workers: Workers, number: int, cores: tuple[int, ...]) -> "Replies":
        steps = self.steps[number]
        steps += self.random.randrange(steps // LENGTHS + 1)
        replies: dict[int, dict[str, messages.Measured]] = {BASE: {}, CANDIDATE: {}}
        for kind in self._kinds(number):
            for side in self._shuffled(BOTH):
                reply = self._ask(workers, side, number, messages.Measure(number, kind, steps))
                if isinstance(reply, messages.Measured):
                    replies[side][kind] = reply
                    self._cores.note(cores, reply.waited_ns, reply.wall_ns)
        return replies

    def _ask(self, workers: Workers, side: int, number: int, request: messages.Request) -> messages.Reply:
        try:
            reply = workers[side].ask(request)
        except WorkerError as error:
            raise SideError(side, self.cases[number], f"its worker process {error}") from None
        if isinstance(reply, messages.Refused):
            raise SideError(side, self.cases[number], reply.reason)
        return reply

    def _shuffled(self, things: Collection[Thing]) -> list[Thing]:
        return self.random.sample(list(things), len(things))


def common_parts(base: tuple[str, ...], candidate: tuple[str, ...]) -> tuple[str, ...]:
    """Return the parts that the steps of both sides have."""
    return tuple(part for part in base if part in candidate)


def sample_of(block: Block) -> Sample:
    """Return the sample of one side on the CPU: counted laps, and the step as the sum of its laps."""
    laps = block.host[1:].astype(np.float64)

    def measured(laps: Times) -> Times:
        # A part of an own step may be left out of an iteration.
        found: Times = np.maximum(np.column_stack([laps.sum(axis=1), laps[:, :-1]]), 1.0)
        return found

    mean = measured(without_waiting(laps, block.waited_ns)).mean(axis=0)
    return Sample(measured(laps).min(axis=0), mean, float(laps.sum(axis=1).mean()))


def device_sample_of(
    plain: messages.Measured, laps: messages.Measured, parts: tuple[str, ...] = STEP_PHASES
) -> Sample:
    """Return the sample of one side on a device: means alone, since these add up.

    The step is the wall time of the plain block, without the time that others had the core where the host
    sets the pace; the phases are spans between events, none shorter than a tick of theirs.
    """
    step, lapped = plain.block("plain"), laps.block("laps").with_parts(parts)
    waited_ns = step.waited_ns if step.each_ns.sum() >= HOST_SETS_THE_PACE * step.wall_ns else 0
    spans = (lapped.host if lapped.device is None else lapped.device)[1:, : len(parts)].mean(axis=0)
    mean = np.array([(step.wall_ns - waited_ns) / step.iterations, *np.maximum(spans, TICK_NS)])
    return Sample(mean, mean, step.wall_mean_ns)


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


def ratios_of(samples: Sequence[tuple[Sample, Sample]], parts: tuple[str, ...] = STEP_PHASES) -> PairRatios:
    """Return what the samples of a pair, base and candidate, show of a case with these parts of its step."""
    lows, means = (
        np.array([[getattr(side, kind) for side in one] for one in samples]) for kind in ("low", "mean")
    )
    low, mean = (
        np.asarray(np.median(np.log(kind[:, CANDIDATE] / kind[:, BASE]), axis=0)) for kind in (lows, means)
    )
    mean[0] = np.log(means[:, CANDIDATE, 0].sum() / means[:, BASE, 0].sum())
    base_s = lows[:, BASE].min(axis=0) * NANO
    mean_ns = [(base.clock_mean, candidate.clock_mean) for base, candidate in samples]

    def by_phase(values: Times) -> dict[str, float]:
        return dict(zip((STEP, *parts), values.tolist(), strict=True))

    return PairRatios(by_phase(low), by_phase(mean), by_phase(base_s), lows[:, :, 0].tolist(), mean_ns)


def judgeable(case: Case, pairs: Sequence[PairRatios]) -> tuple[str, ...]:
    """Return the step, and the phases that can be judged: on a device those of FEWEST_TICKS or more.

    By the geometric mean of both sides, which stays as it is when they are exchanged: which columns there are
    must not depend on which side is slower.
    """
    least_s = FEWEST_TICKS * TICK_NS * NANO if case.on_device else 0.0

    def both_s(phase: str) -> float:
        return float(np.median([one.base_s[phase] * exp(one.low[phase] / 2) for one in pairs]))

    return tuple(phase for phase in pairs[0].low if phase == STEP or both_s(phase) >= least_s)
