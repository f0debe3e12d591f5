"""The page of a watched run: where its steps went, from its beginning to its end, and what to do about it."""

import shlex
from pathlib import Path

import altair as alt
import pandas as pd

from nncore_bench.page.drawing import Figure, drawn
from nncore_bench.page.page import Section, rendered
from nncore_bench.report.watched import WatchedReport, watched_report
from nncore_bench.runs import NANO, replace_file
from nncore_bench.text.format import percentage
from nncore_bench.watch.fold import Watched

MILLI = 1e-3
KILO = 1024


def write_watched_page(folder: Path, out: Path) -> None:
    """Write the page of a folder with marks."""
    out.parent.mkdir(parents=True, exist_ok=True)
    report = watched_report(folder)
    command = shlex.join(["nncore-bench", "report", str(folder), "--out", str(out)])
    replace_file(out, watched_page(report, folder.name, command).encode())


def watched_page(report: WatchedReport, name: str, command: str) -> str:
    """Return the page of a watched run of a name."""
    first, *others = report.sentences
    tables = {table.name: table for table in report.tables}
    lines = [("Verdict", first)]
    if report.findings and report.cause is not None:
        lines += [("Why", str(report.cause["evidence"])), ("Next", str(report.cause["next_step"]))]
    lines += [("", other) for other in others]
    figures = [one for one in (over_the_run(report.watched), memory(report.watched)) if one is not None]
    sections = [
        Section(
            "where",
            "Where does the time go?",
            [],
            [] if report.tables else [first],
            figures[:1],
            [tables[name] for name in ("watched", "ranks") if name in tables],
        ),
        Section(
            "faster",
            "How do I make it faster?",
            [],
            [] if "findings" in tables else ["Nothing was found that costs time for no reason."],
            [],
            [tables["findings"]] if "findings" in tables else [],
        ),
        Section("memory", "Does memory grow?", [], [], figures[1:], []),
    ]
    title = f"Where the time of a training step goes: {report.facts.get('name', 'a script')}"
    return rendered(title, name, lines, sections, command, ("over_the_run", "memory_of_run"))


def over_the_run(watched: Watched) -> Figure | None:
    """Return the phases of a step, in each window from the beginning of the run to its end."""
    data = pd.DataFrame(
        [
            {"steps": after, "phase": phase, "ms": sum(times) / len(times) * NANO / MILLI, "order": order}
            for after, parts in zip(watched.after, watched.parts_ns, strict=True)
            for order, (phase, times) in enumerate(parts.items())
        ]
    )
    if data.empty:
        return None
    whole = data.groupby("steps")["ms"].sum()
    shares = data.groupby("phase", sort=False)["ms"].sum() / data["ms"].sum()
    largest = max(shares.index, key=shares.__getitem__)
    bars = alt.Chart(data).mark_bar() if len(whole) == 1 else alt.Chart(data).mark_area()
    chart = bars.encode(
        x=alt.X("steps:Q", title="steps of the run", axis=alt.Axis(format="d")),
        y=alt.Y("ms:Q", stack=True, title="ms a step"),
        color=alt.Color("phase:N", sort=list(shares.index), title=None),
        order=alt.Order("order:Q"),
        tooltip=["steps", "phase", alt.Tooltip("ms:Q", format=".3~r")],
    )
    words = (
        f"Mean of each phase in {len(whole)} windows of watched steps, from {whole.min():.3g} to"
        f" {whole.max():.3g} ms a step: "
        + ", ".join(f"{phase} {percentage(share)} %" for phase, share in shares.items())
        + "."
    )
    title = f"{str(largest).capitalize()} takes {percentage(shares[largest])} % of a step"
    return drawn("over_the_run", title, words, chart)


def memory(watched: Watched) -> Figure | None:
    """Return the memory of the process over the run."""
    data = pd.DataFrame(
        [
            {"steps": after, "where": where, "MB": kb * KILO / 1e6}
            for after, resident, allocated in watched.memory_kb
            for where, kb in (("in RAM", resident), ("on the device", allocated))
            if kb
        ]
    )
    if len(watched.memory_kb) < 2:  # noqa: PLR2004 - a line has two ends
        return None
    chart = (
        alt.Chart(data)
        .mark_line(point=True)
        .encode(
            x=alt.X("steps:Q", title="steps of the run", axis=alt.Axis(format="d")),
            y=alt.Y("MB:Q", title="MB", scale=alt.Scale(zero=True)),
            color=alt.Color("where:N", title=None),
            tooltip=["steps", "where", alt.Tooltip("MB:Q", format=",.0f")],
        )
    )
    of = {str(where): list(one["MB"]) for where, one in data.groupby("where")}
    words = "; ".join(f"{where}: from {mb[0]:,.0f} to {mb[-1]:,.0f} MB" for where, mb in of.items())
    return drawn("memory_of_run", f"Memory {words}", f"Memory of the process over the run, {words}.", chart)
