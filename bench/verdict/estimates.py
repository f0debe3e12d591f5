"""Estimates: a number with its interval, from laps that are neither independent nor undisturbed.

Pure functions: arrays in, values out. Why these estimators and not others: README, "How we know".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

Laps: TypeAlias = npt.NDArray[np.number[Any]]

COVERAGE = 0.95
BETWEEN_LAUNCHES = "between launches"
WITHIN_ONE_PROCESS = "within one process"


@dataclass(frozen=True)
class Estimate:
    """Hold a value with its interval, all in the unit of the laps it came from.

    `basis` says what the interval is made of; one made within one process does not cover what another
    process would have measured.
    """

    value: float
    low: float
    high: float
    basis: str


def low_estimate(blocks: Sequence[Laps]) -> float:
    """Return the undisturbed time of one launch: the smallest lap of its blocks."""
    return float(min(block.min() for block in blocks))


def undisturbed(launches: Sequence[Sequence[Laps]]) -> Estimate:
    """Estimate the undisturbed time from the blocks of every launch (launch → block → laps).

    The value is the mean of the launches' low estimates, and the interval Student's t over them. With one
    launch the blocks take the place of the launches, and `basis` says so.
    """
    basis = BETWEEN_LAUNCHES if len(launches) > 1 else WITHIN_ONE_PROCESS
    groups = launches if len(launches) > 1 else [[block] for block in launches[0]]
    lows = np.array([low_estimate(blocks) for blocks in groups])
    half = half_width(lows)
    value = float(lows.mean()) if basis == BETWEEN_LAUNCHES else float(lows.min())
    return Estimate(value, max(value - half, 0.0), value + half, basis)


def half_width(values: Laps) -> float:
    """Return half the width of Student's t interval of a mean; infinite for a single value."""
    if len(values) < 2:  # noqa: PLR2004 - a spread needs two values
        return float("inf")
    quantile = float(stdtrit(len(values) - 1, (1 + COVERAGE) / 2))
    return quantile * float(values.std(ddof=1)) / sqrt(len(values))


def paired_ratio(numerators: Sequence[Laps], denominators: Sequence[Laps]) -> float:
    """Return the median over rounds of the ratio of two blocks' medians that were measured side by side."""
    pairs = zip(numerators, denominators, strict=True)
    return float(np.median([np.median(a) / np.median(b) for a, b in pairs]))


def paired_difference(minuends: Sequence[Laps], subtrahends: Sequence[Laps]) -> float:
    """Return the median over rounds of the difference of two blocks' medians measured side by side."""
    pairs = zip(minuends, subtrahends, strict=True)
    return float(np.median([np.median(a) - np.median(b) for a, b in pairs]))
