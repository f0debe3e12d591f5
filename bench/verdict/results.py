"""The rows of a run: its times, what was counted beside them, and the limits that follow from both."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from bench.runs import Block, CaseRecord, Run
from bench.verdict.drift import References, references_of, with_reference
from bench.verdict.limits import Ceilings, ceilings_of, with_counters
from bench.verdict.rows import Row, timed_rows


def rows_of(run: Run, blocks: Iterable[Block]) -> list[Row]:
    """Return the rows of a run, in the order of its cases and phases."""
    blocks, first = list(blocks), len(run.cases)
    ceilings = ceilings_of(run.companions, companion_rows(run, blocks))
    references = references_of(run.companions, blocks, first)
    by_case: dict[int, list[Block]] = defaultdict(list)
    for block in blocks:
        by_case[block.case].append(block)
    rows = iter(timed_rows(run.cases, blocks))
    return [
        with_reference(
            _counted(next(rows), record, ceilings.get(record.case.place, Ceilings())),
            by_case[number],
            references.get(record.case.place, References()),
        )
        for number, record in enumerate(run.cases)
        for _ in record.phases
    ]


def companion_rows(run: Run, blocks: Sequence[Block]) -> list[Row]:
    """Return the rows of what was measured beside the cases of a run."""
    return timed_rows(run.companions, blocks, first=len(run.cases))


def _counted(row: Row, record: CaseRecord, ceilings: Ceilings) -> Row:
    counters = record.counters
    if counters is None:
        return row
    if row.phase == "step":
        row = replace(
            row,
            parameter_bytes=counters.parameter_bytes,
            state_bytes=counters.state_bytes,
            leaked_bytes=counters.leaked_bytes,
        )
    return with_counters(row, counters.phases.get(row.phase), ceilings)
