"""Pictures of several runs: how two compare, and how many went."""

from collections.abc import Sequence
from math import log

import altair as alt
import pandas as pd

from nncore_bench.report.drawing import MOST_ROWS, PALETTE, ROW_HEIGHT, Figure, drawn

OUTCOMES = {"ok": PALETTE[0], "suspect": PALETTE[3], "not comparable": PALETTE[7]}
RATIO = "B / A (above 1: B is slower)"
RELATIVE = "step time relative to the first run"


def ratio_figure(frame: pd.DataFrame) -> Figure | None:
    """Return a forest plot: the ratio of each case's step in two runs, with its interval.

    `frame` has the columns case, ratio, low, high and outcome.
    """
    if frame.empty:
        return None
    said = (
        f"{len(frame)} cases, from {frame['ratio'].min():.3f} to {frame['ratio'].max():.3f} times the step of"
        f" A; {int((frame['outcome'] == 'suspect').sum())} suspect."
    )
    if len(frame) > MOST_ROWS:
        said += f" Shown are the {MOST_ROWS} that differ most."
        farthest = frame["ratio"].map(lambda ratio: abs(log(ratio))).nlargest(MOST_ROWS).index
        frame = frame[frame.index.isin(farthest)]
    base = alt.Chart(frame).encode(y=alt.Y("case:N", sort=None, title=None, axis=alt.Axis(labelLimit=260)))
    domain = alt.X("ratio:Q", scale=alt.Scale(zero=False), title=RATIO)
    colour = alt.Color(
        "outcome:N", title=None, scale=alt.Scale(domain=list(OUTCOMES), range=list(OUTCOMES.values()))
    )
    chart = (
        base.mark_rule().encode(x=alt.X("low:Q", title=RATIO), x2="high:Q", color=colour)
        + base.mark_point(filled=True, size=50).encode(
            x=domain,
            color=colour,
            tooltip=["case", "outcome", alt.Tooltip("ratio:Q", format=".3f")],
        )
        + alt.Chart(pd.DataFrame({"one": [1.0]})).mark_rule(strokeDash=[4, 4]).encode(x="one:Q")
    ).properties(width="container", height=ROW_HEIGHT * len(frame))
    return drawn("ratios", "Run B against run A", said, chart)


def history_figure(frame: pd.DataFrame, steps: Sequence[tuple[str, int]] = ()) -> Figure | None:
    """Return step times over the runs, relative to the first: the median over cases and their middle half.

    `frame` has the columns run (its place in time, from 1), name, device, low, median and high, one line a
    run and device, so that a hundred runs stay as small as one; `steps` are runs with which a level begins.
    """
    if frame["run"].nunique() < 2:  # noqa: PLR2004 - one point is no history
        return None
    base = alt.Chart(frame).encode(
        x=alt.X("run:Q", title="run, oldest first", axis=alt.Axis(tickMinStep=1, format="d")),
        color=alt.Color("device:N", title=None),
    )
    y = alt.Y("median:Q", scale=alt.Scale(zero=False), title=RELATIVE)
    chart = base.mark_area(opacity=0.25).encode(
        y=alt.Y("low:Q", title=RELATIVE), y2="high:Q"
    ) + base.mark_line(point=True).encode(
        y=y, tooltip=["name", "device", alt.Tooltip("median:Q", format=".3f")]
    )
    if steps:
        marks = pd.DataFrame(steps, columns=["device", "run"])
        chart += alt.Chart(marks).mark_rule(strokeDash=[4, 4]).encode(x="run:Q", color="device:N")
    last = frame[frame["run"] == frame["run"].max()]
    told = ", ".join(f"{line.device} {line.median:.3f}" for line in last.itertuples())
    said = f"{frame['run'].nunique()} runs; the newest takes, of the first one's step times, {told}."
    return drawn("history", "Step times over the runs", said, chart.properties(width="container", height=260))
