"""Pictures of several runs: how two compare, and the step's time over many."""

from collections.abc import Sequence
from math import log
from statistics import median

import altair as alt
import pandas as pd

from nncore_bench.estimate.source import Source
from nncore_bench.page.drawing import CASES, MOST_ROWS, PALETTE, ROW_HEIGHT, Figure, drawn

OUTCOMES = {"ok": PALETTE[0], "suspect": PALETTE[3], "not comparable": PALETTE[7]}
RATIO = "B / A (above 1: B is slower)"


def ratio_figure(frame: pd.DataFrame) -> Figure | None:
    """Return a forest plot: the ratio of each case's step in two runs, with its interval.

    `frame` has the columns case, ratio, low, high and outcome.
    """
    if frame.empty:
        return None
    words = (
        f"{len(frame)} cases, from {frame['ratio'].min():.3f} to {frame['ratio'].max():.3f} times the step of"
        f" A; {int((frame['outcome'] == 'suspect').sum())} suspect."
    )
    if len(frame) > MOST_ROWS:
        words += f" Shown are the {MOST_ROWS} that differ most."
        farthest = frame["ratio"].map(lambda ratio: abs(log(ratio))).nlargest(MOST_ROWS).index
        frame = frame[frame.index.isin(farthest)]
    base = alt.Chart(frame).encode(y=CASES)
    scale = alt.Scale(domain=list(OUTCOMES), range=list(OUTCOMES.values()))
    colour = alt.Color("outcome:N", title=None, scale=scale)
    ratio = alt.X("ratio:Q", scale=alt.Scale(zero=False), title=RATIO)
    tooltip = ["case", "outcome", alt.Tooltip("ratio:Q", format=".3f")]
    chart = (
        base.mark_rule().encode(x=alt.X("low:Q", title=RATIO), x2="high:Q", color=colour)
        + base.mark_point(filled=True, size=50).encode(x=ratio, color=colour, tooltip=tooltip)
        + alt.Chart(pd.DataFrame({"one": [1.0]})).mark_rule(strokeDash=[4, 4]).encode(x="one:Q")
    )
    return drawn("ratios", "Run B against run A", words, chart, ROW_HEIGHT * len(frame))


def history_figure(sources: Sequence[Source]) -> Figure | None:
    """Return the step's time over more than two runs, oldest first; None for fewer.

    One line per device: the median over its cases of the time relative to the first run that has the case.
    """
    if len(sources) <= 2:  # noqa: PLR2004 - two runs are compared case by case
        return None
    first: dict[object, float] = {}  # by case
    points = []
    for number, source in enumerate(sources, 1):
        ratios: dict[str, list[float]] = {}
        for row in source.rows:
            if row.phase == "step" and row.time_s:
                ratio = row.time_s / first.setdefault(row.case, row.time_s)
                ratios.setdefault(row.case.device, []).append(ratio)
        points += [(number, source.run.id, device, median(of_device)) for device, of_device in ratios.items()]
    data = pd.DataFrame(points, columns=["run", "name", "device", "time"])
    lines = alt.Chart(data).mark_line(point=True)
    chart = lines.encode(
        x=alt.X("run:Q", title="run, oldest first", axis=alt.Axis(tickMinStep=1, format="d")),
        y=alt.Y("time:Q", scale=alt.Scale(zero=False), title="step time relative to the first run"),
        color=alt.Color("device:N", title=None),
        tooltip=["name", "device", alt.Tooltip("time:Q", format=".3f")],
    )
    newest = ", ".join(f"{device} {time:.3f}" for number, _, device, time in points if number == len(sources))
    words = f"{len(sources)} runs; the newest takes, of the first one's step times, {newest}."
    return drawn("history", "Step times over the runs", words, chart)
