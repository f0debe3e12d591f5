"""How far repeated estimates are apart, and how often their intervals hold: arrays in, numbers out."""

from dataclasses import dataclass
from itertools import combinations, pairwise
from math import nan, sqrt
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from nncore_bench.estimate.estimates import COVERAGE, Spread

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Coverage:
    """Count how many of some pairs of estimates have an interval of their difference that holds zero."""

    held: int
    pairs: int

    @property
    def share(self) -> float:
        """Return the share of the pairs that hold."""
        return self.held / self.pairs if self.pairs else nan

    def __add__(self, other: "Coverage") -> "Coverage":
        return Coverage(self.held + other.held, self.pairs + other.pairs)


def coefficient_of_variation(values: Floats) -> Floats:
    """Return the standard deviation over the mean of each column of [runs, cases]; nan values are unknown."""
    known = (~np.isnan(values)).sum(axis=0)
    result = np.full(values.shape[1], nan)
    enough = known > 1
    columns = values[:, enough]
    result[enough] = np.nanstd(columns, axis=0, ddof=1) / np.nanmean(columns, axis=0)
    return result


def coverage(
    values: Floats, halves: Floats, freedoms: Floats | None = None, *, neighbours: bool = False
) -> Coverage:
    """Count the pairs of runs, or of neighbours only, whose difference is no larger than its half-width.

    All arrays are [runs, cases]. The half-width of a difference is Welch's where both degrees of freedom are
    known, and else the root of the sum of the two squares, which is wider. A pair of which a part is unknown
    does not count.
    """
    runs = range(len(values))
    pairs = pairwise(runs) if neighbours else combinations(runs, 2)
    freedoms = np.full_like(values, nan) if freedoms is None else freedoms
    return sum((_of_pair(values[[i, j]], halves[[i, j]], freedoms[[i, j]]) for i, j in pairs), Coverage(0, 0))


def _of_pair(values: Floats, halves: Floats, freedoms: Floats) -> Coverage:
    difference = np.abs(values[0] - values[1])
    half = np.array([_joined(h, f) for h, f in zip(halves.T, freedoms.T, strict=True)])
    known = ~np.isnan(difference + half)
    return Coverage(int((difference[known] <= half[known]).sum()), int(known.sum()))


def _joined(halves: Floats, freedoms: Floats) -> float:
    if np.isnan(freedoms).any():
        return float(np.hypot(*halves))
    errors = halves / stdtrit(freedoms, (1 + COVERAGE) / 2)
    a, b = (Spread(float(error), float(freedom)) for error, freedom in zip(errors, freedoms, strict=True))
    return a.joined(b).half_width


def binomial_band(pairs: int, share: float = COVERAGE) -> tuple[float, float]:
    """Return roughly where 95 of 100 shares of so many independent pairs lie."""
    half = 1.96 * sqrt(share * (1 - share) / pairs)
    return share - half, min(share + half, 1.0)
