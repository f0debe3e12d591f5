"""Pictures of one run, each with what it shows in words."""

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from nncore_bench.cases import DOES_NOT_APPLY, UNATTRIBUTED, Case, Place, parts_in
from nncore_bench.crossover.crossing import Crossover
from nncore_bench.crossover.table import RESIDENT, Curve
from nncore_bench.estimate.ceilings import Ceilings
from nncore_bench.estimate.cells import Cells
from nncore_bench.page.drawing import CASES, INK, MOST_ROWS, ROW_HEIGHT, Figure, drawn, logarithmic
from nncore_bench.report.counters import GIGA, MEGA
from nncore_bench.report.phases import parts_in_any, share_of
from nncore_bench.text.format import number, percentage
from nncore_bench.text.frame import series, size

WHERE = alt.Color("where:N", title=None)
"""A colour for each place that cases ran in."""


def throughput_figures(cells: Cells, found: Sequence[Curve] = ()) -> list[Figure]:
    """Return a picture for each width: samples/s over the batch size, a line and its interval per device.

    Where a width has one curve of resident batches, its crossover is marked with its interval, which ends
    where the batch sizes end that both devices have.
    """
    points = pd.DataFrame(
        [
            {
                **_keys(case),
                "where": series(case),
                "batch": case.batch_size,
                "samples": row.samples_per_s,
                "low": row.samples_per_s * row.median_s / (row.median_high_s or row.median_s),
                "high": row.samples_per_s * row.median_s / (row.median_low_s or row.median_s),
            }
            for case, row_of in cells.items()
            if (row := row_of.get("step")) and row.samples_per_s and row.median_s
        ],
        columns=["device", "threads", "hidden", "where", "batch", "samples", "low", "high"],
    )
    resident = [curve for curve in found if curve.mode == RESIDENT]
    return [
        _throughput(str(width), data, [one.faster for one in resident if str(one.case.hidden) == width])
        for width, data in points.groupby("hidden", sort=False)
    ]


def _throughput(width: str, data: pd.DataFrame, crossovers: Sequence[Crossover]) -> Figure:
    sizes = alt.Axis(values=sorted(set(data["batch"])), format="d")
    base = alt.Chart(data).encode(x=alt.X("batch:Q", **logarithmic("batch size"), axis=sizes), color=WHERE)
    samples = alt.Y("samples:Q", **logarithmic("samples/s"), axis=alt.Axis(format="~s"))
    tooltip = ["where", "batch", alt.Tooltip("samples:Q", format=",.0f")]
    marks = _marks(crossovers[0]) if len(crossovers) == 1 and crossovers[0].crossings else []
    chart = alt.layer(
        *marks,
        base.mark_area(opacity=0.25).encode(y=alt.Y("low:Q", **logarithmic("samples/s")), y2="high:Q"),
        base.mark_line(point=True).encode(y=samples, tooltip=tooltip),
    )
    label = "" if width == DOES_NOT_APPLY else f", hidden {width}"
    best = data.nlargest(1, "samples").iloc[0]
    words = (
        f"Samples per second over the batch size{label}, with 95 % intervals."
        f" Most: {number(best['samples'])} at batch {best['batch']} on {best['where']}."
        + (" The dashed line is the crossover of CPU and CUDA, in its interval." if marks else "")
    )
    return drawn(f"throughput_{width}", f"Throughput{label}", words, chart)


def _marks(crossover: Crossover) -> list[alt.Chart]:
    """Return a dashed line at each crossing, and its interval as a band, within the sizes both have."""
    first, last = crossover.batch_sizes[0], crossover.batch_sizes[-1]
    sizes = [one.batch_size for one in crossover.crossings]
    bounds = [(size_.value, size_.low or first, size_.high or last) for size_ in sizes]
    data = pd.DataFrame(bounds, columns=["batch", "from", "to"])
    scale = logarithmic("batch size")
    band = alt.Chart(data).mark_rect(color=INK, opacity=0.1).encode(x=alt.X("from:Q", **scale), x2="to:Q")
    line = alt.Chart(data).mark_rule(strokeDash=[4, 4]).encode(x=alt.X("batch:Q", **scale))
    return [band, line]


def speed_up_figure(found: Sequence[Curve]) -> Figure | None:
    """Return a map of how many times as fast CUDA is, by batch size and width, with resident batches."""
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
    x = alt.X("batch:O", title="batch size", axis=alt.Axis(labelAngle=0))
    y = alt.Y("hidden:O", sort=None, title="hidden")  # as text, 128 would come before 32
    scale = alt.Scale(type="log", domainMid=1, range=["#f7b267", "#f4f4f4", "#8fbbe0"])
    chart = _map(data, x, y, alt.Color("times:Q", scale=scale, title="times as fast"), "2", 12)
    words = (
        "How many times as fast the step is on CUDA as on the CPU, each at its best: from"
        f" {number(data['times'].min())} to {number(data['times'].max())} over {len(data)} batch sizes and"
        " widths."
    )
    return drawn("speed_up", "CUDA against the CPU", words, chart, 34 * data["hidden"].nunique())


def phase_figure(cells: Cells) -> Figure | None:
    """Return stacked bars: the share of each phase in the step, a bar per case."""
    parts = (*parts_in_any(cells), UNATTRIBUTED)
    data = pd.DataFrame(
        [
            {**_labelled(case, cells), "phase": name, "share": share, "order": order}
            for case, row_of in list(cells.items())[:MOST_ROWS]
            for order, name in enumerate(parts)
            if (share := share_of(row_of, name)) is not None
        ]
    )
    if data.empty:
        return None
    bars = alt.Chart(data).mark_bar()
    chart = bars.encode(
        x=alt.X("share:Q", stack=True, axis=alt.Axis(format="%"), title="share of the step"),
        y=CASES,
        color=alt.Color("phase:N", sort=list(parts), title=None),
        order=alt.Order("order:Q"),
        tooltip=["case", "phase", alt.Tooltip("share:Q", format=".1%")],
    )
    means = data.groupby("phase", sort=False)["share"].mean()
    shares = ", ".join(f"{name} {percentage(means[name])} %" for name in parts if name in means)
    count = data["case"].nunique()
    words = f"Mean over {count} cases{_cut(cells)}: {shares}."
    return drawn("shares", "Share of each phase", words, chart, ROW_HEIGHT * count)


def memory_figure(cells: Cells) -> Figure | None:
    """Return a map of the most bytes alive in each phase above parameters, state and batches."""
    data = pd.DataFrame(
        [
            {**_labelled(case, cells), "phase": name, "megabytes": peak_bytes / MEGA}
            for case, row_of in list(cells.items())[:MOST_ROWS]
            for name in parts_in(row_of)
            if (row := row_of.get(name)) and (peak_bytes := row.counters.peak_bytes) is not None
        ]
    )
    if data.empty:
        return None
    top = alt.Axis(labelAngle=0, orient="top")
    phases = alt.X("phase:N", sort=parts_in_any(cells), title=None, axis=top)
    scale = alt.Scale(type="symlog", range=["#f1f6fb", "#8fbbe0"])
    chart = _map(data, phases, CASES, alt.Color("megabytes:Q", scale=scale, title="MB"), "3", 11)
    most = data.nlargest(1, "megabytes").iloc[0]
    words = f"Most: {number(most['megabytes'])} MB in {most['phase']} of {most['case']}{_cut(cells)}."
    return drawn("memory", "Memory of each phase", words, chart, ROW_HEIGHT * data["case"].nunique())


def roofline_figure(cells: Cells, ceilings: Mapping[Place, Ceilings]) -> Figure | None:
    """Return FLOP/s over FLOP per byte moved, each phase a point below the machine's limits."""
    data = pd.DataFrame(
        [
            {
                **_keys(case),
                "where": series(case),
                "phase": phase,
                "case": size(case),
                "intensity": row.counters.flop / row.counters.moved_bytes,
                "rate": row.flop_per_s / GIGA,
            }
            for case, row_of in cells.items()
            for phase in (*parts_in(row_of), "step")
            if (row := row_of.get(phase))
            and row.counters.flop
            and row.counters.moved_bytes
            and row.flop_per_s
        ]
    )
    if data.empty:
        return None
    x = alt.X("intensity:Q", **logarithmic("FLOP per byte moved"))
    y = alt.Y("rate:Q", **logarithmic("GFLOP/s"))
    points = alt.Chart(data).mark_point(filled=True, size=60)
    chart: alt.TopLevelMixin = points.encode(
        x=x,
        y=y,
        color=WHERE,
        shape=alt.Shape("phase:N", title=None),
        tooltip=["where", "phase", "case", alt.Tooltip("rate:Q", format=",.3~r")],
    )
    roofs = _roofs(ceilings, data["intensity"].min() / 2, data["intensity"].max() * 2)
    if not roofs.empty:
        chart = alt.Chart(roofs).mark_line(color=INK, opacity=0.5).encode(x=x, y=y, detail="roof:N") + chart
    words = (
        f"{len(data)} phases from {number(data['rate'].min())} to {number(data['rate'].max())} GFLOP/s; the"
        " lines are the rate of a matrix product and of a copy within a cache, measured on this machine."
    )
    return drawn("roofline", "How near the phases come to the machine's limits", words, chart, 300)


def _roofs(ceilings: Mapping[Place, Ceilings], first: float, last: float) -> pd.DataFrame:
    """Return the limits of each place between two intensities, with the corner where that is between them."""
    return pd.DataFrame(
        [
            {"roof": ", ".join(map(str, place)), "intensity": at, "rate": min(flop, at * moved) / GIGA}
            for place, ceiling in ceilings.items()
            if (flop := ceiling.gemm_flop_per_s) and (moved := ceiling.cached_bytes_per_s)
            for at in sorted({first, min(max(flop / moved, first), last), last})
        ]
    )


def _map(  # noqa: PLR0913, PLR0917 - what a map is made of
    data: pd.DataFrame, x: alt.X, y: alt.Y, colour: alt.Color, digits: str, font_size: int
) -> alt.LayerChart:
    """Return coloured cells with their figures in black; the last three columns of data show on a hover."""
    base, value = alt.Chart(data).encode(x=x, y=y), str(colour.shorthand)
    tooltip = [*list(data.columns[-3:-1]), alt.Tooltip(value, format=",.3~r")]
    text = alt.Text(value, format=f",.{digits}~r")
    figures = base.mark_text(fontSize=font_size).encode(text=text, color=alt.value("black"))
    chart: alt.LayerChart = base.mark_rect().encode(color=colour, tooltip=tooltip) + figures
    return chart


def _keys(case: Case) -> dict[str, str]:
    """Return what a page filters by."""
    keys = {"device": case.device, "threads": case.threads, "batch": case.batch_size, "hidden": case.hidden}
    return {name: str(value) for name, value in keys.items()}


def _labelled(case: Case, cells: Cells) -> dict[str, str]:
    """Return what a page filters by, and a case in words: where it ran only if not all ran there."""
    everywhere = len({series(other) for other in cells}) == 1
    return {**_keys(case), "case": size(case) if everywhere else f"{size(case)}, {series(case)}"}


def _cut(cells: Cells) -> str:
    """Say where not all cases are shown."""
    return f" (shown are the first {MOST_ROWS} of {len(cells)})" if len(cells) > MOST_ROWS else ""
