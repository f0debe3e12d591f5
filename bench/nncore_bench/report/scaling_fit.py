"""Scaling: what a step costs by itself, and what each sample adds to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from nncore_bench.estimate.estimates import COVERAGE, Estimate

LEAST_SIZES = 3
"""Two points always lie on a line, and say nothing of how well it fits."""

PLATEAU = 0.9
REACH = 10
"""A line is believed up to this many times the largest batch measured, and no farther."""

ALIKE = 1.25
"""Times are alike if the longest is at most this many times the shortest: those of a bent curve are not."""


@dataclass(frozen=True)
class Scaling:
    """The line time = fixed + per_sample · batch, in seconds.

    `plateau_batch` is the batch size that reaches 90 % of the samples per second of an endless batch, None
    where no batch size does, a cost per sample of zero is not ruled out, or it lies beyond the line's reach;
    an upper end of None lies there. `largest_batch` is the largest measured, in samples, and `flat` says that
    no cost per sample was found and all times are alike. `r_squared` is the weighted share of variance that
    the line explains; `worst_miss` by what share of its time the farthest batch size is off the line.
    """

    fixed: Estimate
    per_sample: Estimate
    plateau_batch: Estimate | None
    largest_batch: float
    flat: bool
    r_squared: float
    worst_miss: float

    def time_s(self, batch_size: float) -> float:
        """Return the time of a batch size on the line, in seconds."""
        return self.fixed.value + self.per_sample.value * batch_size


def scaling_of(batch_sizes: Sequence[float], times: Sequence[float]) -> Scaling | None:
    """Fit step times, in seconds, over batch sizes; None where fewer than three sizes differ.

    Least squares of relative distances: a percent counts as much at batch 1 as at batch 1024, as errors of
    times do. Intervals are Student's t with two degrees of freedom fewer than there are sizes, from the
    distances to the line, so that bends of the curve widen them (numpy.polyfit, weights 1/time).
    """
    if len(set(batch_sizes)) < LEAST_SIZES:
        return None
    sizes, seconds = np.asarray(batch_sizes, float), np.asarray(times, float)
    line, covariance = np.polyfit(sizes, seconds, 1, w=1 / seconds, cov=True)
    slope, fixed = line.tolist()
    spread = float(stdtrit(len(sizes) - 2, (1 + COVERAGE) / 2))
    per_sample = Estimate.around(slope, spread * sqrt(covariance[0, 0]))
    misses = (fixed + slope * sizes) / seconds - 1
    mean = np.average(seconds, weights=seconds**-2)
    variance = float(((1 - mean / seconds) ** 2).sum())
    return Scaling(
        fixed=Estimate.around(fixed, spread * sqrt(covariance[1, 1])),
        per_sample=per_sample,
        plateau_batch=_plateau(fixed, slope, spread**2 * covariance, REACH * float(sizes.max())),
        largest_batch=float(sizes.max()),
        flat=not per_sample.exceeds(0) and bool(seconds.max() <= ALIKE * seconds.min()),
        r_squared=1 - float((misses**2).sum()) / variance if variance else nan,
        worst_miss=float(np.abs(misses).max()),
    )


def _plateau(fixed: float, slope: float, wide: npt.NDArray[np.float64], reach: float) -> Estimate | None:
    """Return 9 · fixed / slope with its interval (Fieller, J. R. Stat. Soc. B 16, 1954).

    `wide` is the covariance of slope and fixed times the squared quantile. None where a cost per sample of
    zero is not ruled out, or the quotient lies beyond `reach`; an upper end beyond it is None.
    """
    times = PLATEAU / (1 - PLATEAU)
    square, product, rest = slope**2 - wide[0, 0], fixed * slope - wide[0, 1], fixed**2 - wide[1, 1]
    if fixed <= 0 or slope <= 0 or square <= 0 or times * fixed / slope > reach:
        return None
    half = sqrt(max(product**2 - square * rest, 0.0))
    low, high = (float(times * max(end, 0.0) / square) for end in (product - half, product + half))
    return Estimate(float(times * fixed / slope), low, high if high <= reach else None)
