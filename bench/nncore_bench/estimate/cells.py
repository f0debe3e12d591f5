"""The rows of a run by case and phase, for tables and sentences."""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from nncore_bench.cases import Case
from nncore_bench.estimate.rows import Row

Cells: TypeAlias = Mapping[Case, Mapping[str, Row]]
"""The rows of a run by case and phase, in the order of the run."""


def cells_of(rows: Iterable[Row]) -> dict[Case, dict[str, Row]]:
    """Return the rows by case and phase; those of a failed case lose the times measured before it failed."""
    cells: dict[Case, dict[str, Row]] = {}
    for row in rows:
        cells.setdefault(row.case, {})[row.phase] = row if row.status == "ok" else _without_times(row)
    return cells


def _without_times(row: Row) -> Row:
    return Row(row.phase, row.case, row.status, row.reason, steady=row.steady)


def without_skipped(cells: Cells) -> dict[Case, Mapping[str, Row]]:
    """Return the cases that were tried: the failed ones as well, but none that was skipped."""
    return {
        case: phases
        for case, phases in cells.items()
        if any(row.status != "skipped" for row in phases.values())
    }
