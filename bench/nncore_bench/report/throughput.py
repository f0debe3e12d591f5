"""Samples per second of the whole step: one table per device."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from nncore_bench.cases import DOES_NOT_APPLY, Case
from nncore_bench.estimate.cells import Cells
from nncore_bench.estimate.estimates import Estimate
from nncore_bench.estimate.rows import Row
from nncore_bench.text.format import NOT_AVAILABLE, rounded, slowdown
from nncore_bench.text.frame import frame_of, identity_column, shared_by, shown_columns
from nncore_bench.text.table import Column, Table

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
    """Return a line for all widths of a case."""
    names = [name for name in shown_columns(steps) if name != "hidden"]
    columns = [*map(identity_column, names), *map(partial(_width, steps), {case.hidden: 0 for case in steps})]
    lines = dict.fromkeys(replace(case, hidden=DOES_NOT_APPLY) for case in steps)
    title = f"Throughput in samples/s ({shared_by(steps)})"
    return Table.of(f"throughput_{device}", title, CAPTION, columns, lines, raw=frame_of(steps.values()))


def _width(steps: Mapping[Case, Row], hidden: int | str) -> Column:
    def text(case: Case) -> str:
        row = steps.get(replace(case, hidden=hidden))
        cell = DOES_NOT_APPLY if row is None else samples_per_s(row)
        return cell if row is None or cell == NOT_AVAILABLE else f"{cell} ({slowdown(row.disturbance)})"

    return Column("samples/s" if hidden == DOES_NOT_APPLY else f"hidden {hidden}: samples/s", "", text)
