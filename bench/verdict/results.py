"""The rows of a run: its times, what was counted beside them, and the limits that follow from both."""

from collections.abc import Iterable

from bench.runs import Block, Run
from bench.verdict.limits import Ceilings, ceilings_of, place_of, with_counters
from bench.verdict.rows import Row, timed_rows


def rows_of(run: Run, blocks: Iterable[Block]) -> list[Row]:
    """Return the rows of a run, in the order of its cases and phases."""
    blocks = list(blocks)
    ceilings = ceilings_of(run.companions, blocks, first=len(run.cases))
    rows = iter(timed_rows(run.cases, blocks))
    return [
        with_counters(
            next(rows),
            record.counters.phases.get(phase) if record.counters else None,
            ceilings.get(place_of(record.case), Ceilings()),
        )
        for record in run.cases
        for phase in record.phases
    ]


def companion_rows(run: Run, blocks: Iterable[Block]) -> list[Row]:
    """Return the rows of what was measured beside the cases of a run."""
    return timed_rows(run.companions, blocks, first=len(run.cases))
