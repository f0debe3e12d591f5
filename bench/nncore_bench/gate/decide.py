"""The gate's decisions on log-ratios of launch pairs, in two stages. Pure functions.

The first stage can only pass a column or leave it open; the second judges the open ones on fresh pairs alone,
so that being picked by chance is no evidence. "Slower" is one claim over all columns, with one false-alarm
rate; "same" is a claim per column, proven by its interval and not by a large p.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import exp, inf, log1p, sqrt
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import stdtrit

from nncore_bench.estimate.estimates import Estimate
from nncore_bench.gate.columns import Column
from nncore_bench.gate.rule import Kind, Rule
from nncore_bench.gate.signflip import Floats, sign_flips


class Verdict(StrEnum):
    """The verdict on a column; that of a whole gate is the first of these which any column has."""

    SLOWER = "slower"
    UNDECIDED = "undecided"
    FASTER = "faster"
    SAME = "same"


class Ground(StrEnum):
    """The kind of reason for a verdict; a tail shows in block means alone."""

    SLOWER = "slower"
    TAIL_SLOWER = "slower in the tail"
    LOOKS_SLOWER = "looks slower"
    MAY_BE_SLOWER = "may be slower"
    TAIL_LOOKS_SLOWER = "looks slower in the tail"
    TAIL_MAY_BE_SLOWER = "may be slower in the tail"
    FASTER = "faster"
    SAME = "same"
    INTERRUPTED = "interrupted"


DETECTION = 0.9
"""The smallest detectable change is one that is detected in this share of gates."""

KINDS = 2
"""Each column is tested by its low estimates and by its block means."""

PLANNED = 0.99
"""Plan the second stage so that low estimates decide a column in this share of gates."""

LARGEST_LOG = 700.0
"""A logarithm above this counts as infinite: its exponential would overflow."""


@dataclass(frozen=True)
class Decision:
    """The verdict on one column, and its evidence.

    `ratio` is the candidate's time over that of the base by low estimates, `low` and `high` its two-sided
    interval; `mean_ratio` and `mean_ratio_high` are the ratio of block means and its upper bound,
    `mean_margin` their margin. `p` and `mean_p` are the adjusted p of "slower", by low estimates and by block
    means, None in stage 1, which has no such verdict; `faster_p` is that of "faster". `detectable` is the
    smallest change, as a share, that the second stage detects (see `smallest_detectable`).
    """

    name: str
    kind: Kind
    verdict: Verdict
    ratio: float
    low: float
    high: float
    mean_ratio: float
    mean_ratio_high: float
    p: float | None
    mean_p: float | None
    detectable: float
    pairs: int
    stage: Literal[1, 2]
    ground: Ground
    mean_margin: float
    faster_p: float | None = None


def interval(log_ratios: Floats, alpha: float) -> Estimate:
    """Return Student's interval of the mean: mean ± t(1 - alpha/2, B - 1) · s / √B of B log-ratios."""
    pairs = len(log_ratios)
    half = _quantile(1 - alpha / 2, pairs) * _deviation(log_ratios) / sqrt(pairs)
    return Estimate.around(float(log_ratios.mean()), half)


def _deviation(log_ratios: Floats) -> float:
    return float(log_ratios.std(ddof=1))


def _quantile(share: float, pairs: int) -> float:
    return float(stdtrit(pairs - 1, share))


def smallest_detectable(  # noqa: PLR0913 - what a change must stand out from
    deviation: float, pairs: int, columns: int, margin: float, alpha: float, *, detection: float = DETECTION
) -> float:
    """Return the smallest change, as a share, that stage 2 calls slower in nine of ten gates (`detection`).

    With e = s / √B of B pairs and m columns, it is the larger of what the test needs, (t(1 - alpha/m) +
    t(0.9)) · e, and what the margin needs, log(1 + margin/2) + t(0.9) · e, on the logarithmic scale; t has
    B - 1 degrees of freedom. Student's test with Bonferroni's bound stands in for the sign-flip test, and s
    for what it estimates. Simulated with 16 pairs and independent columns, 85 to 91 % of such changes are
    found among up to 36 columns, and 82 % among 100.
    """
    error = deviation / sqrt(pairs)
    found = _quantile(detection, pairs) * error
    by_chance = _quantile(1 - alpha / columns, pairs) * error
    return _as_ratio(max(by_chance, log1p(margin / 2)) + found) - 1


def pairs_needed(columns: Sequence[Column], rule: Rule, most: int) -> int:
    """Return the number of pairs that the second stage needs for columns with the spread of the first.

    That many detect a slowdown by the margin, and prove equal columns the same: in all but one gate in a
    hundred by low estimates, and in nine of ten by block means, whose spread a single pair can cause. It is
    at least `rule.second_pairs`, and at most `most`. A column surely beyond its margin need not be proven the
    same.
    """

    def decides(pairs: int, column: Column) -> bool:
        low, mean = _deviation(column.low), _deviation(column.mean)
        bound = _quantile(1 - rule.alpha_pass / 2, pairs)
        low_reach, mean_reach = (
            (bound + _quantile(share, pairs)) / sqrt(pairs) for share in (PLANNED, DETECTION)
        )
        low_margin, mean_margin = log1p(column.margin), log1p(column.mean_margin)
        shown = ((column.low, low_margin), (column.mean, mean_margin))
        beyond = any(interval(ratios, rule.alpha_pass).exceeds(margin) for ratios, margin in shown)
        proves_same = beyond or (low_reach * low <= low_margin and mean_reach * mean <= mean_margin)
        detects = smallest_detectable(
            low, pairs, KINDS * len(columns), column.margin, rule.alpha, detection=PLANNED
        )
        return proves_same and detects <= column.margin

    for pairs in range(rule.second_pairs, most):
        if all(decides(pairs, column) for column in columns):
            return pairs
    return max(most, rule.second_pairs)


def _as_ratio(log_ratio: float | None) -> float:
    return exp(log_ratio) if log_ratio is not None and log_ratio < LARGEST_LOG else inf


@dataclass(frozen=True)
class _Shown:
    """A column by one kind of time: its mean log-ratio, its margin, and its p where it was tested."""

    ratio: Estimate
    margin: float
    p: float | None
    faster_p: float | None = None

    def slower(self, alpha: float) -> bool:
        """Tell whether it is proven slower, and by half its margin at least."""
        return self.p is not None and self.p <= alpha and self.looks_slower

    @property
    def looks_slower(self) -> bool:
        return self.ratio.value >= log1p(self.margin / 2)

    @property
    def within(self) -> bool:
        return self.ratio.exceeds(log1p(self.margin)) is False

    @property
    def passes(self) -> bool:
        return self.within and not self.looks_slower

    def faster(self, alpha: float) -> bool:
        """Tell whether it is proven faster, and by half its margin at least."""
        tested = self.faster_p is not None and self.faster_p <= alpha
        return tested and self.ratio.value <= -log1p(self.margin / 2)


def screen(columns: Sequence[Column], rule: Rule) -> dict[str, Decision]:
    """Judge the first stage's pairs: a column is same or faster, or left open as undecided; by name.

    No column is slower here, however slow it looks; one is faster by the test of `confirm`. `detectable` is
    what the second stage would detect with the spread seen here, were no column to pass.
    """
    # Any sign vectors make the test exact; with its usual 8 pairs it tries all of them.
    faster = _adjusted([-column.low for column in columns], np.random.default_rng(0))
    size = {"columns": len(columns), "pairs": rule.second_pairs}
    return {
        column.name: _decision(column, _Adjusted(None, None, p), rule, **size)
        for column, p in zip(columns, faster, strict=True)
    }


def confirm(columns: Sequence[Column], rule: Rule, random: np.random.Generator) -> dict[str, Decision]:
    """Judge the second stage's pairs, all of them fresh; by name.

    Slower: adjusted p at most alpha and the mean log-ratio at least log(1 + margin/2), by low estimates or by
    block means, which are tested together. Same: the upper bounds of both below log(1 + margin), and their
    means below log(1 + margin/2), so that a column known well that looks slower by half its margin is put
    to the test and never passed. Block means are there for tails, and have a margin of their own. Faster: the
    same, with the adjusted p of "faster" by low estimates at most alpha, and their mean log-ratio at most
    -log(1 + margin/2). Raises ValueError if columns differ in their number of pairs.
    """
    faster = _adjusted([-column.low for column in columns], random.spawn(1)[0])
    slower = _adjusted([*(column.low for column in columns), *(column.mean for column in columns)], random)
    of_low, of_mean = slower[: len(columns)], slower[len(columns) :]
    return {
        column.name: _decision(column, _Adjusted(*p), rule, columns=len(columns), pairs=len(column.low))
        for column, *p in zip(columns, of_low, of_mean, faster, strict=True)
    }


def _adjusted(log_ratios: Sequence[Floats], random: np.random.Generator) -> list[float]:
    return sign_flips(np.stack(log_ratios), random).adjusted.tolist() if log_ratios else []


class _Adjusted(NamedTuple):
    """The adjusted p of a column: of "slower" by low estimates and by block means, and of "faster"."""

    low: float | None
    mean: float | None
    faster: float


def _decision(column: Column, p: _Adjusted, rule: Rule, *, columns: int, pairs: int) -> Decision:
    """Return the verdict on one of some columns; `pairs` are those the second stage has or will have."""
    low, mean = interval(column.low, rule.alpha_pass), interval(column.mean, rule.alpha_pass)
    shown = _Shown(low, column.margin, p.low, p.faster), _Shown(mean, column.mean_margin, p.mean)
    verdict, ground = _verdict(*shown, rule.alpha)
    deviation = _deviation(column.low)
    return Decision(
        name=column.name,
        kind=column.kind,
        verdict=verdict,
        ratio=_as_ratio(low.value),
        low=_as_ratio(low.low),
        high=_as_ratio(low.high),
        mean_ratio=_as_ratio(mean.value),
        mean_ratio_high=_as_ratio(mean.high),
        p=p.low,
        mean_p=p.mean,
        detectable=smallest_detectable(deviation, pairs, KINDS * columns, column.margin, rule.alpha),
        pairs=len(column.low),
        stage=1 if p.low is None else 2,
        ground=ground,
        mean_margin=column.mean_margin,
        faster_p=p.faster,
    )


def _verdict(low: _Shown, mean: _Shown, alpha: float) -> tuple[Verdict, Ground]:
    """Return the verdict and its ground; slower comes first, so that no margin hides a proven slowdown."""
    if low.slower(alpha):
        return Verdict.SLOWER, Ground.SLOWER
    if mean.slower(alpha):
        return Verdict.SLOWER, Ground.TAIL_SLOWER
    if not low.passes:
        return Verdict.UNDECIDED, Ground.LOOKS_SLOWER if low.within else Ground.MAY_BE_SLOWER
    if not mean.passes:
        return Verdict.UNDECIDED, Ground.TAIL_LOOKS_SLOWER if mean.within else Ground.TAIL_MAY_BE_SLOWER
    return (Verdict.FASTER, Ground.FASTER) if low.faster(alpha) else (Verdict.SAME, Ground.SAME)
