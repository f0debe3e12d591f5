"""The gate's decisions: what log-ratios of launch pairs prove, in two stages. Pure functions, values out.

The first stage can only pass a column or leave it open; the second judges those left open on fresh pairs
alone, so that having been picked by chance is no evidence. "Slower" is one claim over all columns, with one
false-alarm rate; "same" is a claim per column, proven by its interval and not by a large p.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, log1p, sqrt
from typing import Literal, TypeAlias

import numpy as np
from scipy.special import stdtrit

from nncore_bench.gate.columns import Column
from nncore_bench.gate.rule import Kind, Rule
from nncore_bench.gate.signflip import Floats, sign_flips

Verdict: TypeAlias = Literal["slower", "faster", "same", "undecided"]
Stage: TypeAlias = Literal[1, 2]

TAIL_CHANGED = "tail changed"
"""How the reason begins where the block mean tells what the undisturbed time does not."""

DETECTION = 0.9
"""The share of changes of the smallest detectable size that are detected."""

KINDS = 2
"""Each column is tested by its low estimates and by its block means."""

PLANNED = 0.99
"""The share of gates that the second stage is planned to decide by low estimates, column by column."""

LARGEST_LOG = 700.0
"""Beyond it a ratio is infinite: its exponential leaves the range of floating-point numbers."""


@dataclass(frozen=True)
class Decision:
    """Hold the verdict on one column, and what it rests on.

    `ratio` is how many times as long the candidate takes by its low estimates, `low` and `high` the two-sided
    interval of it, `mean_ratio` and `mean_ratio_high` the ratio of block means and the upper bound of it. `p`
    and `mean_p` are the adjusted p of "slower", by low estimates and by block means, None in stage 1, which
    cannot say that. `detectable` is the smallest change, as a share, that
    the second stage detects (see `smallest_detectable`). `reason` says in words why.
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
    stage: Stage
    reason: str


@dataclass(frozen=True)
class Interval:
    """Hold the mean of some log-ratios, the two-sided interval of it, and their standard deviation."""

    centre: float
    low: float
    high: float
    deviation: float


def interval(log_ratios: Floats, alpha: float) -> Interval:
    """Return Student's interval of the mean: mean ± t(1 - alpha/2, B - 1) · s / √B of B log-ratios."""
    pairs = len(log_ratios)
    centre, deviation = float(log_ratios.mean()), float(log_ratios.std(ddof=1))
    half = _quantile(1 - alpha / 2, pairs) * deviation / sqrt(pairs)
    return Interval(centre, centre - half, centre + half, deviation)


def _quantile(share: float, pairs: int) -> float:
    return float(stdtrit(pairs - 1, share))


def smallest_detectable(  # noqa: PLR0913 - what a change must stand out from
    deviation: float, pairs: int, columns: int, margin: float, alpha: float, *, detection: float = DETECTION
) -> float:
    """Return the smallest change, as a share, that stage 2 calls slower in a share of gates, nine in ten.

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


def pairs_needed(columns: Sequence["Column"], rule: Rule, most: int) -> int:
    """Return how many pairs the second stage needs to decide on columns with the spread seen in the first.

    That is, to detect a slowdown by the margin, and to prove "same" of what is the same: in all but one gate
    in a hundred by low estimates, and in nine of ten by block means, whose spread a single pair can make. At
    least `rule.second_pairs`, and at most `most`. What was surely beyond its margin is not to be proven the
    same, however many pairs there are.
    """

    def decides(pairs: int, column: "Column") -> bool:
        low, mean = (float(kind.std(ddof=1)) for kind in (column.low, column.mean))
        bound = _quantile(1 - rule.alpha_pass / 2, pairs)
        low_reach, mean_reach = (
            (bound + _quantile(share, pairs)) / sqrt(pairs) for share in (PLANNED, DETECTION)
        )
        low_margin, mean_margin = log1p(column.margin), log1p(rule.mean_margin)
        beyond = (
            interval(column.low, rule.alpha_pass).low > low_margin
            or interval(column.mean, rule.alpha_pass).low > mean_margin
        )
        proves_same = beyond or (low_reach * low <= low_margin and mean_reach * mean <= mean_margin)
        detects = smallest_detectable(
            low, pairs, KINDS * len(columns), column.margin, rule.alpha, detection=PLANNED
        )
        return proves_same and detects <= column.margin

    for pairs in range(rule.second_pairs, most):
        if all(decides(pairs, column) for column in columns):
            return pairs
    return max(most, rule.second_pairs)


def _as_ratio(log_ratio: float) -> float:
    return exp(log_ratio) if log_ratio < LARGEST_LOG else inf


@dataclass(frozen=True)
class _Seen:
    """Hold what a column showed: both intervals against their margins, and p where there was a test."""

    low: Interval
    mean: Interval
    margin: float
    mean_margin: float
    p: float | None
    mean_p: float | None

    def slower(self, alpha: float) -> bool:
        """Say whether it is proven slower, and by half its margin at least."""
        return _proven(self.p, alpha) and _looks_slower(self.low, self.margin)

    def slower_in_the_mean(self, alpha: float) -> bool:
        """Say the same of the block means."""
        return _proven(self.mean_p, alpha) and _looks_slower(self.mean, self.mean_margin)

    @property
    def low_passes(self) -> bool:
        return _within(self.low, self.margin) and not _looks_slower(self.low, self.margin)

    @property
    def mean_passes(self) -> bool:
        return _within(self.mean, self.mean_margin) and not _looks_slower(self.mean, self.mean_margin)

    @property
    def surely_faster(self) -> bool:
        return self.low.high < 0 and self.low.centre <= -log1p(self.margin / 2)


def _proven(p: float | None, alpha: float) -> bool:
    return p is not None and p <= alpha


def _within(seen: Interval, margin: float) -> bool:
    return seen.high < log1p(margin)


def _looks_slower(seen: Interval, margin: float) -> bool:
    return seen.centre >= log1p(margin / 2)


def screen(columns: Sequence[Column], rule: Rule) -> dict[str, Decision]:
    """Judge the first stage's pairs: a column is same or faster, or left open as undecided; by name.

    Nothing is slower here, however slow it looks. What is detectable is what the second stage would detect of
    it with the spread seen here, were no column to pass.
    """
    _check_together(columns)
    return {
        column.name: _decision(column, (None, None), rule, columns=len(columns), pairs=rule.second_pairs)
        for column in columns
    }


def confirm(columns: Sequence[Column], rule: Rule, random: np.random.Generator) -> dict[str, Decision]:
    """Judge the second stage's pairs, all of them fresh; by name.

    Slower: adjusted p at most alpha and the mean log-ratio at least log(1 + margin/2), by low estimates or by
    block means, which are tested together. Same: the upper bounds of both below log(1 + margin), and their
    means below log(1 + margin/2), so that what is known well and looks slower by half its margin is put to
    the test and never passed. Block means are there for tails, and have a margin of their own. Faster: the
    same, the upper bound of low estimates below 0, and their mean log-ratio at most -log(1 + margin/2).
    Raises ValueError where columns differ in their pairs.
    """
    _check_together(columns)
    if not columns:
        return {}
    kinds = [column.low for column in columns] + [column.mean for column in columns]
    adjusted = sign_flips(np.stack(kinds), random).adjusted.tolist()
    return {
        column.name: _decision(column, (p, mean_p), rule, columns=len(columns), pairs=len(column.low))
        for column, p, mean_p in zip(columns, adjusted[: len(columns)], adjusted[len(columns) :], strict=True)
    }


def _check_together(columns: Sequence[Column]) -> None:
    twice = [name for name, count in Counter(column.name for column in columns).items() if count > 1]
    if twice:
        raise ValueError(f"columns: {', '.join(twice)} named more than once (give each a name of its own)")
    counts = sorted({len(column.low) for column in columns})
    if len(counts) > 1:
        raise ValueError(
            f"columns of {' and '.join(map(str, counts))} pairs (a pair void in one is left out of all)"
        )


def _decision(
    column: Column, p: tuple[float | None, float | None], rule: Rule, *, columns: int, pairs: int
) -> Decision:
    """Return the verdict on one of so many columns; `pairs` are those the second stage has or will have.

    `p` are those of low estimates and of block means.
    """
    low, mean = interval(column.low, rule.alpha_pass), interval(column.mean, rule.alpha_pass)
    verdict, reason = _verdict(_Seen(low, mean, column.margin, rule.mean_margin, *p), rule)
    return Decision(
        name=column.name,
        kind=column.kind,
        verdict=verdict,
        ratio=_as_ratio(low.centre),
        low=_as_ratio(low.low),
        high=_as_ratio(low.high),
        mean_ratio=_as_ratio(mean.centre),
        mean_ratio_high=_as_ratio(mean.high),
        p=p[0],
        mean_p=p[1],
        detectable=smallest_detectable(low.deviation, pairs, KINDS * columns, column.margin, rule.alpha),
        pairs=len(column.low),
        stage=1 if p[0] is None else 2,
        reason=reason,
    )


def _verdict(seen: _Seen, rule: Rule) -> tuple[Verdict, str]:
    """Return the verdict and its reason; slower comes first, lest a margin hide a proven slowdown."""
    if seen.slower(rule.alpha):
        return "slower", f"{_change(seen.low.centre)}, {_half(seen.margin)}, with p {seen.p:.4f}"
    if seen.slower_in_the_mean(rule.alpha):
        in_the_mean = f"block means {_change(seen.mean.centre)}, {_half(seen.mean_margin)}"
        return "slower", f"{TAIL_CHANGED}: {in_the_mean}, with p {seen.mean_p:.4f}"
    if not (seen.low_passes and seen.mean_passes):
        return "undecided", _left_open(seen)
    if seen.surely_faster:
        return "faster", f"{_change(seen.low.centre)}, at most {_change(seen.low.high)}"
    margins = f"a margin of {100 * seen.margin:.1f} %"
    if seen.mean_margin != seen.margin:
        margins += f" ({100 * seen.mean_margin:.1f} %)"
    bounds = f"at most {_change(seen.low.high)}, block means {_change(seen.mean.high)}"
    return "same", f"{bounds}, with {margins}"


def _half(margin: float) -> str:
    return f"at least half the margin of {100 * margin:.1f} %"


def _left_open(seen: _Seen) -> str:
    """Return why neither verdict is proven."""
    if seen.low_passes:
        return f"{TAIL_CHANGED}: block means {_doubt(seen.mean, seen.mean_margin)}, low estimates pass"
    doubt = _doubt(seen.low, seen.margin)
    if seen.p is None:
        return doubt
    return f"{doubt}; {_change(seen.low.centre)} on average, with p {seen.p:.4f}"


def _doubt(seen: Interval, margin: float) -> str:
    """Return why something is not proven the same."""
    if _within(seen, margin):
        return f"look {_change(seen.centre)}, {_half(margin)}"
    return f"may be {_change(seen.high)}, above the margin of {100 * margin:.1f} %"


def _change(log_ratio: float) -> str:
    return f"{100 * (_as_ratio(log_ratio) - 1):+.1f} %"
