"""The page: one file that answers the questions about a run, and loads nothing from outside."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from nncore_bench.advise.text import advice_sentences
from nncore_bench.compare.compare import Comparison, compare_cases
from nncore_bench.crossover.table import RESIDENT, Curve, columns_of, curves, in_words
from nncore_bench.estimate.source import Source
from nncore_bench.findings.text import costliest
from nncore_bench.page.drawing import Figure, bundle
from nncore_bench.page.figures import (
    memory_figure,
    phase_figure,
    roofline_figure,
    speed_up_figure,
    throughput_figures,
)
from nncore_bench.page.figures_of_runs import history_figure, ratio_figure
from nncore_bench.report.facts import named
from nncore_bench.report.report import Report, render
from nncore_bench.text.format import percentage
from nncore_bench.text.frame import identity
from nncore_bench.text.table import Table

FILTERS = ("device", "threads", "phase", "batch", "hidden")
WIDE = ("shares", "memory", "roofline", "ratios", "history")

WORTH = ("crossover", "cpu_vs_cuda", "prices")
SCALING = ("threads", "scaling")
WHERE = ("phases", "shares", "anatomy", "operators", "accounting", "device", "limits", "counters", "enqueue")
MACHINE = ("ceilings", "quality", "machine", "facts")


@dataclass(frozen=True)
class Section:
    """A part of the page: its first sentences, hints at what was not measured, and its evidence."""

    anchor: str
    title: str
    lead: Sequence[str] = ()
    missing: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    links: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Material:
    """The runs of a page or of files, oldest first.

    `command` is what the user typed; `prices` are per hour by device.
    """

    sources: Sequence[Source]
    command: str
    prices: Mapping[str, float] = field(default_factory=dict)

    @property
    def source(self) -> Source:
        """The newest run."""
        return self.sources[-1]

    @cached_property
    def curves(self) -> Sequence[Curve]:
        """The speed-ups of CUDA over the CPU in the newest run."""
        return curves(self.source.cells, self.prices)

    @cached_property
    def report(self) -> Report:
        """The report of the newest run."""
        return render(self.source, self.prices)

    @cached_property
    def comparison(self) -> Comparison | None:
        """The newest run compared with the one before; None for a single run."""
        return compare_cases(self.sources[-2], self.source) if len(self.sources) > 1 else None


def page(material: Material, folder: Path | None = None) -> str:
    """Return the page of one run, of two compared, or of a run with its history.

    `folder` is where the page will lie, from where traces are linked.
    """
    run = material.source.run
    title = f"Where the time of a training step goes: {run.host}"
    sections = sections_of(material, folder)
    return rendered(title, named(run), _verdict(material), sections, material.command, WIDE)


def rendered(  # noqa: PLR0913, PLR0917 - what a page has
    title: str,
    subtitle: str,
    verdict: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    command: str,
    wide: Sequence[str],
) -> str:
    """Return a page of some sections; `wide` names the pictures that take its whole width."""
    tables = [table for section in sections for table in section.tables]
    left = {one.name: {str(name) for name in one.shown if name in one.words} for one in tables}
    loader = PackageLoader("nncore_bench.page", "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    text: str = environment.get_template("page.html.j2").render(
        title=title,
        subtitle=subtitle,
        verdict=verdict,
        filters=_filters(tables),
        sections=sections,
        specs={figure.name: figure.spec for section in sections for figure in section.figures},
        bundle=bundle(),
        command=command,
        wide=wide,
        words_of=left,
    )
    return text


def sections_of(material: Material, folder: Path | None = None) -> list[Section]:
    """Return the sections of the page that will lie in a folder."""
    return [*(of(material) for of in (_worth, _where, _changed, _faster)), _machine(material, folder)]


def _verdict(material: Material) -> list[tuple[str, str]]:
    """Return the verdict, its reason, the next step, and the quality of the measurement."""
    slowest, best, worth = material.report.sentences
    lines = [("Verdict", worth), ("", best), ("Why", slowest)]
    lines += [("Next", _next(material)), ("Quality", _quality(material))]
    if material.comparison is None:
        return lines
    suspects, of = len(material.comparison.suspects), len(material.comparison.results)
    changed = f"{suspects} of {of} cases are suspected to be slower than in the run before."
    return [("Changed", changed), *lines]


def _next(material: Material) -> str:
    """Return the next step of the costliest finding, or else the measured advice, or else how to get some."""
    measure = "measure variants of the step: nncore-bench advise"
    return costliest(material.report.findings) or next(iter(_advice(material)), measure)


def _quality(material: Material) -> str:
    steps = [row for row_of in material.source.cells.values() if (row := row_of.get("step")) and row.time_s]
    widths = [half / one.value for row in steps if (one := row.time) and (half := one.half_width) is not None]
    disturbances = [row.disturbance - 1 for row in steps if row.disturbance]
    if not widths or not disturbances:
        return "unknown: no step has an interval"
    return (
        f"the step of {len(steps)} cases is known to ± {percentage(median(widths))} % (median; worst"
        f" {percentage(max(widths))} %) with 95 % intervals between launches; the machine made it"
        f" {percentage(median(disturbances))} % slower than undisturbed (median). Whether figures of this"
        " machine can be believed: nncore-bench selftest"
    )


def _worth(material: Material) -> Section:
    missing = []
    if not material.curves:
        none = all(not case.on_device for case in material.source.cells)
        why = "no CUDA results in this run" if none else "no size was measured on both devices"
        missing.append(f"No crossover: {why} (on a machine with a GPU, --step-devices=cpu,cuda).")
    if not material.prices:
        missing.append("Cost per million samples: give --price cpu=0.10 --price cuda=2.50 (per hour).")
    if material.curves and not any(case.form.pinned for case in material.source.cells):
        missing.append("Pinned memory was not measured: --step-variants=eager,pinned.")
    lead = [_said(curve, columns_of(material.curves)) for curve in material.curves if curve.mode == RESIDENT]
    return Section(
        "worth",
        "Is the GPU worth it?",
        lead,
        missing,
        _drawn(*throughput_figures(material.source.cells, material.curves), speed_up_figure(material.curves)),
        [*material.report.named(*WORTH), *material.report.named(*SCALING, prefix="throughput_")],
    )


def _said(curve: Curve, columns: Sequence[str]) -> str:
    cell = identity(curve.case, columns)
    where = "".join(
        f", {value if name == 'precision' else f'{name} {value}'}" for name, value in cell.items()
    )
    cheaper = f", and cheaper {in_words(curve.cheaper)}" if curve.cheaper else ""
    return f"Batches {curve.mode}{where}: CUDA is faster {in_words(curve.faster)}{cheaper}."


def _where(material: Material) -> Section:
    run = material.source.run
    cells, missing = material.source.cells, []
    if not any(record.counters for record in run.cases):
        missing.append("Counters, memory and limits: this run has none (measure it again with this version).")
    if not run.profiles:
        missing.append("Operators: no case was profiled (--step-profile, or nncore-bench profile).")
    return Section(
        "where",
        "Where does the time go?",
        [],
        missing,
        _drawn(phase_figure(cells), memory_figure(cells), roofline_figure(cells, material.source.ceilings)),
        material.report.named(*WHERE, prefix="operators"),
    )


def _changed(material: Material) -> Section:
    if material.comparison is None:
        alone = "One run alone: name an older one before it to see what changed."
        return Section("changed", "What changed?", missing=[alone])
    frame = pd.DataFrame(
        [
            (one.case.key, step.value, step.low, step.high, one.outcome)
            for one in material.comparison.results
            if (step := one.ratios.get("step")) is not None
        ],
        columns=["case", "ratio", "low", "high", "outcome"],
    )
    lead = [f"A: {named(material.comparison.base)}", f"B: {named(material.comparison.candidate)}"]
    lead += [line.removeprefix("- ") for line in material.comparison.remarks]
    figures = _drawn(ratio_figure(frame), history_figure(material.sources))
    return Section("changed", "What changed?", lead, [], figures, material.comparison.tables)


def _faster(material: Material) -> Section:
    missing = []
    if not material.report.named("findings"):
        missing.append("Findings: none were looked for, since nothing was profiled (--step-profile).")
    if not material.source.gains:
        missing.append("What variants of the step gain, measured side by side: nncore-bench advise.")
    tables = material.report.named("findings", prefix="advice")
    return Section("faster", "How do I make it faster?", _advice(material), missing, [], tables)


def _advice(material: Material) -> list[str]:
    """Return the gains of the run's variants as sentences; none if they belong to several cases."""
    alone = material.source.gains if len(material.source.gains) == 1 else {}
    return [line for base, gains in alone.items() for line in advice_sentences(base, gains)]


def _machine(material: Material, folder: Path | None) -> Section:
    tables, links = material.report.named(*MACHINE), list(_traces(material.source, folder))
    return Section("machine", "Machine and measurement", material.report.remarks, [], [], tables, links)


def _filters(tables: Iterable[Table]) -> list[tuple[str, list[str]]]:
    """Return the columns by which tables can be filtered, each with its values."""
    shown = [table.shown for table in tables]
    values = {name: {cell for one in shown if name in one for cell in one[name]} for name in FILTERS}
    return [(name, sorted(found, key=_by_number)) for name, found in values.items() if len(found) > 1]


def _by_number(text: str) -> tuple[bool, float, str]:
    """Order numbers by size, and words after them."""
    return not text.isdecimal(), float(text) if text.isdecimal() else 0.0, text


def _traces(source: Source, here: Path | None) -> Iterable[tuple[str, str]]:
    """Return the title of each trace of a run, and its path as seen from the page."""
    run = source.folder
    if run is not None and here is not None:
        for profile in source.run.profiles:
            file = run / profile.trace
            if profile.trace and file.exists():
                path = Path(os.path.relpath(file.absolute(), here.absolute())).as_posix()
                yield f"trace of {profile.role or profile.case.key}", quote(path)


def _drawn(*figures: Figure | None) -> list[Figure]:
    """Return the figures for which there were data."""
    return [figure for figure in figures if figure is not None]
