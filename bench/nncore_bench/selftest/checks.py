"""The checks of a self-test: measured values against known ones. Pure functions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isfinite, log

import numpy as np
from scipy.stats import binom, binomtest

from nncore_bench.cases import BLOCK_LAPS, STEP_PHASES, UNATTRIBUTED, BlockKind
from nncore_bench.estimate.estimates import (
    COVERAGE,
    Estimate,
    Laps,
    Launches,
    block_time,
    half_width,
    spread_of,
)
from nncore_bench.runs import NANO, Block
from nncore_bench.text.format import count

WAIT_WITHIN = 0.02, 1e-6
PLANTED_WITHIN = 0.05, 3e-6
PARTS_WITHIN = 0.03, 5e-6
OBSERVER_WITHIN = 0.02, 5e-6
"""Limits as a share and in seconds: the larger of the two applies."""

SEEN = 0.05
"""An error of the clock or of the laps, as a share, that no noise may hide from a check that passes."""

CERTAINTY = 0.999
COARSEST_RESOLUTION_S = 1e-6
COSTLIEST_READING_S = 1e-6
CLOCKS_AGREE_WITHIN = 0.001
SPANS_WITHIN = 0.05
MICRO = 1e-6
NOISE_ALLOWED = 3.0
"""How many times the difference of two halves of a launch noise may explain."""

Steps = Sequence[Sequence[Block]]
"""The blocks of each case."""

BOUNDS = "{count} of {of} ({low_percent:.1f} to {high_percent:.1f} %)"


@dataclass(frozen=True)
class Check:
    """One line of the self-test: the name of a check, whether it passed, and its figures with their limit.

    `passed` is None where the machine was too loud to tell. `words` is a template for `str.format_map` with
    the figures, or the whole sentence if there are none.
    """

    name: str
    passed: bool | None
    words: str
    figures: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def figure(self) -> str:
        """Return the sentence with its figures, `+1.2 %` for `+1.2%`."""
        words = self.words.format_map(self.figures) if self.figures else self.words
        return re.sub(r"(?<=\d)%", " %", words)

    @property
    def record(self) -> dict[str, object]:
        """Return the check as a flat record; a figure that is not finite is None."""
        finite = {
            name: None if value is None or not isfinite(value) else value
            for name, value in self.figures.items()
        }
        return {"check": self.name, "passed": self.passed, "figure": self.figure, **finite}


def known_time(
    expected_s: float, read: Mapping[str, float], rounding_s: Mapping[str, float] | None = None
) -> Check:
    """Check a busy-wait of known length, in seconds, as read from each place (table, JSON, CSV).

    A place whose figures are rounded may be off by that as well.
    """
    allowed_s = max(WAIT_WITHIN[0] * expected_s, WAIT_WITHIN[1])
    figures: dict[str, float | None] = {"limit_us": allowed_s / MICRO}
    for place, value in read.items():
        figures |= {f"{place}_us": value / MICRO, f"{place}_error": (value - expected_s) / expected_s}
    words = ", ".join(f"{place} {{{place}_us:,.6g}} µs ({{{place}_error:+.2%}})" for place in read)
    rounded = rounding_s or {}
    passed = all(
        abs(value - expected_s) <= allowed_s + rounded.get(place, 0.0) for place, value in read.items()
    )
    return Check(f"known time of {expected_s / MICRO:,.0f} µs", passed, words, figures)


def planted_delay(phase: str, planted_s: float, blocks: Sequence[Block]) -> Check:
    """Check that a delay in every third iteration lands in its phase and no other, in every launch.

    Its size is right within 5 % or 3 µs, and any other phase has no more than that. The machine was too loud
    to tell where the laps of that phase without a delay differ enough, in any launch, to explain what is off.
    """
    name = f"delay planted in {phase}"
    found = np.array([[_excess(one, lap) for lap in STEP_PHASES] for one in _launches(blocks)])
    if not found.size:
        return Check(name, passed=False, words="no block was finished")
    delays, noise = found[..., 0], NOISE_ALLOWED * found[..., 1].max(axis=0)
    here, limit_s = STEP_PHASES.index(phase), max(PLANTED_WITHIN[0] * planted_s, PLANTED_WITHIN[1])
    off = abs(delays - planted_s * (np.arange(len(STEP_PHASES)) == here))
    there, elsewhere = delays[:, here], np.delete(delays, here, axis=1)
    seconds = {
        "planted": planted_s,
        "found": np.median(there),
        "least": there.min(),
        "most": there.max(),
        "elsewhere": abs(np.median(elsewhere, axis=0)).max(),
        "most_elsewhere": abs(elsewhere).max(),
        "limit": limit_s,
    }
    return Check(
        name,
        True if (off <= limit_s).all() else False if (off > limit_s + noise).any() else None,
        "{found_us:.1f} of {planted_us:.0f} µs there ({least_us:.1f} to {most_us:.1f} in {launches}"
        " launches), at most {elsewhere_us:.1f} µs elsewhere ({most_elsewhere_us:.1f} in one launch)",
        {"launches": len(there), **{f"{key}_us": float(value) / MICRO for key, value in seconds.items()}},
    )


def _launches(blocks: Sequence[Block]) -> list[list[Block]]:
    launches = sorted({block.launch for block in blocks})
    return [[block for block in blocks if block.launch == launch] for launch in launches]


def _excess(blocks: Sequence[Block], phase: str) -> tuple[float, float]:
    """Return by how many seconds a launch's smallest delayed lap exceeds the smallest of as many before them.

    Also by how many those of one half of them differ at most from those of the other half, which is noise:
    of blocks in turn, of the first and the last, and of laps in turn.
    In most iterations, but not in all, waiting changes what the processor does next (its caches, its clocks)
    by more than the instrument is tested for; the smallest laps are free of it.
    """
    delayed, before = [], []
    for block in blocks:
        laps = block.host[:, block.laps.index(phase)]
        delayed.append(laps[4::3])  # of 1, 4, 7, … without the first, which follows the leading iteration
        before.append(laps[3 : 3 + 3 * len(delayed[-1]) : 3])
    laps, middle = np.concatenate(before), len(before) // 2
    halves = [(before[::2], before[1::2]), (before[:middle], before[middle:]), ([laps[::2]], [laps[1::2]])]
    lows = [[np.concatenate(half).min() for half in pair] for pair in halves if all(pair)]
    excess = np.concatenate(delayed).min() - laps.min()
    return float(excess) * NANO, float(max(abs(a - b) for a, b in lows)) * NANO


def bounds(count: int, of: int) -> str:
    """Return a count with the one-sided 95 % bounds of its share (Clopper and Pearson)."""
    return BOUNDS.format_map(_bounds(count, of))


def _bounds(count: int, of: int) -> dict[str, float | None]:
    if not of:
        return {}
    found = binomtest(count, of).proportion_ci(2 * COVERAGE - 1, method="exact")
    return {"count": count, "of": of, "low_percent": 100 * found.low, "high_percent": 100 * found.high}


def at_most(name: str, what: str, count: int, of: int, share: float) -> Check:
    """Check that something that happens with at most a share did not happen more often (99.9 % bound)."""
    passed = of > 0 and count <= binom.ppf(CERTAINTY, of, share)
    words = f"{BOUNDS if of else 'none'} {what}, meant at most {{limit:.1%}}"
    return Check(name, bool(passed), words, {**_bounds(count, of), "limit": share})


def at_least(name: str, what: str, count: int, of: int, share: float) -> Check:
    """Check that something that happens with at least a share did not happen less often (99.9 % bound)."""
    check = at_most(name, what, of - count, of, 1 - share)
    words = f"{BOUNDS if of else 'none'} {what}, meant at least {{limit:.0%}}"
    return replace(check, words=words, figures={**_bounds(count, of), "limit": share})


def launches_of(blocks: Sequence[Block], kind: BlockKind, laps: Sequence[str] = ("step",)) -> Launches:
    """Return the sums of some laps of each counted iteration: launch → block → sums."""
    chosen = sorted((block for block in blocks if block.kind == kind), key=lambda block: block.round)
    return [
        [np.sum([block.column(lap) for lap in laps], axis=0) for block in of_one]
        for of_one in _launches(chosen)
    ]


def difference(a: Launches, b: Launches) -> Estimate:
    """Return the log-ratio of two measurements of one run, block by block of the same launch and round."""
    differences = _differences(a, b)
    return Estimate.around(float(differences.mean()), half_width(differences))


def _differences(a: Launches, b: Launches) -> Laps:
    """Return the log-ratio of the smallest laps of each block, of shape [launches, cycles]."""
    cycles = min(len(blocks) for blocks in (*a, *b))
    grids = [
        np.array([[log(block.min()) for block in blocks[:cycles]] for blocks in launches])
        for launches in (a, b)
    ]
    differences: Laps = grids[0] - grids[1]
    return differences


def parts_and_whole(steps: Steps) -> Check:
    """Check, case by case, that the laps of a step add up to the step of the neighbouring plain blocks."""
    check = _sums("parts and whole", "the laps miss the step", steps, STEP_PHASES, PARTS_WITHIN)
    lapped = [[block.column(UNATTRIBUTED) for block in one if block.kind == "laps"] for one in steps]
    left = [float(np.median(np.concatenate(laps))) * NANO / MICRO for laps in lapped if laps]
    if not check.figures:
        return check
    words = f"{check.words}, unattributed {{unattributed_low_us:.1f}} to {{unattributed_high_us:.1f}} µs"
    unattributed = {"unattributed_low_us": min(left), "unattributed_high_us": max(left)}
    return replace(check, words=words, figures={**check.figures, **unattributed})


def observer(steps: Steps) -> Check:
    """Check, case by case, that a step takes as long with clock reads between its phases as without."""
    return _sums("observer", "clock reads change it", steps, BLOCK_LAPS["laps"], OBSERVER_WITHIN)


def _sums(name: str, words: str, steps: Steps, laps: Sequence[str], limits: tuple[float, float]) -> Check:
    """Check that the sum of some laps is the plain step, with limits as a share and in seconds.

    It fails if a case (99.9 % over all cases) or their mean (99.9 %) is surely beyond both limits. It passes
    if the mean is within them, and known so well that an error of SEEN would be found; otherwise the machine
    was too loud to tell. Both are compared in each turn of one process; what is left differs between
    processes no more than between turns (of 240 cases the F ratio of the two is 0.7 to 1.0 in the median,
    under four loads), so that turns are taken as independent.
    """
    both = [(launches_of(one, "plain"), launches_of(one, "laps", laps)) for one in steps]
    known = [(plain, lapped) for plain, lapped in both if plain and lapped]
    if not known:
        return Check(name, passed=False, words="no step was measured both ways")
    grids = [_differences(lapped, plain) for plain, lapped in known]
    times_s = np.array([block_time(plain).value * NANO for plain, _ in known])
    off = np.array([grid.mean() for grid in grids])
    share, seconds = limits
    allowed = np.maximum(share, seconds / times_s)
    uncertain = np.array([_half_width_over_turns(grid, 1 - (1 - CERTAINTY) / len(grids)) for grid in grids])
    beyond = int((abs(off) - uncertain > allowed).sum())
    cycles = min(grid.shape[1] for grid in grids)
    mean = np.mean([grid[:, :cycles] for grid in grids], axis=0)
    middle, limit = float(mean.mean()), float(np.median(allowed))
    half = _half_width_over_turns(mean, COVERAGE)
    failed = beyond > 0 or abs(middle) - _half_width_over_turns(mean, CERTAINTY) > limit
    passed = abs(middle) <= limit and half <= max(SEEN, 2 * limit) - limit
    return Check(
        name,
        False if failed else True if passed else None,
        f"{words} by {{mean:+.1%}} ± {{half_width:.1%}} over {{cases}} cases ({{low:+.1%}} to {{high:+.1%}}),"
        " {beyond} surely beyond {limit:.0%} and {limit_us:.0f} µs",
        {
            "mean": middle,
            "half_width": half,
            "low": float(off.min()),
            "high": float(off.max()),
            "cases": len(known),
            "beyond": beyond,
            "limit": share,
            "limit_us": seconds / MICRO,
        },
    )


def _half_width_over_turns(grid: Laps, coverage: float) -> float:
    spread = spread_of(grid.reshape(1, -1))
    return spread.half_width_of(coverage) if spread else inf


def identical_twins(twins: Sequence[Estimate]) -> Check:
    """Check twins by the binomial bound on how many intervals miss zero if each does with 5 %."""
    if not twins:
        return Check("identical twins", passed=False, words="no pair was measured")
    missed = sum(twin.high is None or twin.exceeds(0) is not None for twin in twins)
    allowed = int(binom.ppf(CERTAINTY, len(twins), 1 - COVERAGE))
    sizes = [abs(twin.value) for twin in twins]
    widths = [twin.half_width for twin in twins if twin.half_width is not None]
    width = "{half_width:.1%}" if widths else "n/a"
    return Check(
        "identical twins",
        missed <= allowed,
        f"differ by {{median:.1%}} in the median, {{most:.1%}} at most; intervals (± {width}) miss zero in"
        " {missed} of {pairs}, {limit} allowed",
        {
            "median": float(np.median(sizes)),
            "most": max(sizes),
            "half_width": float(np.median(widths)) if widths else None,
            "missed": missed,
            "pairs": len(twins),
            "limit": allowed,
        },
    )


def same_every_time(name: str, repeats: Sequence[object], wanted: int) -> Check:
    """Check that all repeats were counted, and that all counts are the same."""
    same = sum(repeat == repeats[0] for repeat in repeats)
    figures = {"same": same, "limit": wanted}
    return Check(name, wanted > 1 and same == wanted, "the same in {same} of {limit} repeats", figures)


def closed_form(name: str, counted: Mapping[str, float | None], expected: Mapping[str, float]) -> Check:
    """Check counts against the numbers calculated from the sizes."""
    figures: dict[str, float | None] = {}
    for size, value in expected.items():
        figures |= {f"{size} counted": counted.get(size), f"{size} expected": value}
    words = ", ".join(
        f"{size}: {count(counted.get(size))} of {count(value)}" for size, value in expected.items()
    )
    passed = bool(expected) and all(counted.get(size) == value for size, value in expected.items())
    return Check(name, passed, words, figures)


def clock(between_ns: Laps, spans_ns: Sequence[tuple[int, int, int]]) -> Check:
    """Check a clock: it never goes back, moves on, is fine and cheap enough, and agrees with another one.

    `between_ns` are the nanoseconds between consecutive readings; each of `spans_ns` has its length by this
    clock, and the least and the most that it has by the other. Clocks of constant rates differ by what lies
    within the bounds of every span: the machine was too loud to tell where the limit lies within them, too.
    """
    own, least, most = np.array(spans_ns, dtype=float).T
    elapsed_ns = float(min(own))
    if (between_ns < 0).any():
        return Check("clock", False, "went backwards by {back_ns:,} ns", {"back_ns": -int(between_ns.min())})  # noqa: FBT003 - it failed
    if elapsed_ns <= 0 or not (between_ns > 0).any():
        return Check("clock", False, "stood still for {still_ms:,.0f} ms", {"still_ms": least.min() / 1e6})  # noqa: FBT003 - it failed
    resolution, cost = float(between_ns[between_ns > 0].min()), float(between_ns.mean())
    low, high = float((own / most).max()) - 1, float((own / least).min()) - 1
    drift = (low + high) / 2
    fine = resolution * NANO <= COARSEST_RESOLUTION_S and cost * NANO <= COSTLIEST_READING_S
    apart = low > CLOCKS_AGREE_WITHIN or high < -CLOCKS_AGREE_WITHIN
    agree = low >= -CLOCKS_AGREE_WITHIN and high <= CLOCKS_AGREE_WITHIN
    return Check(
        "clock",
        False if apart or not fine else True if agree else None,
        "resolution at most {resolution_ns:.0f} ns, a reading costs {reading_ns:.0f} ns, never back in"
        " {readings:,} readings, {drift:+.3%} against a second clock",
        {
            "resolution_ns": resolution,
            "resolution_limit_ns": COARSEST_RESOLUTION_S / NANO,
            "reading_ns": cost,
            "reading_limit_ns": COSTLIEST_READING_S / NANO,
            "readings": len(between_ns),
            "drift": drift,
            "drift_low": low,
            "drift_high": high,
            "drift_limit": CLOCKS_AGREE_WITHIN,
        },
    )


def synchronised(spans_ns: int, wall_ns: int) -> Check:
    """Check that the spans of a block on a device make up its wall time.

    A clock that did not wait for the device would show less wall time than the device worked.
    """
    share = spans_ns / wall_ns if wall_ns > 0 else float("inf")
    return Check(
        "clock on CUDA",
        abs(share - 1) <= SPANS_WITHIN,
        "spans on the device are {share:.1%} of the wall time",
        {"share": share, "limit": SPANS_WITHIN},
    )
