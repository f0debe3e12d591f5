"""Whether steps take what they take elsewhere, add up, and stay below their ceilings."""

from collections.abc import Iterator, Mapping

from claims import Claim, Finding, Told, listed
from day import Day, Measured

from nncore_bench.cases import SIMPLENN, Case
from nncore_bench.companions import SMALLEST_NETWORK
from nncore_bench.estimate.rows import Row

MICRO = 1e-6
LEAST_PROBED, MOST_PROBED = 0.85, 1.15
LEAST_PHASES, MOST_PHASES = 0.97, 1.03
MOST_OF_CEILING = 1.05


def steps_on_device(run: Measured) -> dict[Case, Row]:
    """Return the rows of whole steps on the device that were timed."""
    rows = (row for row in run.source.rows if row.phase == "step" and row.case.device == "cuda")
    return {row.case: row for row in rows if row.time_s}


def is_plain(case: Case) -> bool:
    """Tell whether a case is the step as the tutorial has it."""
    return (case.subject, case.precision, case.variant) == (SIMPLENN, "float32", "eager")


def checks_of_steps(run: Measured, day: Day) -> Iterator[Finding | Told]:
    """Check the steps of a run against the probe's, and its parts against the whole."""
    steps = steps_on_device(run)
    yield from _probed(steps, day)
    sums = {case.key: row.phases_over_step for case, row in steps.items() if row.phases_over_step}
    if sums:
        off = [f"{k}: {r:.3f}" for k, r in sums.items() if not LEAST_PHASES <= r <= MOST_PHASES]
        yield listed(Claim.PHASES, off, f"{min(sums.values()):.3f} to {max(sums.values()):.3f} of it")
    yield from _ceilings(run)
    yield from _told(run, steps)


def _probed(steps: Mapping[Case, Row], day: Day) -> Iterator[Finding]:
    ratios = {}
    for case, row in steps.items():
        size = f"b{case.batch_size}-h{case.hidden}-eager"
        probed_us = day.reading("steps", size, "median") if is_plain(case) else None
        if probed_us and row.time_s:
            ratios[case.key] = row.time_s / MICRO / probed_us
    if ratios:
        good = all(LEAST_PROBED <= ratio <= MOST_PROBED for ratio in ratios.values())
        said = ", ".join(f"{key}: {ratio:.2f} times" for key, ratio in ratios.items())
        yield Finding(Claim.PROBED_STEP, good, said)


def _ceilings(run: Measured) -> Iterator[Finding]:
    shares = {
        f"{row.case.key} {row.phase} {what}": share
        for row in run.source.rows
        for what, share in (("FLOP", row.flop_share), ("bytes", row.bytes_share))
        if row.case.device == "cuda" and share is not None
    }
    if shares:
        above = [f"{name}: {share:.2f}" for name, share in shares.items() if share > MOST_OF_CEILING]
        yield listed(Claim.CEILINGS, above, f"{max(shares.values()):.2f} of it at most")


def _told(run: Measured, steps: Mapping[Case, Row]) -> Iterator[Told]:
    """Yield how long each step is, against the smallest network's, and the ceilings."""
    roles = {record.case: record.role for record in run.source.run.companions}
    floors = {
        row.case.precision: row.time_s
        for row in run.source.beside
        if row.phase == "step" and row.case.device == "cuda" and roles.get(row.case) == SMALLEST_NETWORK
    }
    for case, row in steps.items():
        floor_s = floors.get(case.precision)
        times = "" if not floor_s else f", {(row.time_s or 0.0) / floor_s:.2f} times the smallest network"
        spread = "" if not row.time_high_s or not row.time_s else f" ± {row.time_high_s / row.time_s - 1:.1%}"
        figure = (
            f"{(row.time_s or 0.0) / MICRO:.0f} µs{spread}{times}, host {(row.host_s or 0.0) / MICRO:.0f} µs"
        )
        yield Told(case.key, f"{figure}, limit {row.limit}, bound {row.bound}")
    for row in run.source.beside:
        if row.case.device == "cuda" and row.phase in ("gemm", "copy_cached", "copy_cold") and row.time_s:
            yield Told(f"{row.case.precision} {row.phase}", f"{row.time_s / MICRO:.1f} µs")
