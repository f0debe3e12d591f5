"""Where the time of a watched run goes: its table and its sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from nncore_bench.cases import OTHER, parts_in
from nncore_bench.estimate.estimates import Estimate
from nncore_bench.estimate.observed import Observed, cost_of_seams, observed
from nncore_bench.findings.checks_of_watched import findings_of_watched
from nncore_bench.findings.finding import Finding
from nncore_bench.findings.text import watched_finding_table
from nncore_bench.report.ranks import folders_of_ranks, late_rank, ranks_of, ranks_table
from nncore_bench.runs import NANO
from nncore_bench.text.format import duration, from_to, micro, percentage, plus_minus, several, unit_for
from nncore_bench.text.table import Column, Table
from nncore_bench.watch.fold import BETWEEN, Watched, watched_of, windows_of
from nncore_bench.watch.marks import DEVICE_FILE, MARKS_FILE, read_facts, read_marks, steps_counted
from nncore_bench.watch.phases import WAITING

WHAT = {
    WAITING: "the loop waits for its DataLoader",
    BETWEEN: "no phase of a step runs and no DataLoader is waited for: batches are made, or the loop logs",
    OTHER: "no phase of a step runs",
}
CAPTION = (
    "Means over the watched steps, which add up; ± is a 95 % interval from how their windows differ. A step"
    " lasts from the end of an optimizer's step to the end of the next, without evaluation and checkpoints."
    " These are times of one process at one time, with all that disturbed it."
)

VERSUS = (
    "Means of the watched steps of each run, at two times: a screen and no verdict, as the machine may have"
    " changed, and the ± of one process does not know of others."
)


@dataclass(frozen=True)
class WatchedReport:
    """What there is to say about a watched run; no tables if no step was watched.

    The first table is that of the phases.
    """

    watched: Watched
    tables: tuple[Table, ...]
    sentences: tuple[str, ...]
    findings: Sequence[Finding]
    facts: Mapping[str, Any]
    more: Mapping[str, Any]

    @property
    def figures(self) -> dict[str, Any]:
        """Return the raw figures: the tables' records, and what surrounds them."""
        tables = {table.name: table.records() for table in self.tables}
        return {"tables": tables, **self.more, "process": self.facts}

    @property
    def cause(self) -> Mapping[str, Any] | None:
        """Return the record of the costliest finding, or else of the phase with the largest share."""
        if self.findings:
            return self.tables[1].records()[0]
        phases = self.tables[0].records()[:-1] if self.tables else []
        return max(phases, key=itemgetter("share"), default=None)

    @property
    def slowest(self) -> str | None:
        """Return the name of the phase with the largest share."""
        phases = self.tables[0].records()[:-1] if self.tables else []
        return str(max(phases, key=itemgetter("share"))["phase"]) if phases else None

    @property
    def text(self) -> str:
        """Return the tables and the sentences."""
        lines = "".join(f"- {line}\n" for line in self.sentences)
        return "\n".join([*(table.markdown() for table in self.tables), lines])


def read_watched(folder: Path, name: str = MARKS_FILE) -> Watched:
    """Return what a folder with marks shows."""
    return watched_of(windows_of(read_marks(folder, name), read_facts(folder).get("names", [])))


def watched_report(folder: Path) -> WatchedReport:
    """Return the report of a folder with marks."""
    facts, steps, watched = read_facts(folder), steps_counted(folder), read_watched(folder)
    more = {
        "costs": costs(watched),
        "outside_s": {name: sum(times) * NANO for name, times in watched.outside_ns.items()},
        "steps": steps,
    }
    lines = observed(watched)
    if not lines:
        return WatchedReport(watched, (), (nothing_watched(facts, steps),), (), facts, more)
    findings = findings_of_watched(lines, watched, facts, steps)
    ranks = ranks_of(folders_of_ranks(folder))
    title = f"Where a step of {facts.get('name', 'a script')} goes"
    on_device = {line.phase: line.mean for line in observed(read_watched(folder, DEVICE_FILE))}
    tables = (
        watched_table(
            lines, f"{title} ({several(_number(watched), 'step')} watched of {steps:,})", on_device
        ),
        watched_finding_table(findings),
        ranks_table(ranks),
    )
    said = [*_sentences(lines, watched, facts), *([late_rank(ranks)] if tables[2] else [])]
    return WatchedReport(watched, tuple(filter(None, tables)), tuple(said), findings, facts, more)


def _number(watched: Watched) -> int:
    return sum(map(len, watched.watched_ns))


def watched_versus(base: Path, candidate: Path) -> Table | None:
    """Return the phases of two watched runs side by side; None if no step of one was watched."""
    one, other = (
        {line.phase: line.mean for line in observed(read_watched(run))} for run in (base, candidate)
    )
    if not one or not other:
        return None
    unit = unit_for([one["step"].value])
    phases = [*parts_in([*one, *other]), "step"]

    def ratio(phase: str) -> Estimate | None:
        return other[phase].over(one[phase]) if phase in one and phase in other else None

    columns = [
        Column("phase", "phase", str, words=True),
        Column(
            f"A {unit.symbol}",
            ("a_s", "a_low_s", "a_high_s"),
            one.get,
            lambda mean: plus_minus(mean, unit.seconds),
        ),
        Column(
            f"B {unit.symbol}",
            ("b_s", "b_low_s", "b_high_s"),
            other.get,
            lambda mean: plus_minus(mean, unit.seconds),
        ),
        Column("B/A", ("ratio", "ratio_low", "ratio_high"), ratio, from_to),
    ]
    return Table.of("watched", "Two watched runs", VERSUS, columns, phases)


def watched_table(lines: Sequence[Observed], title: str, on_device: Mapping[str, Estimate]) -> Table:
    """Return the phases of the watched steps, with their times on the device where these are known."""
    unit = unit_for([lines[-1].mean.value])
    device = Column(
        f"on device {unit.symbol}",
        ("device_s", "device_low_s", "device_high_s"),
        lambda line: on_device.get(line.phase),
        lambda mean: plus_minus(mean, unit.seconds),
    )
    columns = [
        Column("phase", "phase", attrgetter("phase"), words=True),
        Column(
            f"mean {unit.symbol}",
            ("mean_s", "mean_low_s", "mean_high_s"),
            attrgetter("mean"),
            lambda mean: plus_minus(mean, unit.seconds),
        ),
        *([device] if on_device else []),
        Column("share %", "share", attrgetter("share"), percentage),
        Column(f"median {unit.symbol}", "median_s", attrgetter("median_s"), unit.text),
        Column(f"95 % {unit.symbol}", "tail_s", attrgetter("tail_s"), unit.text),
        Column("in % of steps", "of_steps", attrgetter("of_steps"), percentage),
    ]
    return Table.of("watched", title, CAPTION, columns, lines)


def costs(watched: Watched) -> list[dict[str, Any]]:
    """Return what seams add to a step in seconds, marking and idle ones, and what counting it takes."""
    kinds = {"marking": watched.watched_ns, "idle": watched.idle_ns}
    found = {kind: cost_of_seams(windows, watched.bare_ns) for kind, windows in kinds.items()}
    if watched.counting_ns:
        found["none, but steps are counted"] = Estimate(float(np.median(watched.counting_ns)) * NANO)
    return [
        {"seams": kind, "added_s": cost.value, "low_s": cost.low, "high_s": cost.high}
        for kind, cost in found.items()
        if cost is not None
    ]


def _sentences(lines: Sequence[Observed], watched: Watched, facts: Mapping[str, Any]) -> list[str]:
    """Return what there is to say about a watched run, the most important first."""
    *phases, step = lines
    most = max(phases, key=lambda one: one.share)
    what = f" ({WHAT[most.phase]})" if most.phase in WHAT else ""
    largest = (
        f"{most.phase.capitalize()}{what} takes the largest share of a step: {percentage(most.share)} %,"
        f" {duration(most.mean.value)} of {duration(step.mean.value)}."
    )
    said = [largest]
    said += [
        f"Outside of steps: {name}, {several(len(times), 'time')} in the watched windows,"
        f" {duration(float(np.mean(times)) * NANO)} each."
        for name, times in watched.outside_ns.items()
    ]
    for cost in costs(watched):
        if cost["seams"] == "marking":
            bounds = (
                f" ({micro(cost['low_s'])} to {micro(cost['high_s'])} µs)"
                if cost["low_s"] is not None
                else " (too few windows for an interval)"
            )
            counting = f", and counting {micro(np.median(watched.counting_ns) * NANO)} µs to every step"
            more = counting if watched.counting_ns else ""
            said.append(f"Watching adds {micro(cost['added_s'])} µs to a watched step{bounds}{more}.")
    if facts.get("hidden"):
        said.append(
            "A function that torch.compile compiled calls the model, so forward and loss cannot be told apart"
            " from outside of it."
        )
    if facts.get("error"):
        said.append(f"Watching ended early, through an error of its own ({facts['error']}).")
    return said


def nothing_watched(facts: Mapping[str, Any], steps: int) -> str:
    """Return why no step was watched, in one sentence with the way out."""
    skip = facts.get("plan", {}).get("skip", 0)
    if facts.get("error"):
        return f"Nothing was watched, because of an error of nncore-bench's own ({facts['error']})."
    if "torch" not in facts:
        return "Nothing was watched: the process did not import torch."
    if not steps and not facts.get("optimizers"):
        return (
            "Nothing was watched: no optimizer of torch took a step in this process, or fewer than"
            f" {skip} (--skip=0 watches from the first on; a process that it starts is not watched: give that"
            " to nncore-bench run)."
        )
    return (
        f"Nothing was watched: the process ended after {several(steps, 'step')}, of which the first {skip}"
        " are skipped (--skip=0 --length=3 watches short runs)."
    )
