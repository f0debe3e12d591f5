"""Estimates: a number with its interval, from laps that are neither independent nor free of noise.

Pure functions: arrays in, values out. README, "How we know", has the reasons for these estimators.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, hypot, sqrt
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

Laps: TypeAlias = npt.NDArray[np.number[Any]]
Launches: TypeAlias = Sequence[Sequence[Laps]]
"""Launch → block → laps."""

COVERAGE = 0.95
WIDEST = 600.0
"""Half the width, on the logarithmic scale, from which an interval has no upper bound: e to this is 1e260."""

BETWEEN_LAUNCHES = "between launches and rounds"
WITHIN_ONE_PROCESS = "within one process"


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, all in the unit of the value.

    The bounds are None where they are unknown, or without end.
    """

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval, taken upwards, since the lower bound of a time stops at zero."""
        return None if self.high is None else self.high - self.value

    @classmethod
    def around(cls, value: float, half: float | None) -> "Estimate":
        """Make an estimate from a value and half the width of its interval, None where that is unknown."""
        return cls(value) if half is None else cls(value, value - half, value + half)

    @classmethod
    def around_ratio(cls, value: float, half: float | None) -> "Estimate":
        """Make an estimate from a ratio and half the width of the interval of its logarithm.

        An interval so wide that its upper bound is no number has none.
        """
        if half is None:
            return cls(value)
        return cls(value, value * exp(-half), value * exp(half) if half < WIDEST else None)

    def over(self, other: "Estimate") -> "Estimate":
        """Divide by an independent estimate; both values are positive.

        Relative half-widths add as squares, and the interval is even on the logarithmic scale, on which a
        quotient is a difference (Guide to the Expression of Uncertainty in Measurement, JCGM 100:2008,
        5.1.6). Of times with normal errors of 1 to 10 % it holds the truth in 95 to 96 %, of 20 % in 97 %.
        The bounds are None where one of the two has no interval.
        """
        half = None
        if self.half_width is not None and other.half_width is not None:
            half = hypot(self.half_width / self.value, other.half_width / other.value)
        return Estimate.around_ratio(self.value / other.value, half)

    def plus(self, other: "Estimate") -> "Estimate":
        """Add an independent estimate; half-widths add as squares."""
        half = None
        if self.half_width is not None and other.half_width is not None:
            half = hypot(self.half_width, other.half_width)
        return Estimate.around(self.value + other.value, half)

    def scaled(self, factor: float) -> "Estimate":
        """Multiply by a positive factor that is known exactly."""
        low, high = (None if bound is None else bound * factor for bound in (self.low, self.high))
        return Estimate(self.value * factor, low, high)

    def inverse(self) -> "Estimate":
        """Divide one by a positive estimate; a lower bound of zero leaves the upper one open."""
        low, high = (1 / bound if bound else None for bound in (self.high, self.low))
        return Estimate(1 / self.value, low, high)

    def exceeds(self, limit: float) -> bool | None:
        """Return whether the interval lies above a limit (True) or below it (False); None if neither."""
        if self.low is not None and self.low > limit:
            return True
        return False if self.high is not None and self.high < limit else None


def midmean(values: Laps) -> float:
    """Return the mean of the middle half of the values (Tukey, Exploratory Data Analysis, 1977)."""
    ordered = np.sort(values, axis=None)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


@dataclass(frozen=True)
class Spread:
    """The standard error of a mean, and the degrees of freedom with which it is known."""

    error: float
    freedom: float

    @property
    def half_width(self) -> float:
        """Return half the width of the 95 % interval of the mean."""
        return self.half_width_of(COVERAGE)

    def half_width_of(self, coverage: float) -> float:
        """Return half the width of the interval of the mean that holds it with a probability."""
        return float(stdtrit(self.freedom, (1 + coverage) / 2)) * self.error

    def scaled(self, factor: float) -> "Spread":
        """Return the spread of a multiple."""
        return Spread(self.error * factor, self.freedom)

    def joined(self, other: "Spread") -> "Spread":
        """Return the spread of the difference of two independent means (Welch, Biometrika 34, 1947)."""
        error = hypot(self.error, other.error)
        if error == 0:
            return Spread(0.0, self.freedom + other.freedom)
        parts = self.error**4 / self.freedom + other.error**4 / other.freedom
        return Spread(error, error**4 / parts)


OF_RATIOS = 0.55
"""How much ratios of smallest times deviate between runs, relative to how much they do between launches.

The times themselves deviate as much: runs have more laps than launches, but a machine may be slow for a run.
"""

FEWEST = 2
"""Launches, or pairs, below which there is no spread."""

LENT_FREEDOM = 6.0
"""The degrees of freedom that others measured at the same time lend at most to each: it has few launches."""


def moderated(deviations: Sequence[Spread | None]) -> list[Spread | None]:
    """Return standard deviations, with their degrees of freedom, each drawn towards that of all.

    The squares are weighted by their degrees of freedom, where all lend LENT_FREEDOM to each (Smyth,
    Statistical Applications in Genetics and Molecular Biology 3(1), 2004). Unknown ones stay unknown.
    """
    known = [one for one in deviations if one is not None]
    every = sum(one.freedom for one in known)
    common = sum(one.freedom * one.error**2 for one in known) / max(every, 1.0)

    def drawn(own: Spread) -> Spread:
        lent = min(LENT_FREEDOM, every - own.freedom)
        square = (own.freedom * own.error**2 + lent * common) / (own.freedom + lent)
        return Spread(sqrt(square), own.freedom + lent)

    return [None if one is None else drawn(one) for one in deviations]


@dataclass(frozen=True)
class Lows:
    """The fastest that a run and its launches got through something, in nanoseconds.

    `launches_ns` are by launch, at least one.
    """

    run_ns: float
    launches_ns: Mapping[int, float]

    @classmethod
    def of(cls, laps: Mapping[int, Sequence[Laps]]) -> "Lows":
        """Return those of the blocks of each launch, of shape [iterations, laps]: sums of the smallest laps.

        Short laps fit between the disturbances of a machine where whole iterations do not.
        """
        smallest = {
            launch: np.min([block.min(axis=0) for block in blocks], axis=0) for launch, blocks in laps.items()
        }
        of_run = np.min(list(smallest.values()), axis=0)
        return cls(float(of_run.sum()), {launch: float(low.sum()) for launch, low in smallest.items()})

    @classmethod
    def averaged(cls, laps: Mapping[int, Sequence[Laps]]) -> "Lows":
        """Return those of blocks that hold means: the midmean of the run's, the mean of each launch's."""
        means = {launch: np.array([block.sum() for block in blocks]) for launch, blocks in laps.items()}
        return cls(
            midmean(np.concatenate(list(means.values()))), {n: float(of.mean()) for n, of in means.items()}
        )


def launch_spread(logs: Laps, share: float = 1.0, *, averaged: bool = False) -> Spread | None:
    """Return the spread of a run's logarithm from those of its launches; None of a single one.

    It is a share of their standard deviation (OF_RATIOS for ratios); where the run is the mean of its
    launches (`averaged`), their standard error.
    """
    if len(logs) < FEWEST:
        return None
    factor = 1 / sqrt(len(logs)) if averaged else share
    return Spread(factor * float(np.std(logs, ddof=1)), float(len(logs) - 1))


def block_time(launches: Launches) -> Estimate:
    """Estimate the undisturbed time from the blocks of every launch: the midmean of their smallest laps."""
    smallest = np.array([block.min() for blocks in launches for block in blocks])
    return _estimate(launches, midmean(smallest), np.min)


def median_time(launches: Launches) -> Estimate:
    """Estimate the median lap, noise included: the mean of the medians of the launches."""
    medians = [float(np.median(np.concatenate(list(blocks)))) for blocks in launches]
    return _estimate(launches, float(np.mean(medians)), np.median)


def _estimate(launches: Launches, value: float, of_block: Callable[[Laps], float]) -> Estimate:
    half = half_width(_grid(launches, of_block))
    return Estimate(value) if half is None else Estimate(value, max(value - half, 0.0), value + half)


def _grid(launches: Launches, of_block: Callable[[Laps], float]) -> Laps:
    """Return a value of each block, of shape [launches, cycles], cut to the launch of the fewest blocks."""
    cycles = min(len(blocks) for blocks in launches)
    return np.array([[of_block(block) for block in blocks[:cycles]] for blocks in launches])


def half_width(grid: Laps) -> float | None:
    """Return half the width of the interval of the mean of a grid, see `spread_of`; None where unknown."""
    spread = spread_of(grid)
    return None if spread is None else spread.half_width


def spread_of(grid: Laps) -> Spread | None:
    """Return the standard error of the mean of a grid of shape [launches, cycles].

    Processes differ from each other, and the speed of a machine wanders over seconds; both are random
    effects, and the launches are crossed with the cycles in which each of them ran one round. The variance of
    the mean is (MS_launch + MS_cycle - MS_rest) / (launches · cycles), at least what either effect gives
    alone (Searle, Casella and McCulloch, Variance Components, 1992, two-way crossed model without
    replication), its degrees of freedom are Satterthwaite's (Biometrics Bulletin 2, 1946). None where a
    single value leaves no spread.
    """
    mean_squares = _mean_squares(grid)
    if not mean_squares:
        return None
    rest = mean_squares.pop("rest", (0.0, 0))[0]
    effects = list(mean_squares.values())
    total = sum(square for square, _ in effects)
    if total == 0:
        return Spread(0.0, float(sum(degrees for _, degrees in effects)))
    variance = max(total - rest, *(square for square, _ in effects)) if len(effects) > 1 else total
    freedom = max(variance**2 / sum(square**2 / degrees for square, degrees in effects), 1.0)
    return Spread(sqrt(variance / grid.size), freedom)


def _mean_squares(grid: Laps) -> dict[str, tuple[float, int]]:
    """Return the mean square and the degrees of freedom of launches, cycles and the rest."""
    launches, cycles = grid.shape
    of_launch = grid.mean(axis=1, keepdims=True) - grid.mean()
    of_cycle = grid.mean(axis=0, keepdims=True) - grid.mean()
    rest = grid - grid.mean() - of_launch - of_cycle
    squares = {
        "launch": (cycles * float((of_launch**2).sum()), launches - 1),
        "cycle": (launches * float((of_cycle**2).sum()), cycles - 1),
        "rest": (float((rest**2).sum()), (launches - 1) * (cycles - 1)),
    }
    return {name: (square / degrees, degrees) for name, (square, degrees) in squares.items() if degrees}


def paired(compare: Callable[[float, float], float], a: Sequence[Laps], b: Sequence[Laps]) -> float:
    """Compare the smallest values of neighbouring blocks, and return the median over rounds."""
    return float(np.median([compare(x.min(), y.min()) for x, y in zip(a, b, strict=True)]))
