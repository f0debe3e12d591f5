"""Sign flips: which of many columns became slower, with one false-alarm rate over them all.

In every launch pair a fair coin decided which side came first, in which folder it sat and how it was set up.
If the two do not differ, the log-ratio of a pair might just as well have had the other sign, in all columns
of the pair at once: flipping whole pairs shows the results of chance alone. No shape of the noise is assumed,
and columns may depend on each other in any way, since a pair is never split.
"""

from dataclasses import dataclass
from math import sqrt
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

MOST_ENUMERATED = 12
"""Try every sign vector up to this number of pairs, 4,096 of them."""

DRAWS = 10_000
"""The number of sign vectors tried for more pairs, the identity among them."""

FEWEST_PAIRS = 2

TIE = 1e-9
"""Statistics nearer than this are equal: a sum in another order differs by rounding alone."""


@dataclass(frozen=True, eq=False)
class SignFlips:
    """The result of the test: two arrays of shape [columns].

    `statistics` are T(1), the t statistic of the mean log-ratio with the signs as measured; `adjusted` are
    the one-sided p of "slower", adjusted for all columns.
    """

    statistics: Floats
    adjusted: Floats


def smallest_p(pairs: int) -> float:
    """Return the smallest p that a number of pairs can give."""
    return 2.0**-pairs if pairs <= MOST_ENUMERATED else 1 / DRAWS


def sign_flips(log_ratios: Floats, random: np.random.Generator) -> SignFlips:
    """Test every column for "slower" by the step-down maxT test with sign flips.

    `log_ratios` has shape [columns, pairs], with two pairs or more and finite values, as a Column checks.
    With y the log-ratios of column j and B pairs, the statistic under the signs s is
    T_j(s) = mean(s·y) / sqrt((mean(y²) - mean(s·y)²) / (B - 1)). Columns are taken in falling order of
    T_j(1); the p of each is the share of sign vectors under which the largest statistic of this and all later
    columns reaches its own, and at least the p of the one before (Westfall and Young, Resampling-Based
    Multiple Testing, 1993, step-down maxT). With drawn sign vectors it stays exact, because the identity is
    one of them (Hemerik and Goeman, TEST 27, 2018). A tie counts as reached.

    A column whose log-ratios are all the same number has no variance: T is infinite with the sign of the
    number, and p is the share of sign vectors that make any column constant as well, 2^-B for a single
    column above zero. A column of zeros has T = 0 and p = 1: every sign vector reaches it.
    """
    pairs = log_ratios.shape[1]
    observed, flipped = _cosines(log_ratios, _sign_vectors(pairs, random))
    order = np.argsort(-observed, kind="stable")
    largest_from = np.maximum.accumulate(flipped[order][::-1], axis=0)[::-1]
    shares = (largest_from >= observed[order, np.newaxis] - TIE).mean(axis=1)
    adjusted = np.empty_like(observed)
    adjusted[order] = np.maximum.accumulate(shares)
    return SignFlips(_statistics(observed, pairs), adjusted)


def _sign_vectors(pairs: int, random: np.random.Generator) -> Floats:
    """Return the sign vectors, of shape [vectors, pairs], the identity first."""
    if pairs <= MOST_ENUMERATED:
        minus = np.arange(2**pairs)[:, np.newaxis] >> np.arange(pairs) & 1
    else:
        minus = random.integers(0, 2, size=(DRAWS, pairs), dtype=np.int8)
        minus[0] = 0
    return np.where(minus, -1.0, 1.0)


def _cosines(log_ratios: Floats, signs: Floats) -> tuple[Floats, Floats]:
    """Return mean(s·y) / sqrt(mean(y²)) of every column as measured and under every sign vector.

    The shapes are [columns] and [columns, vectors].

    It lies between -1 and 1, and T = cosine · sqrt(B - 1) / sqrt(1 - cosine²) grows with it in all columns
    alike. So it orders them as T does, needs no division by a variance that may be zero, and one matrix
    product makes it, since signs do not change a mean of squares.
    """
    lengths = np.linalg.norm(log_ratios, axis=1, keepdims=True)
    directions = log_ratios / np.where(lengths > 0, lengths, 1.0)
    flipped = directions @ signs.T / sqrt(log_ratios.shape[1])
    return flipped[:, 0], flipped


def _statistics(cosines: Floats, pairs: int) -> Floats:
    rest = 1 - cosines**2
    statistics: Floats = np.copysign(np.inf, cosines)
    finite = rest > TIE
    statistics[finite] = cosines[finite] * sqrt(pairs - 1) / np.sqrt(rest[finite])
    return statistics
