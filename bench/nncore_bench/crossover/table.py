"""The batch size from which the GPU is worth it, for each width and way of feeding, in time or money."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from math import ceil, floor
from operator import attrgetter, itemgetter

import pandas as pd

from nncore_bench.cases import DOES_NOT_APPLY, Case
from nncore_bench.crossover.crossing import Crossing, Crossover, crossover
from nncore_bench.estimate.cells import Cells
from nncore_bench.estimate.estimates import Estimate
from nncore_bench.estimate.rows import Row
from nncore_bench.text.format import count, from_to, number
from nncore_bench.text.frame import NUMBERS, case_columns, identity, shown_columns
from nncore_bench.text.table import Column, Table, bounds
from nncore_bench.variants import EAGER, made_faster

RESIDENT = "resident"
MODES = {RESIDENT: (), "copied": ("copy",), "loaded": ("copy", "data")}
"""The phases that feed a step, by the way of feeding; the caption explains each."""

DEVICES = ("cpu", "cuda")
CAPTION = (
    "Median times of the fastest threads and variant on the CPU against the fastest variant on CUDA."
    " resident: the step alone. copied: the step and the copy of its batch (from pinned memory where the"
    " variant pinned was measured and is faster). loaded: on the CPU the DataLoader's next and the step, on"
    " CUDA the loop that fetches, copies and trains, by the clock on the wall. Between two batch sizes times"
    " are taken to be straight on logarithmic axes; the interval is where the bounds of the speed-up cross."
    " Sizes that were measured on one device alone are left out."
)
MEGA = 1_000_000
HOUR_S = 3600.0
MOST_DECIMALS = 6
"""Round batch sizes to this many decimals: smaller differences come from the logarithms."""


@dataclass(frozen=True)
class Point:
    """The time of an iteration in seconds, the case of its step, and the case that feeds it."""

    time: Estimate
    step: Case
    fed: Case


@dataclass(frozen=True)
class Curve:
    """How many times as fast CUDA is as the CPU by batch size, at one width, in one mode.

    `case` has the parameters that all points share; `points` are the fastest by batch size and device. At
    `faster` the speed-up passes 1, at `cheaper`, None without prices, the price of an hour over the CPU's.
    """

    mode: str
    case: Case
    points: Mapping[int, Mapping[str, Point]]
    speed_ups: Mapping[int, Estimate]
    faster: Crossover
    cheaper: Crossover | None = None


def curves(cells: Cells, prices: Mapping[str, float] | None = None) -> list[Curve]:
    """Return a curve for each mode and width with a batch size on both devices; `prices` are per hour."""
    worth = prices["cuda"] / prices["cpu"] if prices and prices.keys() >= set(DEVICES) else None
    found = []
    for mode in MODES:
        for case, of_width in _fastest(cells, mode).items():
            points = {size: of for size, of in sorted(of_width.items()) if len(of) == len(DEVICES)}
            if points:
                speed_ups = {size: of["cpu"].time.over(of["cuda"].time) for size, of in points.items()}
                cheaper = None if worth is None else crossover(speed_ups, worth=worth)
                found.append(Curve(mode, case, points, speed_ups, crossover(speed_ups), cheaper))
    return found


def _fastest(cells: Cells, mode: str) -> dict[Case, dict[int, dict[str, Point]]]:
    """Return the fastest of all thread counts and variants by width, batch size and device."""
    groups: dict[Case, dict[Case, Mapping[str, Row]]] = {}
    for case, row_of in cells.items():
        key = replace(case, threads=DOES_NOT_APPLY, variant=DOES_NOT_APPLY)
        groups.setdefault(key, {})[case] = row_of
    found: dict[Case, dict[int, dict[str, Point]]] = {}
    for key, group in groups.items():
        best = min(_points(group, mode), key=lambda point: point.time.value, default=None)
        if best is not None:
            of_width = found.setdefault(replace(key, batch_size=0, device=DOES_NOT_APPLY), {})
            of_width.setdefault(key.batch_size, {})[key.device] = best
    return found


def _points(group: Cells, mode: str) -> Iterator[Point]:
    """Return the iterations that some cases of one size allow in a mode.

    On CUDA a variant of feeding may feed another step; of the loop's wall time this is known for the plain
    step alone. On the CPU the processes of a DataLoader would slow the step down unseen.
    """
    for (case, row_of), (fed, parts) in product(group.items(), repeat=2):
        feeding = [phase for phase in MODES[mode] if phase != "copy" or case.on_device]
        joins = made_faster(fed.variant) == "feeding" and (mode == "copied" or case.variant == EAGER)
        fits = fed == case or (feeding and case.on_device and joins)
        if fits and not (feeding and fed.form.resident):
            time = _iteration([row_of.get("step"), *map(parts.get, feeding)])
            if time is not None:
                yield Point(time, case, fed)


def _iteration(rows: Sequence[Row | None]) -> Estimate | None:
    """Return the time of an iteration from its step and the phases that feed it; None if one is unknown.

    With `data` among the phases it is the wall time, if known: the device works while the host fetches, so
    the parts add up to more.
    """
    medians = [row.median for row in rows if row and row.median]
    if len(medians) < len(rows) or not (total := reduce(Estimate.plus, medians)).value:
        return None
    wall_s = next((row.wall_s for row in rows if row and row.phase == "data"), None)
    return total.scaled(wall_s / total.value) if wall_s else total


def crossover_table(found: Sequence[Curve]) -> Table | None:
    """Return a line for each mode and width; None where nothing was measured on both devices."""
    if not found:
        return None
    names = columns_of(found)
    columns = [
        Column("batches", "", attrgetter("mode"), words=True),
        *case_columns(names),
        Column("CUDA is faster", "", attrgetter("faster"), in_words, words=True),
        Column("CUDA is cheaper", "", attrgetter("cheaper"), in_words, words=True),
        Column("at best", "", _at_best),
    ]
    if found[0].cheaper is None:
        del columns[-2]
    raw = pd.DataFrame([record for curve in found for record in _records(curve, names)])
    title = f"From which batch size on CUDA is faster{' or cheaper' if found[0].cheaper else ''}"
    return Table.of("crossover", title, CAPTION, columns, found, raw=raw)


def columns_of(found: Sequence[Curve]) -> list[str]:
    """Return the parameters that differ between curves, and always the hidden width."""
    return [name for name in shown_columns(curve.case for curve in found) if name != "batch_size"]


def in_words(passes: Crossover) -> str:
    """Say at which batch sizes CUDA is faster or cheaper, and nothing beyond those measured."""
    if passes.crossings:
        return "; ".join(map(_crossing, passes.crossings))
    sizes = passes.batch_sizes
    where = {True: "at all of", False: "at none of", None: "not surely at"}[passes.faster]
    spanned = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"{sizes[0]}"
    return f"{where} batch {spanned}: no crossover in this range"


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


def _records(curve: Curve, names: Sequence[str]) -> Iterator[dict[str, object]]:
    """Return the points of a curve with its first crossings, in SI units."""
    crossings = _first_crossing("crossover", curve.faster)
    if curve.cheaper is not None:
        crossings |= {"worth": curve.cheaper.worth, **_first_crossing("money_crossover", curve.cheaper)}
    for size, points in curve.points.items():
        yield {
            "mode": curve.mode,
            **{name: getattr(curve.case, name) for name in names},
            "batch_size": size,
            **{f"{device}_case": points[device].step.key for device in DEVICES},
            **{f"{device}_fed": points[device].fed.variant for device in DEVICES},
            **{f"{device}_s": points[device].time.value for device in DEVICES},
            **bounds(curve.speed_ups[size], "speed_up", "speed_up_low", "speed_up_high"),
            **crossings,
        }


def _first_crossing(name: str, passes: Crossover) -> dict[str, object]:
    first = passes.crossings[0].batch_size if passes.crossings else None
    return bounds(first, f"{name}_batch", f"{name}_low", f"{name}_high")


def price_table(found: Sequence[Curve], prices: Mapping[str, float]) -> Table | None:
    """Return what a million samples cost on either device, `prices` being per hour by device."""
    if not found or not prices.keys() >= set(DEVICES):
        return None
    lines = [
        {"batches": curve.mode, **identity(curve.case, columns_of(found)), "batch": str(size)}
        | {device: MEGA / size * points[device].time.value / HOUR_S * prices[device] for device in DEVICES}
        for curve in found
        for size, points in curve.points.items()
    ]
    columns = [
        Column(name, name, itemgetter(name), words=name not in ("batch", *NUMBERS))
        for name in lines[0]
        if name not in DEVICES
    ]
    for device in DEVICES:
        names = f"{device} per million", f"{device}_cost_per_million"
        columns.append(Column(*names, itemgetter(device), number))
    title = "What a million samples cost (in the currency of --price)"
    caption = "Time per sample times the price of an hour; nothing else of either machine is counted."
    return Table.of("prices", title, caption, columns, lines, on_screen=False)
