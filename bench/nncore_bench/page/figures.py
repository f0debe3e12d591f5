"""Pictures of one run, each with what it shows in words."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from nncore_bench.cases import DOES_NOT_APPLY, STEP_PHASES, UNATTRIBUTED, Case, Place
from nncore_bench.crossover.crossing import Crossover
from nncore_bench.crossover.table import RESIDENT, Curve
from nncore_bench.estimate.ceilings import Ceilings
from nncore_bench.estimate.cells import Cells
from nncore_bench.page.drawing import INK, MOST_ROWS, ROW_HEIGHT, Figure, drawn, logarithmic
from nncore_bench.report.counters import GIGA, MEGA
from nncore_bench.report.phases import share_of
from nncore_bench.text.format import number, percentage
from nncore_bench.text.frame import series, size


def throughput_figures(cells: Cells, found: Sequence[Curve] = ()) -> list[Figure]:
    """Return a picture for each width: samples/s over the batch size, a line and its interval per device.

    Where a width has one curve of resident batches, its crossover is marked with its interval, which ends
    where the batch sizes end that both devices have.
    """
    resident: dict[int | str, list[Curve]] = {}
    for curve in found:
        if curve.mode == RESIDENT:
            resident.setdefault(curve.case.hidden, []).append(curve)
    crossovers = {width: curves[0].faster for width, curves in resident.items() if len(curves) == 1}
    points: dict[int | str, list[dict[str, object]]] = {}
    for case, row_of in cells.items():
        row = row_of.get("step")
        if row is None or not row.samples_per_s or not row.median_s:
            continue
        points.setdefault(case.hidden, []).append(
            {
                "where": series(case),
                **_keys(case),
                "batch": case.batch_size,
                "samples": row.samples_per_s,
                "low": case.batch_size / (row.median_high_s or row.median_s),
                "high": case.batch_size / (row.median_low_s or row.median_s),
            }
        )
    return [
        _throughput(width, pd.DataFrame(of_width), crossovers.get(width))
        for width, of_width in points.items()
    ]


def _throughput(width: int | str, data: pd.DataFrame, passes: Crossover | None) -> Figure:
    base = alt.Chart(data).encode(
        x=alt.X(
            "batch:Q",
            **logarithmic("batch size"),
            axis=alt.Axis(values=sorted(set(data["batch"])), format="d"),
        ),
        color=alt.Color("where:N", title=None),
    )
    samples = alt.Y("samples:Q", **logarithmic("samples/s"), axis=alt.Axis(format="~s"))
    marks = _marks(passes) if passes and passes.crossings else []
    layers = [
        *marks,
        base.mark_area(opacity=0.25).encode(y=alt.Y("low:Q", **logarithmic("samples/s")), y2="high:Q"),
        base.mark_line(point=True).encode(
            y=samples, tooltip=["where", "batch", alt.Tooltip("samples:Q", format=",.0f")]
        ),
    ]
    chart = alt.layer(*layers).properties(width="container", height=260)
    label = "" if width == DOES_NOT_APPLY else f", hidden {width}"
    best = _largest(data, "samples")
    said = (
        f"Samples per second over the batch size{label}, with 95 % intervals."
        f" Most: {number(best['samples'])} at batch {best['batch']} on {best['where']}."
        + (" The dashed line is the crossover of CPU and CUDA, in its interval." if marks else "")
    )
    return drawn(f"throughput_{width}", f"Throughput{label}", said, chart)


def _marks(passes: Crossover) -> list[alt.Chart]:
    """Return a dashed line at each crossing, and its interval as a band, within the sizes both have."""
    first, last = passes.batch_sizes[0], passes.batch_sizes[-1]
    data = pd.DataFrame(
        [
            {"batch": batch.value, "from": batch.low or first, "to": batch.high or last}
            for batch in (one.batch_size for one in passes.crossings)
        ]
    )
    scale = logarithmic("batch size")
    band = alt.Chart(data).mark_rect(color=INK, opacity=0.1).encode(x=alt.X("from:Q", **scale), x2="to:Q")
    line = alt.Chart(data).mark_rule(strokeDash=[4, 4]).encode(x=alt.X("batch:Q", **scale))
    return [band, line]


def speed_up_figure(found: Sequence[Curve]) -> Figure | None:
    """Return a map of how many times as fast CUDA is, by batch size and width, batches being resident."""
    data = pd.DataFrame(
        [
            {"batch": size_, "hidden": str(curve.case.hidden), "times": speed_up.value}
            for curve in found
            if curve.mode == RESIDENT
            for size_, speed_up in curve.speed_ups.items()
        ]
    )
    if data.empty:
        return None
    base = alt.Chart(data).encode(
        x=alt.X("batch:O", title="batch size", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("hidden:O", sort=None, title="hidden"),  # as text, 128 would come before 32
    )
    colour = alt.Color(
        "times:Q",
        scale=alt.Scale(type="log", domainMid=1, range=["#f7b267", "#f4f4f4", "#8fbbe0"]),
        title="times as fast",
    )
    tooltip = ["batch", "hidden", alt.Tooltip("times:Q", format=",.3~r")]
    text = alt.Text("times:Q", format=",.2~r")
    chart = _map(base, colour, tooltip, text, 12)
    chart = chart.properties(width="container", height=34 * data["hidden"].nunique())
    said = (
        "How many times as fast the step is on CUDA as on the CPU, each at its best: from"
        f" {number(data['times'].min())} to {number(data['times'].max())} over {len(data)} batch sizes and"
        " widths."
    )
    return drawn("speed_up", "CUDA against the CPU", said, chart)


def phase_figure(cells: Cells) -> Figure | None:
    """Return stacked bars: the share of each phase in the step, a bar per case."""
    parts = (*STEP_PHASES, UNATTRIBUTED)
    data = pd.DataFrame(
        [
            {
                **_keys(case),
                "case": _label(case, cells),
                "phase": name,
                "share": share,
                "order": parts.index(name),
            }
            for case, row_of in _first(cells)
            for name in parts
            if (share := share_of(row_of, name)) is not None
        ]
    )
    if data.empty:
        return None
    chart = (
        alt.Chart(data)
        .mark_bar()
        .encode(
            x=alt.X("share:Q", stack=True, axis=alt.Axis(format="%"), title="share of the step"),
            y=alt.Y("case:N", sort=None, title=None, axis=alt.Axis(labelLimit=260)),
            color=alt.Color("phase:N", sort=list(parts), title=None),
            order=alt.Order("order:Q"),
            tooltip=["case", "phase", alt.Tooltip("share:Q", format=".1%")],
        )
        .properties(width="container", height=ROW_HEIGHT * data["case"].nunique())
    )
    means = data.groupby("phase", sort=False)["share"].mean()
    told = ", ".join(f"{name} {percentage(means[name])} %" for name in parts if name in means)
    cases = f"{data['case'].nunique()} cases{_cut(cells)}"
    return drawn("shares", "Share of each phase", f"Mean over {cases}: {told}.", chart)


def memory_figure(cells: Cells) -> Figure | None:
    """Return a map of the most bytes alive in each phase above parameters, state and batches."""
    data = pd.DataFrame(
        [
            {
                **_keys(case),
                "case": _label(case, cells),
                "phase": name,
                "megabytes": row.counters.peak_bytes / MEGA,
            }
            for case, row_of in _first(cells)
            for name in STEP_PHASES
            if (row := row_of.get(name)) is not None and row.counters.peak_bytes is not None
        ]
    )
    if data.empty:
        return None
    base = alt.Chart(data).encode(
        x=alt.X("phase:N", sort=list(STEP_PHASES), title=None, axis=alt.Axis(labelAngle=0, orient="top")),
        y=alt.Y("case:N", sort=None, title=None, axis=alt.Axis(labelLimit=260)),
    )
    colour = alt.Color(
        "megabytes:Q", scale=alt.Scale(type="symlog", range=["#f1f6fb", "#8fbbe0"]), title="MB"
    )
    tooltip = ["case", "phase", alt.Tooltip("megabytes:Q", format=",.3~r")]
    text = alt.Text("megabytes:Q", format=",.3~r")
    chart = _map(base, colour, tooltip, text, 11)
    chart = chart.properties(width="container", height=ROW_HEIGHT * data["case"].nunique())
    most = _largest(data, "megabytes")
    said = f"Most: {number(most['megabytes'])} MB in {most['phase']} of {most['case']}{_cut(cells)}."
    return drawn("memory", "Memory of each phase", said, chart)


def roofline_figure(cells: Cells, ceilings: Mapping[Place, Ceilings]) -> Figure | None:
    """Return FLOP/s over FLOP per byte moved, each phase a point below the machine's limits."""
    points, roofs = [], []
    for case, row_of in cells.items():
        for phase in (*STEP_PHASES, "step"):
            row = row_of.get(phase)
            if row is not None and row.counters.flop and row.counters.moved_bytes and row.flop_per_s:
                points.append(
                    {
                        **_keys(case),
                        "where": series(case),
                        "phase": phase,
                        "case": size(case),
                        "intensity": row.counters.flop / row.counters.moved_bytes,
                        "rate": row.flop_per_s / GIGA,
                    }
                )
    if not points:
        return None
    data = pd.DataFrame(points)
    span = (data["intensity"].min() / 2, data["intensity"].max() * 2)
    for found, ceiling in ceilings.items():
        if ceiling.gemm_flop_per_s and ceiling.cached_bytes_per_s:
            corner = ceiling.gemm_flop_per_s / ceiling.cached_bytes_per_s
            roofs += [
                {
                    "roof": ", ".join(map(str, found)),
                    "intensity": at,
                    "rate": min(ceiling.gemm_flop_per_s, at * ceiling.cached_bytes_per_s) / GIGA,
                }
                for at in sorted({span[0], *([corner] if span[0] < corner < span[1] else []), span[1]})
            ]
    x = alt.X("intensity:Q", **logarithmic("FLOP per byte moved"))
    y = alt.Y("rate:Q", **logarithmic("GFLOP/s"))
    dots = (
        alt.Chart(data)
        .mark_point(filled=True, size=60)
        .encode(
            x=x,
            y=y,
            color=alt.Color("where:N", title=None),
            shape=alt.Shape("phase:N", title=None),
            tooltip=["where", "phase", "case", alt.Tooltip("rate:Q", format=",.3~r")],
        )
    )
    chart: alt.TopLevelMixin = dots
    if roofs:
        lines = (
            alt.Chart(pd.DataFrame(roofs)).mark_line(color=INK, opacity=0.5).encode(x=x, y=y, detail="roof:N")
        )
        chart = lines + dots
    said = (
        f"{len(data)} phases from {number(data['rate'].min())} to {number(data['rate'].max())} GFLOP/s; the"
        " lines are the rate of a matrix product and of a copy within a cache, measured on this machine."
    )
    return drawn(
        "roofline",
        "How near the phases come to the machine's limits",
        said,
        chart.properties(width="container", height=300),
    )


def _map(
    base: alt.Chart, colour: alt.Color, tooltip: list[Any], text: alt.Text, font_size: int
) -> alt.LayerChart:
    """Return coloured cells with their figures in black."""
    figures = base.mark_text(fontSize=font_size).encode(text=text, color=alt.value("black"))
    chart: alt.LayerChart = base.mark_rect().encode(color=colour, tooltip=tooltip) + figures
    return chart


def _largest(data: pd.DataFrame, column: str) -> "pd.Series[Any]":
    """Return the line in which a column is largest."""
    return data.iloc[int(data[column].to_numpy().argmax())]


def _keys(case: Case) -> dict[str, str]:
    """Return what a page filters by."""
    return {
        "device": case.device,
        "threads": str(case.threads),
        "batch": str(case.batch_size),
        "hidden": str(case.hidden),
    }


def _first(cells: Cells) -> list[tuple[Case, Mapping[str, Any]]]:
    return list(cells.items())[:MOST_ROWS]


def _cut(cells: Cells) -> str:
    """Say where not all cases are shown."""
    return f" (shown are the first {MOST_ROWS} of {len(cells)})" if len(cells) > MOST_ROWS else ""


def _label(case: Case, cells: Cells) -> str:
    """Return a case in words; where it ran only if not all ran there."""
    places = {series(other) for other in cells}
    return size(case) if len(places) == 1 else f"{size(case)}, {series(case)}"
