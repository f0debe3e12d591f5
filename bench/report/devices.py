"""Is the GPU worth it: the best CPU step against the CUDA step, case by case, and nothing in between."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from bench.cases import DOES_NOT_APPLY, Case
from bench.report.format import unit_for, with_interval
from bench.report.frame import Cells, identity, shared_by, shown_columns
from bench.report.ratios import Ratio, speed_up
from bench.report.tables import Table
from bench.verdict import Row

CAPTION = (
    "The CPU at its best thread count against CUDA: undisturbed times of the whole step, and how many times as"
    " fast CUDA is (95 % interval). worth it: yes or no where the interval leaves 1 out. Batches are resident on the"
    " device; what copying them costs is column copy of table phases."
)


@dataclass(frozen=True)
class Matched:
    """Hold the steps of one batch size and hidden width: the fastest on the CPU, and the one on CUDA."""

    case: Case
    cpu: Row
    cuda: Row
    speed_up: Ratio


def anywhere(case: Case) -> Case:
    """Return the case without the place where it ran, by which cases of two devices or machines meet."""
    return replace(case, device=DOES_NOT_APPLY, threads=DOES_NOT_APPLY)


def fastest(cells: Cells, *, device: str | None = None) -> dict[Case, Row]:
    """Return the fastest measured step of every case regardless of its place, or of those on one device."""
    best: dict[Case, Row] = {}
    for case, row_of in cells.items():
        row = row_of.get("step")
        if row is None or not row.time_s or device not in (None, case.device):
            continue
        known = best.get(anywhere(case))
        if known is None or known.time_s is None or row.time_s < known.time_s:
            best[anywhere(case)] = row
    return best


def matched(cells: Cells) -> list[Matched]:
    """Return the cases measured on both, in the order of the run."""
    cpu, cuda = fastest(cells, device="cpu"), fastest(cells, device="cuda")
    return [
        Matched(case, cpu[case], cuda[case], ratio)
        for case in cpu
        if case in cuda and (ratio := speed_up(cpu[case], cuda[case])) is not None
    ]


def device_table(cells: Cells) -> Table | None:
    """Return the table of CPU against CUDA; None where no case was measured on both."""
    pairs = matched(cells)
    if not pairs:
        return None
    unit = unit_for(row.time_s for pair in pairs for row in (pair.cpu, pair.cuda))
    columns = shown_columns(pair.case for pair in pairs)
    lines = [
        {
            **identity(pair.case, columns),
            "CPU threads": str(pair.cpu.threads),
            f"CPU step {unit.symbol}": _time(pair.cpu, unit.seconds),
            f"CUDA step {unit.symbol}": _time(pair.cuda, unit.seconds),
            "CUDA is × as fast": str(pair.speed_up),
            "worth it": pair.speed_up.verdict,
        }
        for pair in pairs
    ]
    title = f"CPU against CUDA ({shared_by(pair.case for pair in pairs)})"
    return Table("cpu_vs_cuda", title, CAPTION, pd.DataFrame(lines), _raw(pairs, columns))


def sentence(cells: Cells, all_cells: Cells) -> str:
    """Answer whether the GPU is worth it, from what was measured and never beyond."""
    pairs = matched(cells)
    if not pairs:
        return f"Is the GPU worth it? Nothing can be said: {_why_not(all_cells)}."
    widths: dict[Case, list[Matched]] = {}
    for pair in pairs:
        widths.setdefault(replace(pair.case, batch_size=0), []).append(pair)
    return f"Is the GPU worth it? {'; '.join(_of_width(case, group) for case, group in widths.items())}."


def _of_width(case: Case, group: list[Matched]) -> str:
    """Say from which measured batch size on CUDA is faster at one hidden width, and by how much at best."""
    group = sorted(group, key=lambda pair: pair.case.batch_size)
    yes = [pair.case.batch_size for pair in group if pair.speed_up.verdict == "yes"]
    best = max(group, key=lambda pair: pair.speed_up.value)
    at_best = f"{best.speed_up} × as fast at batch {best.case.batch_size}"
    label = f"hidden {case.hidden}: " if case.hidden != DOES_NOT_APPLY else ""
    sizes = [pair.case.batch_size for pair in group]
    if yes and yes == sizes[-len(yes) :]:
        return f"{label}yes, {_from(yes[0], sizes)} ({at_best})"
    if yes:
        return f"{label}at batch {', '.join(map(str, yes))} only ({at_best})"
    if all(pair.speed_up.verdict == "no" for pair in group):
        return f"{label}no, at none of the batch sizes {_listed(sizes)} (at best {at_best})"
    return f"{label}undecided, no interval is above 1 (at best {at_best})"


def _from(first: int, sizes: list[int]) -> str:
    if first == sizes[0]:
        return f"at every batch size measured, {_listed(sizes)}"
    return f"from batch {first} on (not at {sizes[sizes.index(first) - 1]}, nothing measured between)"


def _listed(sizes: list[int]) -> str:
    return str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"


def _why_not(cells: Cells) -> str:
    rows = [row for case, row_of in cells.items() if case.device == "cuda" for row in row_of.values()]
    if not rows:
        return "CUDA was not asked for (--step-devices=cpu,cuda does)"
    reasons = dict.fromkeys(row.reason for row in rows if row.status != "ok" and row.reason)
    if reasons:
        return "; ".join(reasons)
    return "no case has a step measured both on the CPU and on CUDA (choose them with --step-devices and -k step)"


def _time(row: Row, seconds: float) -> str:
    return with_interval(*(None if time is None else time / seconds for time in (row.time_s, row.time_high_s)))


def _raw(pairs: list[Matched], columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                **{name: getattr(pair.case, name) for name in columns},
                "cpu_threads": pair.cpu.threads,
                **{f"cpu_{name}": getattr(pair.cpu, name) for name in ("time_s", "time_low_s", "time_high_s")},
                **{f"cuda_{name}": getattr(pair.cuda, name) for name in ("time_s", "time_low_s", "time_high_s")},
                "speed_up": pair.speed_up.value,
                "speed_up_low": pair.speed_up.low,
                "speed_up_high": pair.speed_up.high,
            }
            for pair in pairs
        ]
    )
