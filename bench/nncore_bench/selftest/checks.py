"""The checks of a self-test: what was measured against what was known beforehand. Pure functions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from scipy.stats import binom, binomtest

from nncore_bench.cases import BLOCK_LAPS, STEP_PHASES, UNATTRIBUTED, BlockKind
from nncore_bench.estimate.estimates import (
    COVERAGE,
    Estimate,
    Laps,
    Launches,
    half_width,
    low_estimate,
    low_time,
)
from nncore_bench.runs import NANO, Block

WAIT_WITHIN, WAIT_WITHIN_S = 0.02, 1e-6
PLANTED_WITHIN, PLANTED_WITHIN_S = 0.05, 3e-6
PARTS_WITHIN, PARTS_WITHIN_S = 0.03, 5e-6
OBSERVER_WITHIN, OBSERVER_WITHIN_S = 0.02, 5e-6
CERTAINTY = 0.999
COARSEST_RESOLUTION_S = 1e-6
COSTLIEST_READING_S = 1e-6
CLOCKS_AGREE_WITHIN = 0.001
SPANS_WITHIN = 0.05
MICRO = 1e-6


@dataclass(frozen=True)
class Check:
    """Hold one line of the self-test: what was checked, whether it held, and the figure."""

    name: str
    passed: bool
    figure: str


def known_time(expected_s: float, told: Mapping[str, float]) -> Check:
    """Check a busy-wait of known length, in seconds, wherever it is told (table, JSON, CSV)."""
    allowed = max(WAIT_WITHIN * expected_s, WAIT_WITHIN_S)
    errors = {place: value - expected_s for place, value in told.items()}
    said = ", ".join(
        f"{place} {told[place] / MICRO:,.6g} µs ({error / expected_s:+.2%})"
        for place, error in errors.items()
    )
    passed = bool(errors) and all(abs(error) <= allowed for error in errors.values())
    return Check(f"known time of {expected_s / MICRO:,.0f} µs", passed, said or "no time was told")


def planted_delay(phase: str, planted_s: float, blocks: Sequence[Block]) -> Check:
    """Check that a delay in every third iteration lands in its phase and no other, in every launch.

    Its size is within 5 % or 3 µs, and no more than that is found in any other phase.
    """
    name = f"delay planted in {phase}"
    by_launch = [_delays(of_launch) for of_launch in _launches(blocks)]
    if not by_launch:
        return Check(name, passed=False, figure="no block was finished")
    planted = {other: planted_s * (other == phase) for other in STEP_PHASES}
    size = max(PLANTED_WITHIN * planted_s, PLANTED_WITHIN_S)
    middle = {other: float(np.median([delays[other] for delays in by_launch])) for other in STEP_PHASES}
    there = [delays[phase] / MICRO for delays in by_launch]
    elsewhere = {other: max(abs(d[other]) for d in by_launch) for other in STEP_PHASES if other != phase}
    return Check(
        name,
        all(_is_found(delays, planted, size) for delays in by_launch),
        f"{middle[phase] / MICRO:.1f} of {planted_s / MICRO:.0f} µs there ({min(there):.1f} to"
        f" {max(there):.1f} in {len(there)} launches), at most"
        f" {max(abs(middle[other]) for other in elsewhere) / MICRO:.1f} µs elsewhere"
        f" ({max(elsewhere.values()) / MICRO:.1f} in one launch)",
    )


def _is_found(delays: Mapping[str, float], planted: Mapping[str, float], within_s: float) -> bool:
    return all(abs(delays[phase] - planted[phase]) <= within_s for phase in planted)


def _launches(blocks: Iterable[Block]) -> list[list[Block]]:
    blocks = list(blocks)
    return [[b for b in blocks if b.launch == launch] for launch in sorted({b.launch for b in blocks})]


def _delays(blocks: Sequence[Block]) -> dict[str, float]:
    """Return by how much delayed iterations exceed those before them, both undisturbed, in seconds.

    By the smallest lap of a launch: waiting changes what the processor does next (its caches, its clocks), by
    more than the instrument is tested for, in most iterations but not in all.
    """
    return {phase: _excess(blocks, phase) * NANO for phase in STEP_PHASES}


def _excess(blocks: Sequence[Block], phase: str) -> float:
    """Return the smallest delayed lap less the smallest of as many that were not delayed."""
    delayed, before = [], []
    for block in blocks:
        laps = block.host[:, block.laps.index(phase)]
        delayed.append(laps[4::3])  # of 1, 4, 7, … without the first, which follows the leading iteration
        before.append(laps[3 : 3 + 3 * len(delayed[-1]) : 3])
    return float(np.concatenate(delayed).min() - np.concatenate(before).min())


def bounds(count: int, of: int) -> str:
    """Return a count with the one-sided 95 % bounds of its share (Clopper and Pearson)."""
    found = binomtest(count, of).proportion_ci(2 * COVERAGE - 1, method="exact")
    return f"{count} of {of} ({100 * found.low:.1f} to {100 * found.high:.1f} %)"


def at_most(name: str, what: str, count: int, of: int, share: float) -> Check:
    """Check that something that happens with at most a share did not happen more often (99.9 % bound)."""
    passed = of > 0 and count <= binom.ppf(CERTAINTY, of, share)
    return Check(
        name, bool(passed), f"{bounds(count, of) if of else 'none'} {what}, meant at most {share:.1%}"
    )


def at_least(name: str, what: str, count: int, of: int, share: float) -> Check:
    """Check that something that happens with at least a share did not happen less often (99.9 % bound)."""
    passed = of > 0 and count >= binom.ppf(1 - CERTAINTY, of, share)
    return Check(
        name, bool(passed), f"{bounds(count, of) if of else 'none'} {what}, meant at least {share:.0%}"
    )


def launches_of(blocks: Sequence[Block], kind: BlockKind, laps: Sequence[str]) -> Launches:
    """Return the sums of some laps of each counted iteration: launch → block → sums."""
    chosen = sorted((block for block in blocks if block.kind == kind), key=lambda block: block.round)
    return [[_sum_of(block, laps) for block in launch] for launch in _launches(chosen)]


def _sum_of(block: Block, laps: Sequence[str]) -> Laps:
    total: Laps = np.sum([block.column(lap) for lap in laps], axis=0)
    return total


def difference(a: Launches, b: Launches) -> Estimate:
    """Return the log-ratio of two measurements of one run, block by block of the same launch and round."""
    cycles = min(len(blocks) for blocks in (*a, *b))
    grids = [
        np.array([[log(low_estimate(block)) for block in blocks[:cycles]] for blocks in launches])
        for launches in (a, b)
    ]
    differences = grids[0] - grids[1]
    return Estimate.around(float(differences.mean()), half_width(differences))


def parts_and_whole(steps: Sequence[Sequence[Block]]) -> Check:
    """Check, case by case, that the laps of a step add up to the step of the plain blocks beside them."""
    found = [_against_plain(blocks, STEP_PHASES) for blocks in steps]
    left = [value / MICRO for blocks in steps for value in [_unattributed(blocks)] if value is not None]
    said = f", unattributed {min(left):.1f} to {max(left):.1f} µs" if left else ""
    return _sums("parts and whole", "the laps miss the step", found, (PARTS_WITHIN, PARTS_WITHIN_S), said)


def observer(steps: Sequence[Sequence[Block]]) -> Check:
    """Check, case by case, that a step takes as long with clock reads between its phases as without."""
    found = [_against_plain(blocks, BLOCK_LAPS["laps"]) for blocks in steps]
    return _sums("observer", "clock reads change it", found, (OBSERVER_WITHIN, OBSERVER_WITHIN_S))


@dataclass(frozen=True)
class Sum:
    """Hold how far the laps of a case are from its plain step of `step_s` seconds, as a log-ratio."""

    step_s: float
    off: Estimate

    def beyond(self, limits: tuple[float, float]) -> bool:
        """Tell whether the interval lies outside a share of the step and outside some seconds."""
        surely = abs(self.off.value) - (self.off.half_width or 0.0)
        return surely > max(limits[0], limits[1] / self.step_s)


def _against_plain(blocks: Sequence[Block], laps: Sequence[str]) -> Sum | None:
    plain, lapped = launches_of(blocks, "plain", ("step",)), launches_of(blocks, "laps", laps)
    if not plain or not lapped:
        return None
    return Sum(low_time(plain).value * NANO, difference(lapped, plain))


def _unattributed(blocks: Sequence[Block]) -> float | None:
    laps = [block.column(UNATTRIBUTED) for block in blocks if block.kind == "laps"]
    return float(np.median(np.concatenate(laps))) * NANO if laps else None


def _sums(
    name: str, words: str, found: Sequence[Sum | None], limits: tuple[float, float], said: str = ""
) -> Check:
    """Check that no case is surely beyond the limits, and that the median case is not beyond them at all."""
    known = [one for one in found if one is not None]
    if not known:
        return Check(name, passed=False, figure="no step was measured both ways")
    values = [one.off.value for one in known]
    middle = float(np.median(values))
    off = sum(one.beyond(limits) for one in known)
    usual = float(np.median([one.step_s for one in known]))
    good = off == 0 and abs(middle) <= max(limits[0], limits[1] / usual)
    figure = (
        f"{words} by {middle:+.1%} in the median case ({min(values):+.1%} to {max(values):+.1%}),"
        f" {len(known)} cases, {off} surely beyond {limits[0]:.0%} and {limits[1] / MICRO:.0f} µs{said}"
    )
    return Check(name, good, figure)


def identical_twins(twins: Sequence[Estimate]) -> Check:
    """Check twins by the binomial bound: how many intervals may miss zero where each does in 5 %."""
    missed = sum(twin.high is None or twin.exceeds(0) is not None for twin in twins)
    allowed = int(binom.ppf(CERTAINTY, len(twins), 1 - COVERAGE)) if twins else 0
    if not twins:
        return Check("identical twins", passed=False, figure="no pair was measured")
    sizes = [abs(twin.value) for twin in twins]
    widths = [twin.half_width for twin in twins if twin.half_width is not None]
    width = f"{float(np.median(widths)):.1%}" if widths else "n/a"
    return Check(
        "identical twins",
        missed <= allowed,
        f"differ by {float(np.median(sizes)):.1%} in the median, {max(sizes):.1%} at most; intervals"
        f" (± {width}) miss zero in {missed} of {len(twins)}, {allowed} allowed",
    )


def same_every_time(name: str, repeats: Sequence[object], wanted: int) -> Check:
    """Check that a count came out the same in every one of the repeats that were wanted."""
    same = sum(repeat == repeats[0] for repeat in repeats)
    return Check(name, wanted > 1 and same == wanted, f"the same in {same} of {wanted} repeats")


def closed_form(name: str, counted: Mapping[str, float | None], expected: Mapping[str, float]) -> Check:
    """Check counts against the numbers that follow from the sizes."""
    wrong = [size for size, value in expected.items() if counted.get(size) != value]
    said = ", ".join(
        f"{size}: {_whole(counted.get(size))} of {value:,.0f}" for size, value in expected.items()
    )
    return Check(name, bool(expected) and not wrong, said)


def _whole(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.0f}"


def clock(between_ns: Laps, spans_ns: Sequence[int], reference_ns: int) -> Check:
    """Check a clock: it never goes back, moves on, is fine and cheap enough, and agrees with another one.

    `between_ns` are the nanoseconds between readings taken one right after another; `spans_ns` is what the
    clock showed for spans of `reference_ns` by the other clock, of which the smallest counts, since whatever
    comes between the two clocks makes a span too long.
    """
    elapsed_ns = float(min(spans_ns))
    if (between_ns < 0).any():
        return Check("clock", passed=False, figure=f"went backwards by {-int(between_ns.min()):,} ns")
    if elapsed_ns <= 0 or not (between_ns > 0).any():
        return Check("clock", passed=False, figure=f"stood still for {reference_ns / 1e6:,.0f} ms")
    resolution, cost = float(between_ns[between_ns > 0].min()), float(between_ns.mean())
    drift = elapsed_ns / reference_ns - 1
    good = (
        resolution * NANO <= COARSEST_RESOLUTION_S
        and cost * NANO <= COSTLIEST_READING_S
        and abs(drift) <= CLOCKS_AGREE_WITHIN
    )
    return Check(
        "clock",
        good,
        f"resolution at most {resolution:.0f} ns, a reading costs {cost:.0f} ns, never back in"
        f" {len(between_ns):,} readings, {drift:+.3%} against a second clock",
    )


def synchronised(spans_ns: int, wall_ns: int) -> Check:
    """Check that the spans of a block on a device make up its wall time.

    A clock that did not wait for the device would show less wall time than the device worked.
    """
    share = spans_ns / wall_ns if wall_ns > 0 else float("inf")
    return Check(
        "clock on CUDA",
        abs(share - 1) <= SPANS_WITHIN,
        f"spans on the device are {share:.1%} of the wall time",
    )
