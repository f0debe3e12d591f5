"""Samples per second of the whole step: one table per device."""

from collections.abc import Mapping

import pandas as pd

from nncore_bench.cases import DOES_NOT_APPLY, Case
from nncore_bench.estimate.cells import Cells
from nncore_bench.estimate.estimates import Estimate
from nncore_bench.estimate.rows import Row
from nncore_bench.text.format import NOT_AVAILABLE, rounded, slowdown
from nncore_bench.text.frame import frame_of, identity, shared_by, shown_columns
from nncore_bench.text.table import Table

CAPTION = (
    "From the median step. In brackets the disturbance: how much longer the median step took than an"
    " undisturbed one, which is the noise of this machine and not of the network."
)


def throughput_tables(cells: Cells) -> list[Table]:
    """Return a table for each device on which a step was timed."""
    steps = {case: row_of["step"] for case, row_of in cells.items() if "step" in row_of}
    devices = dict.fromkeys(case.device for case in steps)
    return [_table(device, {c: row for c, row in steps.items() if c.device == device}) for device in devices]


def throughput(row: Row) -> Estimate | None:
    """Return the samples per second, with the relative half-width of the median time."""
    if row.median is None or not row.samples_per_s:
        return None
    return row.median.scaled(row.samples_per_s / row.median.value)


def samples_per_s(row: Row) -> str:
    """Return the samples per second with the digits that the interval leaves."""
    return rounded(throughput(row))


def _table(device: str, steps: Mapping[Case, Row]) -> Table:
    columns = [name for name in shown_columns(steps) if name != "hidden"]
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for case, row in steps.items():
        line, cell = identity(case, columns), samples_per_s(row)
        if cell != NOT_AVAILABLE:
            cell += f" ({slowdown(row.disturbance)})"
        width = "" if case.hidden == DOES_NOT_APPLY else f"hidden {case.hidden}: "
        lines.setdefault(tuple(line.values()), line)[f"{width}samples/s"] = cell
    title = f"Throughput in samples/s ({shared_by(steps)})"
    shown = pd.DataFrame(list(lines.values())).fillna("-")
    return Table(f"throughput_{device}", title, CAPTION, shown, frame_of(steps.values()))
