"""The rows of a run: times, counters, and the limits that follow from both."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from nncore_bench.estimate.ceilings import Ceilings, ceilings_of, with_counters
from nncore_bench.estimate.drift import references_of, with_reference
from nncore_bench.estimate.estimates import FEWEST, OF_RATIOS, Estimate, Spread, launch_spread, moderated
from nncore_bench.estimate.profiles import bound_of, busy_share, device_seconds
from nncore_bench.estimate.rows import Row, timed_rows
from nncore_bench.records import CaseProfile
from nncore_bench.runs import Block, Run, by_case

ENOUGH_LAUNCHES = 4
"""From so many on a case's interval comes from its own launches alone."""


def rows_of(run: Run, blocks: Iterable[Block]) -> list[Row]:
    """Return the rows of a run, in the order of its cases and phases."""
    of_case, first = by_case(blocks), len(run.cases)
    ceilings = ceilings_of(run.companions, timed_rows(run.companions, of_case, first))
    references = references_of(run.companions, of_case, first)
    rows = iter(timed_rows(run.cases, of_case))
    found = [
        with_reference(
            with_counters(next(rows), record.counters, ceilings.get(record.case.place, Ceilings())),
            references.get(record.case.place, {}),
        )
        for record in run.cases
        for _ in record.phases
    ]
    return _profiled(_with_lent_freedom(found), run.profiles)


def _with_lent_freedom(rows: Sequence[Row]) -> list[Row]:
    """Return the rows, those of few launches with intervals from the deviations of all cases (`moderated`).

    Of 2 or 3 launches by themselves Student's t makes intervals as wide as the value and wider; of 4, those
    of each case alone hold as often and are narrower.
    """
    of_phase: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if FEWEST <= len(row.launch_times_s) < ENOUGH_LAUNCHES and not row.case.on_device:
            of_phase.setdefault((row.phase, row.case.place), []).append(row)
    lent: dict[int, Row] = {}
    for alike in of_phase.values():
        times = moderated([_deviation(one) for one in alike])
        relative = moderated([one.relative_deviation for one in alike])
        for one, *spreads in zip(alike, times, relative, strict=True):
            lent[id(one)] = _with_spreads(one, *spreads)
    return [lent.get(id(row), row) for row in rows]


def _deviation(row: Row) -> Spread | None:
    times_s = row.launch_times_s
    return launch_spread(np.log(times_s)) if all(times_s) else None


def _with_spreads(row: Row, time: Spread | None, relative: Spread | None) -> Row:
    """Return a row with the interval that follows from how its launches deviate."""
    if time is not None and row.time_s is not None:
        interval = Estimate.around_ratio(row.time_s, time.half_width)
        row = replace(row, time_low_s=interval.low, time_high_s=interval.high)
    if relative is not None:
        row = replace(row, relative_error=OF_RATIOS * relative.error, relative_freedom=relative.freedom)
    return row


def _profiled(rows: Sequence[Row], profiles: Sequence[CaseProfile]) -> list[Row]:
    """Return the rows with the device's seconds and the bound of the case, where a profile shows them."""
    own = {profile.case: profile for profile in profiles if not profile.role and profile.device is not None}
    seconds = {case: device_seconds(profile) for case, profile in own.items()}
    rows = [
        replace(row, kernel_s=seconds[row.case].get(row.phase)) if row.case in own else row for row in rows
    ]
    waiting = {row.case: row.share for row in rows if row.phase == "data"}
    busy = {row.case: busy_share(row) for row in rows if row.phase == "step"}
    bounds = {case: bound_of(profile, busy.get(case), waiting.get(case)) for case, profile in own.items()}
    return [replace(row, bound=bounds[row.case]) if row.case in bounds else row for row in rows]
