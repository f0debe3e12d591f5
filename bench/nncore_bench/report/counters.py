"""The counters of the phases, and how near these come to the rates of this machine."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter

from nncore_bench.cases import Place, parts_in
from nncore_bench.companions import reference_case
from nncore_bench.estimate.ceilings import UNKNOWN, Ceilings
from nncore_bench.estimate.cells import Cells
from nncore_bench.estimate.rows import NOT_COUNTED, Row
from nncore_bench.records import PhaseCounters
from nncore_bench.report.phases import PHASE, parts_in_any, phases_in, time_in
from nncore_bench.text.format import NOT_AVAILABLE, count, from_to, in_unit, percentage, unit_for
from nncore_bench.text.frame import frame_of, identity_column, phase_column, place, shared_by, shown_columns
from nncore_bench.text.table import Column, Table
from nncore_bench.variants import DEFAULT_ALLOCATOR

MEGA, GIGA, KILO, MICRO = 1e6, 1e9, 1e3, 1e-6
CEILINGS_WITHIN = 0.05
"""A ceiling is a rate measured once, and another shape may do a little better."""

COUNTERS = (*PhaseCounters.__struct_fields__, "parameter_bytes", "state_bytes", "leaked_bytes")
RATES = ("flop_per_s", "flop_share", "bytes_per_s", "bytes_share", "limit", "limit_share")
SHOWN = {
    name: Column(title, "", attrgetter(f"counters.{name}"), partial(in_unit, unit=unit) if unit else count)
    for name, title, unit in (
        ("flop", "MFLOP", MEGA),
        ("moved_bytes", "moved kB", KILO),
        ("operators", "operators", None),
        ("autograd_nodes", "autograd nodes", None),
        ("allocations", "allocations", None),
        ("allocated_bytes", "allocated kB", KILO),
        ("peak_bytes", "peak kB", KILO),
        ("copies", "copies", None),
        ("synchronisations", "syncs", None),
        ("kernel_launches", "launches", None),
        ("collections", "collections", None),
    )
}
"""The columns on the screen by counter."""

WHAT_LIMITS = (
    "limit is the largest of three floors, with the share of the phase's time that it alone would take:"
    " compute, the FLOP at the rate of a matrix product; memory, the bytes moved at the rate of a copy within"
    " a cache; dispatch, the operators at what they take in a network that has next to nothing to do. Unknown"
    " below 10 %."
)


def anatomy_table(cells: Cells, ceilings: Mapping[Place, Ceilings]) -> Table | None:
    """Return the work of each phase of the reference case, a line per phase; None if nothing was counted."""
    if not (counted := _counted(cells)):
        return None
    case = reference_case(counted)
    rows = _rows({case: cells[case]})
    unit = unit_for(row.time_s for row in rows)
    columns = [
        PHASE,
        Column(unit.symbol, "", time_in(unit)),
        SHOWN["operators"],
        SHOWN["flop"],
        Column("GFLOP/s", "", lambda row: _rate(row.flop_per_s, row.flop_share)),
        SHOWN["moved_bytes"],
        Column("GB/s", "", lambda row: _rate(row.bytes_per_s, row.bytes_share)),
        SHOWN["peak_bytes"],
        Column("limit", "", limit_cell, words=True),
    ]
    found, size = ceilings.get(case.place, Ceilings()), "256 MiB" if case.on_device else "32 MiB"
    rates = (found.gemm_flop_per_s, found.cached_bytes_per_s, found.cold_bytes_per_s)
    gemm, cached, cold = (in_unit(rate, GIGA) for rate in rates)
    caption = (
        f"On this machine ({place(case)}): a matrix product {gemm} GFLOP/s, a copy within a cache {cached}"
        f" GB/s and one of {size} {cold} GB/s. In brackets the share of that. {WHAT_LIMITS}"
    )
    title = f"What the phases of {case.key} do"
    return Table.of("anatomy", title, caption, columns, rows, raw=frame_of(rows))


def limit_table(cells: Cells) -> Table | None:
    """Return the limit of each phase of each case, a line per case; None if nothing was counted."""
    if not (counted := _counted(cells)):
        return None
    names = shown_columns(counted)
    phases = phases_in(counted, (*parts_in_any(counted), "step", "inference"))
    columns = [
        *map(identity_column, names),
        *(phase_column(counted, name, name, limit_cell, words=True) for name in phases),
    ]
    title = f"What limits each phase ({shared_by(counted)})"
    raw = frame_of(_rows(counted))[[*names, "phase", *RATES]]
    return Table.of("limits", title, WHAT_LIMITS, columns, counted, raw=raw, on_screen=False)


def counter_table(cells: Cells) -> Table | None:
    """Return all counters of each phase of each case; None if nothing was counted."""
    if not (counted := _counted(cells)):
        return None
    names, rows = shown_columns(counted), _rows(counted)
    columns = [
        *map(identity_column, names),
        PHASE,
        *(column for column in SHOWN.values() if any(column.value(row) is not None for row in rows)),
    ]
    caption = (
        "Counted in a pass of its own, in one settled step. A multiply-add is 2 FLOP; n/a where torch has no"
        " formula for any operator. moved: every operator reads its inputs and writes its outputs once. peak:"
        " the most alive at one moment, above parameters, optimizer state and batches."
    )
    title = f"What each phase does ({shared_by(counted)})"
    raw = frame_of(rows)[[*names, "phase", *COUNTERS]]
    return Table.of("counters", title, caption, columns, rows, raw=raw, on_screen=False)


def ceiling_table(ceilings: Mapping[Place, Ceilings]) -> Table | None:
    """Return the rates of this machine, a line per place; None if they are unknown."""
    if not ceilings:
        return None
    launches = any(found.launch_s is not None for found in ceilings.values())
    columns = [
        Column("device", "device", lambda line: line[0][0], words=True),
        Column("threads", "threads", lambda line: line[0][1]),
        Column("precision", "precision", lambda line: line[0][2], words=True),
        _ceiling("GFLOP/s", "gemm_flop_per_s", GIGA),
        _ceiling("GB/s in cache", "cached_bytes_per_s", GIGA),
        _ceiling("GB/s of 32 MiB", "cold_bytes_per_s", GIGA),
        replace(_ceiling("smallest step µs", "smallest_step_s", MICRO), name="dispatch_step_s"),
        _ceiling("launch µs" if launches else "", "launch_s", MICRO),
    ]
    caption = (
        "Measured beside the cases, in the same rounds, undisturbed: a square matrix product, a copy within a"
        " core's own caches and a copy of 32 MiB (bytes read and written; 256 MiB on CUDA), and the step of a"
        " network with batch 1 and 8 hidden units."
    )
    if launches:
        caption += " launch: that step over the kernels that it launches."
    title = "What this machine can do"
    return Table.of("ceilings", title, caption, columns, ceilings.items(), on_screen=False)


def _ceiling(title: str, name: str, unit: float) -> Column:
    return Column(title, name, lambda line: getattr(line[1], name), partial(in_unit, unit=unit))


def limit_cell(row: Row) -> str:
    """Return a limit with the share of time that it explains, such as `compute 72 %`."""
    return row.limit if row.limit == UNKNOWN else f"{row.limit} {percentage(row.limit_share)} %"


def allocator_line(cells: Cells, beside: Sequence[Row]) -> list[str]:
    """Say how much longer the step of the reference case takes under the default allocator."""
    return [
        f"Under the default allocator the step of {usual.case.key} takes"
        f" {from_to(ratio, ' times as long')}; all other figures are with the policy."
        for row in beside
        if row.case.variant == DEFAULT_ALLOCATOR and row.phase == "step"
        if (usual := cells.get(replace(row.case, variant="eager"), {}).get("step"))
        if (ratio := row.over(usual))
    ]


def impossible_lines(cells: Cells) -> list[str]:
    """Return a line for every rate surely above what this machine can do, which points to an error."""
    return [
        f"Impossible: {row.phase} of {case.key} comes to {percentage(share)} % of this machine's {what}, so"
        " one of its time, its counters and the ceiling is wrong; please report it."
        for case, row_of in cells.items()
        for row in row_of.values()
        for share, what in ((row.flop_share, "matrix product"), (row.bytes_share, "copy within a cache"))
        if share is not None and share * least_share(row) > 1 + CEILINGS_WITHIN
    ]


def least_share(row: Row) -> float:
    """Return the factor by which a row's shares may be smaller, from the interval of its time."""
    return row.time_s / row.time_high_s if row.time_s and row.time_high_s else 1.0


def _counted(cells: Cells) -> Cells:
    return {
        case: row_of
        for case, row_of in cells.items()
        if any(row.counters != NOT_COUNTED for row in row_of.values())
    }


def _rows(cells: Cells) -> list[Row]:
    return [
        row_of[phase]
        for row_of in cells.values()
        for phase in (*parts_in(row_of), "step", "inference")
        if phase in row_of
    ]


def _rate(per_s: float | None, share: float | None) -> str:
    """Return a rate in 10⁹ per second, with its share of what the machine can do."""
    return NOT_AVAILABLE if per_s is None else f"{in_unit(per_s, GIGA)} ({percentage(share)} %)"
