"""Compare the best CPU step with the CUDA step, case by case, at the sizes measured and none between."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from operator import attrgetter

from nncore_bench.cases import DOES_NOT_APPLY, Case
from nncore_bench.estimate.cells import Cells
from nncore_bench.estimate.estimates import Estimate
from nncore_bench.estimate.launches import LaunchBound, launch_bound
from nncore_bench.estimate.rows import Row
from nncore_bench.records import CaseProfile
from nncore_bench.text.format import Unit, from_to, in_unit, percentage, plus_minus, unit_for
from nncore_bench.text.frame import case_columns, series, shared_by, shown_columns, size
from nncore_bench.text.table import Column, Table

WORTH_IT = {True: "yes", False: "no", None: "undecided"}
CAPTION = (
    "The CPU at its best thread count against CUDA: median times of the whole step, and how many times"
    " as fast CUDA is (95 % interval). worth it: yes or no where the interval leaves 1 out. Sizes that were"
    " measured on one of them alone are left out. Batches are resident on the device; what copying them costs"
    " is column copy of table phases."
)


@dataclass(frozen=True)
class Matched:
    """The fastest steps of one case in two places, and how many times as fast the second one is."""

    case: Case
    first: Row
    second: Row
    speed_up: Estimate


def fastest(cells: Cells, *, device: str | None = None) -> dict[Case, Row]:
    """Return the fastest measured step of every case without device and threads, or of those on one device.

    Cases without these are the key by which results of two devices or machines are matched.
    """
    best: dict[Case, Row] = {}
    for case, row_of in cells.items():
        row, key = row_of.get("step"), replace(case, device=DOES_NOT_APPLY, threads=DOES_NOT_APPLY)
        if row and row.median_s and device in (None, case.device):
            best[key] = min(best.get(key, row), row, key=lambda one: one.median_s or inf)
    return best


def matched(first: Mapping[Case, Row], second: Mapping[Case, Row]) -> list[Matched]:
    """Return the cases that two places or runs have in common, in the order of the first.

    Medians are compared, because the smallest lap of a CPU step has no counterpart on a device, whose steps
    are timed a block at a time, and because samples per second come from them.
    """
    return [
        Matched(case, row, second[case], row.median.over(other))
        for case, row in first.items()
        if case in second and row.median and (other := second[case].median)
    ]


def _on_both(cells: Cells) -> list[Matched]:
    return matched(fastest(cells, device="cpu"), fastest(cells, device="cuda"))


def device_table(cells: Cells) -> Table | None:
    """Return the table of CPU against CUDA; None where no case was measured on both."""
    pairs = _on_both(cells)
    if not pairs:
        return None
    unit = unit_for(row.median_s for pair in pairs for row in (pair.first, pair.second))
    names = ("speed_up", "speed_up_low", "speed_up_high")
    columns = [
        *case_columns(shown_columns(pair.case for pair in pairs)),
        Column("CPU threads", "cpu_threads", attrgetter("first.case.threads")),
        _median("CPU", "first.median", unit),
        _median("CUDA", "second.median", unit),
        Column("CUDA is times as fast", names, attrgetter("speed_up"), from_to),
        Column("worth it", "", lambda pair: pair.speed_up.exceeds(1), WORTH_IT.__getitem__, words=True),
    ]
    title = f"CPU against CUDA ({shared_by(pair.case for pair in pairs)})"
    return Table.of("cpu_vs_cuda", title, CAPTION, columns, pairs)


def _median(device: str, median: str, unit: Unit) -> Column:
    low, value, high = (f"{device.lower()}_median{bound}_s" for bound in ("_low", "", "_high"))
    text = partial(plus_minus, unit=unit.seconds)
    return Column(f"{device} step {unit.symbol}", (value, low, high), attrgetter(median), text)


def sentence(cells: Cells, all_cells: Cells, profiles: Iterable[CaseProfile] = ()) -> str:
    """Answer whether the GPU is worth it, for the sizes measured and none beyond."""
    pairs = _on_both(cells)
    widths: dict[Case, list[Matched]] = {}
    for pair in pairs:
        widths.setdefault(replace(pair.case, batch_size=0), []).append(pair)
    said = [_of_width(case, group) for case, group in widths.items()]
    steps = {case: row for case, row_of in cells.items() if (row := row_of.get("step"))}
    said += [] if said else [f"Nothing can be said: {_why_not(all_cells)}."]
    return " ".join(["Is the GPU worth it?", *said, *map(_waits, launch_bound(steps, profiles))])


def _waits(group: LaunchBound) -> str:
    """Say that the device waits for the host at every size of a group, and how long it would need alone."""
    case, unit = group.example, unit_for([group.device_s])
    device, step = (in_unit(seconds, unit.seconds) for seconds in (group.device_s, group.step_s))
    where = (
        f"all {len(group.cases)} sizes measured, whose steps lie within {percentage(group.spread - 1)} %"
        if len(group.cases) > 1
        else "the one size measured"
    )
    return (
        f"On {series(case)} the step is launch-bound at {where}: the GPU waits for the host, and alone would"
        f" take {device} of {step} {unit.symbol} at {size(case)}."
    )


def _of_width(case: Case, group: list[Matched]) -> str:
    """Say from which measured batch size on CUDA is faster at one hidden width, and by how much at best."""
    group = sorted(group, key=lambda pair: pair.case.batch_size)
    best = max(group, key=lambda pair: pair.speed_up.value)
    at_best = f"{from_to(best.speed_up, ' times as fast')} at batch {best.case.batch_size}"
    label = "" if case.hidden == DOES_NOT_APPLY else f"Hidden {case.hidden}: "
    return f"{label}{_answer(group)}; at best {at_best}."


def _answer(group: list[Matched]) -> str:
    """Return yes or no and the batch sizes, none between or beyond those of the grid."""
    sizes = [pair.case.batch_size for pair in group]
    yes = [pair.case.batch_size for pair in group if pair.speed_up.exceeds(1)]
    listed = ", ".join(map(str, yes or sizes))
    if not yes:
        no = all(pair.speed_up.exceeds(1) is False for pair in group)
        return f"{'no' if no else 'not proven'} at batch {listed}"
    if yes == sizes:
        return f"yes at batch {listed}"
    if yes == sizes[-len(yes) :]:
        return f"yes from batch {yes[0]} on, not at {sizes[-len(yes) - 1]} (nothing was measured between)"
    return f"yes at batch {listed} only"


def _why_not(cells: Cells) -> str:
    rows = [row for case, row_of in cells.items() if case.device == "cuda" for row in row_of.values()]
    if not rows:
        return "CUDA was not asked for (--step-devices=cpu,cuda does)"
    reasons = dict.fromkeys(row.reason for row in rows if row.status != "ok" and row.reason)
    if reasons:
        return "; ".join(reasons)
    return "no case has its step measured on both CPU and CUDA (--step-devices and -k step choose them)"
