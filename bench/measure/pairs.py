"""Pairs: a base and a candidate, both freshly launched on one core, measured in turn in short blocks.

Whatever has an order is decided by a coin: which folder an arm sits in, which is launched, set up and warmed
up first, which goes first in every sample. Only then is the test that judges the pairs exact.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bench.cases import BLOCK_LAPS, STEP_PHASES, Case
from bench.measure import messages
from bench.measure.blocks import LEAST_ITERATIONS
from bench.measure.workers import REQUEST_TIMEOUT_S, Asked, WorkerError

BLOCK_S = 0.008
SAMPLES = 8
BASE, CANDIDATE = 0, 1
MEASURED = ("step", *STEP_PHASES)
NANO = 1e-9


class Arm(Asked, Protocol):
    """A worker that measures the code of one revision."""

    def close(self) -> None:
        """End it."""


Launch = Callable[[Path, int | None], Arm]
"""Start a worker that measures the code of a folder, on a core."""

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

    Shapes [arm, measured].
    """

    low: Times
    mean: Times


@dataclass
class Pairing:
    """Measure launch pairs of some cases; `steps` is settled by the first pair, the same for both arms."""

    cases: Sequence[Case]
    launch: Launch
    cores: Sequence[int | None]
    random: random.Random
    samples: int = SAMPLES
    steps: dict[int, int] = field(default_factory=dict)

    def measure(self, paths: tuple[Path, Path], numbers: Sequence[int]) -> dict[int, list[Sample]]:
        """Return the samples of the cases of these numbers in one pair of fresh launches; raises ArmError."""
        core = self.random.choice(self.cores)
        arms: dict[int, Arm] = {}
        try:
            for arm in self._either_first():
                arms[arm] = self._launched(arm, paths[arm], core)
            return self._measured(arms, numbers)
        finally:
            for arm in sorted(arms):
                arms[arm].close()

    def _measured(self, arms: Mapping[int, Arm], numbers: Sequence[int]) -> dict[int, list[Sample]]:
        for number in self._shuffled(numbers):
            for arm in self._either_first():
                self._prepare(arms, arm, number)
        found: dict[int, list[Sample]] = {number: [] for number in numbers}
        for _ in range(self.samples):
            for number in self._shuffled(numbers):
                found[number].append(self._sample(arms, number))
        return found

    def _launched(self, arm: int, path: Path, core: int | None) -> Arm:
        try:
            return self.launch(path, core)
        except WorkerError as error:
            raise ArmError(arm, None, str(error)) from None

    def _prepare(self, arms: Mapping[int, Arm], arm: int, number: int) -> None:
        reply = self._ask(arms, arm, number, messages.Prepare(number, self.cases[number], warm_up=True))
        if number not in self.steps and isinstance(reply, messages.Prepared):
            self.steps[number] = max(LEAST_ITERATIONS, round(BLOCK_S / reply.seconds["plain"]))

    def _sample(self, arms: Mapping[int, Arm], number: int) -> Sample:
        low, mean = np.empty((2, len(MEASURED))), np.empty((2, len(MEASURED)))
        for arm in self._either_first():
            reply = self._ask(arms, arm, number, messages.Measure(number, "laps", self.steps[number]))
            if isinstance(reply, messages.Measured):
                low[arm], mean[arm] = times_of(reply)
        return Sample(low, mean)

    def _ask(
        self, arms: Mapping[int, Arm], arm: int, number: int, request: messages.Request
    ) -> messages.Reply:
        try:
            reply = arms[arm].ask(request, REQUEST_TIMEOUT_S)
        except WorkerError as error:
            raise ArmError(arm, self.cases[number], f"its worker process {error}") from None
        if isinstance(reply, messages.Refused):
            raise ArmError(arm, self.cases[number], reply.reason)
        return reply

    def _either_first(self) -> list[int]:
        return self.random.sample((BASE, CANDIDATE), 2)

    def _shuffled(self, numbers: Sequence[int]) -> list[int]:
        return self.random.sample(list(numbers), len(numbers))


def times_of(reply: messages.Measured) -> tuple[Times, Times]:
    """Return the smallest and the mean counted lap of each of MEASURED; the step is the sum of its laps."""
    columns = len(BLOCK_LAPS["laps"])
    source = reply.host if reply.device is None else reply.device
    laps = np.frombuffer(source, np.int64).reshape(-1, columns)[1:]
    names = BLOCK_LAPS["laps"]
    phases = laps[:, [names.index(phase) for phase in STEP_PHASES]]
    everything = np.column_stack([laps.sum(axis=1), phases]).astype(np.float64)
    return everything.min(axis=0), everything.mean(axis=0)


@dataclass(frozen=True)
class Ratios:
    """Hold what one pair showed of a case, each of shape [measured].

    `low` and `mean` are log-ratios, candidate over base, of smallest and mean laps: medians over the samples.
    `base_s` is the smallest lap of the base in seconds. `steps_ns` are the samples of the whole step in
    nanoseconds, of shape [smallest or mean lap, samples, arms].
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
    low, mean = (np.median(np.log(kind[:, CANDIDATE] / kind[:, BASE]), axis=0) for kind in (lows, means))
    steps = np.stack([lows[:, :, 0], means[:, :, 0]])
    return Ratios(low, mean, lows[:, BASE].min(axis=0) * NANO, steps)
