"""From which batch size on the GPU is worth it: for each width and way of feeding, in time or money."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import ceil, floor

import pandas as pd

from nncore_bench.cases import DOES_NOT_APPLY, Case
from nncore_bench.crossover.crossing import Crossing, Crossover, crossover
from nncore_bench.estimate.cells import Cells
from nncore_bench.estimate.estimates import Estimate
from nncore_bench.estimate.rows import Row
from nncore_bench.text.format import count, from_to, number
from nncore_bench.text.frame import identity, shown_columns
from nncore_bench.text.table import Table, bounds
from nncore_bench.variants import EAGER, made_faster

MODES = ("resident", "copied", "loaded")
"""How the batches of a step come; the caption says what each means."""

CAPTION = (
    "Median times of the fastest threads and variant on the CPU against the fastest variant on CUDA."
    " resident: the step alone. copied: the step and the copy of its batch (from pinned memory where the"
    " variant pinned was measured and is faster). loaded: on the CPU the DataLoader's next and the step, on"
    " CUDA the loop that fetches, copies and trains, by the clock on the wall. Between two batch sizes times"
    " are taken to be straight on logarithmic axes; the interval is where the bounds of the speed-up cross."
    " Sizes that were measured on one device alone are left out."
)
RESIDENT = "resident"
MEGA = 1_000_000
HOUR_S = 3600.0
MOST_DECIMALS = 6
"""Of a batch size: what is off by less is the arithmetic of logarithms."""


@dataclass(frozen=True)
class Point:
    """The seconds of an iteration, the case whose step it is, and the one whose batches it has."""

    time: Estimate
    step: Case
    fed: Case


@dataclass(frozen=True)
class Curve:
    """How many times as fast CUDA is as the CPU by batch size, at one width, in one mode.

    `case` is what all points have in common; `cpu` and `cuda` are the fastest points on either device by
    batch size. `faster` is where the speed-up passes 1, and `cheaper`, where prices are known, where it
    passes `worth`, the price of an hour in times of the CPU's.
    """

    mode: str
    case: Case
    cpu: Mapping[int, Point]
    cuda: Mapping[int, Point]
    speed_ups: Mapping[int, Estimate]
    faster: Crossover
    worth: float | None = None
    cheaper: Crossover | None = None


def curves(cells: Cells, prices: Mapping[str, float] | None = None) -> list[Curve]:
    """Return a curve for each mode and width of which a batch size was measured on both devices.

    `prices` are those of an hour by device.
    """
    worth = prices["cuda"] / prices["cpu"] if prices and {"cpu", "cuda"} <= prices.keys() else None
    found = []
    for mode in MODES:
        best = _fastest(cells, mode)
        for case in dict.fromkeys(replace(key, batch_size=0, device=DOES_NOT_APPLY) for key in best):
            cpu, cuda = (_of_width(best, case, device) for device in ("cpu", "cuda"))
            sizes = sorted(cpu.keys() & cuda.keys())
            if sizes:
                speed_ups = {size: cpu[size].time.over(cuda[size].time) for size in sizes}
                points = list(speed_ups.values())
                cheaper = None if worth is None else crossover(sizes, points, worth=worth)
                faster = crossover(sizes, points)
                found.append(Curve(mode, case, cpu, cuda, speed_ups, faster, worth, cheaper))
    return found


def _of_width(best: Mapping[Case, Point], case: Case, device: str) -> dict[int, Point]:
    """Return what was found on a device at one width, by batch size."""
    return {
        key.batch_size: point
        for key, point in best.items()
        if key.device == device and replace(key, batch_size=0, device=DOES_NOT_APPLY) == case
    }


def _fastest(cells: Cells, mode: str) -> dict[Case, Point]:
    """Return the fastest of all thread counts and variants, by the case without these."""
    groups: dict[Case, dict[Case, Mapping[str, Row]]] = {}
    for case, row_of in cells.items():
        key = replace(case, threads=DOES_NOT_APPLY, variant=DOES_NOT_APPLY)
        groups.setdefault(key, {})[case] = row_of
    best = {key: list(_points(group, mode)) for key, group in groups.items()}
    return {key: min(points, key=lambda point: point.time.value) for key, points in best.items() if points}


def _points(group: Cells, mode: str) -> Iterator[Point]:
    """Return the iterations that some cases of one size allow in a mode.

    On CUDA a step may have the batches of a variant that is about feeding, in a loop the plain one alone, by
    the clock on the wall. On the CPU processes of a DataLoader would take time from the step, unseen.
    """
    for case, row_of in group.items():
        step = row_of.get("step")
        if mode == "resident" or (mode == "copied" and not case.on_device):
            if (time := _sum([step])) is not None:
                yield Point(time, case, case)
            continue
        on_device = case.on_device
        for fed, parts in group.items():
            if fed.form.resident:
                continue
            joins = made_faster(fed.variant) == "feeding" and (mode == "copied" or case.variant == EAGER)
            if fed == case or (joins and on_device):
                time = _loop(step, parts, mode, on_device=on_device)
                if time is not None:
                    yield Point(time, case, fed)


def _loop(step: Row | None, parts: Mapping[str, Row], mode: str, *, on_device: bool) -> Estimate | None:
    """Return the time of an iteration that gets its batch first; None where it was not measured."""
    data = parts.get("data")
    names = (["copy"] if on_device else []) + (["data"] if mode == "loaded" else [])
    found = _sum([step, *map(parts.get, names)])
    if found is None or mode != "loaded" or data is None or not data.wall_s:
        return found
    # shorter than its parts: the device works while the host fetches
    return found.scaled(data.wall_s / found.value)


def _sum(rows: Sequence[Row | None]) -> Estimate | None:
    """Return the sum of some medians, all of which must be known."""
    known = [row.median for row in rows if row is not None and row.median is not None]
    total = reduce(Estimate.plus, known) if len(known) == len(rows) else None
    return total if total and total.value else None


def crossover_table(found: Sequence[Curve]) -> Table | None:
    """Return a line for each mode and width; None where nothing was measured on both devices."""
    if not found:
        return None
    columns = columns_of(found)
    lines = [
        {
            "batches": curve.mode,
            **identity(curve.case, columns),
            "CUDA is faster": faster_said(curve),
            **({} if curve.cheaper is None else {"CUDA is cheaper": cheaper_said(curve)}),
            "at best": _at_best(curve),
        }
        for curve in found
    ]
    raw = pd.DataFrame([record for curve in found for record in _records(curve, columns)])
    title = f"From which batch size on CUDA is faster{' or cheaper' if found[0].cheaper else ''}"
    return Table("crossover", title, CAPTION, pd.DataFrame(lines), raw)


def columns_of(found: Sequence[Curve]) -> list[str]:
    """Return the parameters that tell curves apart, and hidden width in any case."""
    return [name for name in shown_columns(curve.case for curve in found) if name != "batch_size"]


def faster_said(curve: Curve) -> str:
    """Return in words where CUDA is faster, and never beyond what was measured."""
    return _said(curve.faster, list(curve.speed_ups.values()), 1.0)


def cheaper_said(curve: Curve) -> str:
    """Return in words where CUDA is cheaper; nothing where prices are unknown."""
    if curve.cheaper is None or curve.worth is None:
        return ""
    return _said(curve.cheaper, list(curve.speed_ups.values()), curve.worth)


def _said(passes: Crossover, speed_ups: Sequence[Estimate], worth: float) -> str:
    sizes = passes.batch_sizes
    spanned = f"batch {sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"batch {sizes[0]}"
    if passes.crossings:
        return "; ".join(_crossing(one) for one in passes.crossings)
    above = all(estimate.value > worth for estimate in speed_ups)
    if passes.faster_at_first and passes.faster_at_last and above:
        return f"at all of {spanned}: no crossover in this range"
    if passes.faster_at_first is False and passes.faster_at_last is False:
        return f"at none of {spanned}: no crossover in this range"
    return f"not surely at {spanned}: no crossover in this range"


def _crossing(crossing: Crossing) -> str:
    batch = crossing.batch_size
    at, low, high = (
        None if end is None else count(to_whole(round(end, MOST_DECIMALS)))
        for end, to_whole in ((batch.value, ceil), (batch.low, floor), (batch.high, ceil))
    )
    if low and high:
        span = f"{low} to {high}"
    else:
        span = f"at most {high}" if high else f"{low} or more" if low else "or anywhere in the range"
    verb = "from batch" if crossing.upward else "the CPU again from batch"
    return f"{verb} {at} on ({span})"


def _at_best(curve: Curve) -> str:
    size, best = max(curve.speed_ups.items(), key=lambda one: one[1].value)
    return f"{from_to(best, ' times')} at batch {size}"


def _records(curve: Curve, columns: Sequence[str]) -> Iterable[dict[str, object]]:
    """Return the points of a curve with its first crossings, in SI units."""
    crossings = _first_crossing("crossover", curve.faster)
    if curve.cheaper is not None:
        crossings |= {"worth": curve.worth, **_first_crossing("money_crossover", curve.cheaper)}
    for size, speed_up in curve.speed_ups.items():
        cpu, cuda = curve.cpu[size], curve.cuda[size]
        yield {
            "mode": curve.mode,
            **{name: getattr(curve.case, name) for name in columns},
            "batch_size": size,
            "cpu_case": cpu.step.key,
            "cuda_case": cuda.step.key,
            "cpu_fed": cpu.fed.variant,
            "cuda_fed": cuda.fed.variant,
            "cpu_s": cpu.time.value,
            "cuda_s": cuda.time.value,
            **bounds(speed_up, "speed_up", "speed_up_low", "speed_up_high"),
            **crossings,
        }


def _first_crossing(name: str, passes: Crossover) -> dict[str, object]:
    first = passes.crossings[0].batch_size if passes.crossings else None
    return bounds(first, f"{name}_batch", f"{name}_low", f"{name}_high")


def price_table(found: Sequence[Curve], prices: Mapping[str, float]) -> Table | None:
    """Return what a million samples cost on either device, `prices` being per hour by device."""
    if not found or not {"cpu", "cuda"} <= prices.keys():
        return None
    lines, raw, columns = [], [], columns_of(found)
    for curve in found:
        for size in curve.speed_ups:
            costs = {
                device: MEGA / size * of[size].time.value / HOUR_S * prices[device]
                for device, of in (("cpu", curve.cpu), ("cuda", curve.cuda))
            }
            place = {"batches": curve.mode, **identity(curve.case, columns), "batch": str(size)}
            lines.append(place | {f"{device} per million": number(cost) for device, cost in costs.items()})
            raw.append(place | {f"{device}_cost_per_million": cost for device, cost in costs.items()})
    title = "What a million samples cost (in the currency of --price)"
    caption = "Time per sample times the price of an hour; nothing else of either machine is counted."
    return Table("prices", title, caption, pd.DataFrame(lines), pd.DataFrame(raw), on_screen=False)
