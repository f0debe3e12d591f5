"""The rows of a run: times, counters, and the limits that follow from both."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from nncore_bench.estimate.ceilings import Ceilings, ceilings_of, with_counters
from nncore_bench.estimate.drift import references_of, with_reference
from nncore_bench.estimate.profiles import bound_of, busy_share, device_seconds
from nncore_bench.estimate.rows import Row, timed_rows
from nncore_bench.records import CaseProfile
from nncore_bench.runs import Block, Run, by_case


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
    return _profiled(found, run.profiles)


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
