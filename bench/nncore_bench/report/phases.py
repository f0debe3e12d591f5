"""Where the time of a step goes: the time and the share of each phase, and the host's part in it on CUDA."""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

from nncore_bench.cases import DOES_NOT_APPLY, FED, OTHER, UNATTRIBUTED, has_all_parts, parts_in
from nncore_bench.estimate.cells import Cells
from nncore_bench.estimate.estimates import WITHIN_ONE_PROCESS
from nncore_bench.estimate.profiles import BUSY_FROM, busy_share
from nncore_bench.estimate.rows import Row
from nncore_bench.text.format import Unit, count, decimals, percentage, plus_minus, rounded, unit_for
from nncore_bench.text.frame import frame_of, identity_column, phase_column, shared_by, shown_columns
from nncore_bench.text.table import Column, Table

OUTSIDE = (*FED, "inference")
FLOOR = "x floor"
WHAT_FLOOR = (
    f"{FLOOR}: step / (launches * launch µs), where launch µs (table ceilings) is the step of the smallest"
    " network over its launches: near 1 a step is launch-bound, below 1 a launch costs it less than that."
)
PHASE = Column("phase", "phase", attrgetter("phase"), words=True)
LAUNCHES_QUEUED = 1_000
"""A device queues about this many launches, then the host waits (stackoverflow.com/q/53970187)."""


def time_table(cells: Cells) -> Table | None:
    """Return the time of the step, of its phases and of what surrounds it, a line per case."""
    reported = phases_in(cells, ("step", *parts_in_any(cells), *OUTSIDE))
    if not reported:
        return None
    rows = [row for row_of in cells.values() for row in row_of.values()]
    unit = _unit(rows, "time_s")
    columns = [
        *map(identity_column, shown_columns(cells)),
        *(phase_column(cells, f"{name} {unit.symbol}", name, time_in(unit)) for name in reported),
        *_launch_columns(cells),
    ]
    title, caption = f"Time of each phase ({shared_by(cells)})", _what_is_shown(cells, rows, reported)
    return Table.of("phases", title, caption, columns, cells, raw=frame_of(rows))


def share_table(cells: Cells) -> Table | None:
    """Return the shares of the step and of the feeding loop, a line per case."""
    reported, fed = parts_in_any(cells), phases_in(cells, FED)
    if not reported and not fed:
        return None
    complete = has_all_parts(reported)
    columns = [
        *map(identity_column, shown_columns(cells)),
        *(_share(cells, f"{name} %", name) for name in reported),
        _share(cells, f"{UNATTRIBUTED} %" if complete else "", UNATTRIBUTED),
        *(phase_column(cells, f"{name} % of loop", name, lambda row: percentage(row.share)) for name in fed),
        *(_share(cells, "", name) for name in fed),
    ]
    caption = "Shares of the undisturbed laps (on a device of the means over the same steps)."
    if complete:
        caption += (
            " With unattributed, what lies between the last lap of a step and the first of the next, they add"
            " up to 100 %."
        )
    if fed:
        theirs = "has its" if len(fed) == 1 else "have their"
        caption += f" {_and(fed)}, outside the step, {theirs} share of a loop that also feeds it."
    title = f"Share of each phase ({shared_by(cells)})"
    return Table.of("shares", title, caption, columns, cells)


def enqueue_table(cells: Cells) -> Table | None:
    """Return the times of host and device in each phase on a device, and its launches, a line per phase."""
    on_device = _on_device(cells)
    rows = [
        row_of[phase]
        for row_of in on_device.values()
        for phase in (*FED, *parts_in(row_of), "step", "inference")
        if phase in row_of
    ]
    if not any(row.host_s for row in rows):
        return None
    unit = _unit(rows, "host_s")
    columns = [
        *map(identity_column, shown_columns(on_device)),
        PHASE,
        Column(f"host {unit.symbol}", "", attrgetter("host_s"), unit.text),
        Column(f"time {unit.symbol}", "", time_in(unit)),
        Column(f"kernels {unit.symbol}", "", attrgetter("kernel_s"), unit.text),
        Column("busy %", "", busy_share, percentage),
        Column("launches", "", attrgetter("counters.kernel_launches"), count),
        Column(FLOOR, "", lambda row: _over_floor(row) if row.phase == "step" else DOES_NOT_APPLY),
        Column("bound", "", attrgetter("bound"), words=True),
    ]
    caption = (
        "host: median time of the host to enqueue a phase; time: that of table phases; kernels: how long"
        " kernels, copies and fills of it take under the profiler, which does not slow them; busy: that as a"
        f" share of the time. {WHAT_FLOOR} Where host and time of the step come near, one waits for the"
        f" other: the device for the host where busy is below {percentage(BUSY_FROM)} %, and else the host"
        f" for room in a full queue (about {LAUNCHES_QUEUED:,} launches)."
    )
    if any(row.phase == "step" and busy_share(row) is None for row in rows):
        caption += " Where busy is n/a, for want of a profile, it may be either."
    title = f"Host and device in each phase ({shared_by(on_device)})"
    return Table.of("enqueue", title, caption, columns, rows, raw=frame_of(rows), on_screen=False)


def parts_in_any(cells: Cells) -> list[str]:
    """Return the parts of the steps of all cases."""
    return parts_in(name for row_of in cells.values() for name in row_of)


def phases_in(cells: Cells, phases: Sequence[str]) -> list[str]:
    """Return those of some phases that at least one case has."""
    return [phase for phase in phases if any(phase in row_of for row_of in cells.values())]


def _launch_columns(cells: Cells) -> list[Column]:
    """Return the kernel launches of the step and its time over their floor; none without a device."""
    on_device = {case: row_of for case, row_of in _on_device(cells).items() if "step" in row_of}
    if all(row_of["step"].counters.kernel_launches is None for row_of in on_device.values()):
        return []
    return [
        phase_column(on_device, "launches", "step", lambda step: count(step.counters.kernel_launches)),
        phase_column(on_device, FLOOR, "step", _over_floor),
    ]


def _on_device(cells: Cells) -> Cells:
    return {case: row_of for case, row_of in cells.items() if case.on_device}


def _over_floor(row: Row) -> str:
    ratio = row.time_s / row.launch_floor_s if row.time_s is not None and row.launch_floor_s else None
    return decimals(ratio, 1)


def _share(cells: Cells, title: str, phase: str) -> Column:
    return Column(title, phase, lambda case: share_of(cells[case], phase), percentage)


def share_of(row_of: Mapping[str, Row], phase: str) -> float | None:
    """Return the share of a phase; `unattributed` is the rest that the phases of the step leave."""
    if phase != UNATTRIBUTED:
        return row_of[phase].share if phase in row_of else None
    shares = [share_of(row_of, name) for name in parts_in(row_of)]
    known = [share for share in shares if share is not None]
    return max(1 - sum(known), 0.0) if has_all_parts(row_of) and len(known) == len(shares) else None


def time_in(unit: Unit) -> Callable[[Row], str]:
    """Return a formatter of times: the step with its interval, others with the digits that theirs leaves."""
    return lambda row: (plus_minus if row.phase == "step" else rounded)(row.time, unit.seconds)


def _unit(rows: Sequence[Row], column: str) -> Unit:
    """Return one unit for the whole table, the step's, so that phases compare along the line."""
    steps = [row for row in rows if row.phase == "step" and getattr(row, column) is not None]
    return unit_for(getattr(row, column) for row in steps or rows)


def _what_is_shown(cells: Cells, rows: Sequence[Row], reported: Sequence[str]) -> str:
    said = []
    if any(not case.on_device for case in cells):
        said.append(
            "Undisturbed times, the fastest that this machine allowed: the smallest lap of the run, and of a"
            " step the sum of those of its phases."
        )
    if any(OTHER in row_of and not case.on_device for case, row_of in cells.items()):
        said.append("A training_step of your own has the smallest of its steps without laps.")
    if "step" in reported:
        said.append(
            "± is a 95 % interval from how the launches differ; it holds for another run in this hour, and"
            " compare takes out how the machine drifts from hour to hour."
        )
    if any(row.interval == WITHIN_ONE_PROCESS for row in rows):
        said.append("The interval is from within one process: another process may differ by more.")
    outside = [phase for phase in OUTSIDE if phase in reported]
    if outside:
        verb = "is" if len(outside) == 1 else "are"
        said.append(f"{_and(outside)} {verb} measured beside the step and no part of it.")
    if on_device := _on_device(cells):
        fed = [case.batch_size for case, row_of in on_device.items() if any(name in row_of for name in FED)]
        steps = [case.batch_size for case, row_of in on_device.items() if "step" in row_of]
        if fed and max(fed) < max(steps, default=0):
            said.append(
                f"On CUDA {_and(FED)} were measured up to batch {max(fed):,}: a DataLoader takes long to fill"
                " larger ones (--step-batch-sizes measures them, too)."
            )
        said.append(
            "CUDA: means over the iterations of a block, averaged over the middle half of the blocks; phases"
            " are spans between events on the device, step and inference wall time per iteration."
        )
    if any(row.counters.kernel_launches is not None for row in rows):
        said.append(WHAT_FLOOR)
    return " ".join(said)


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
