"""The page: one file that answers what people ask of a run, and loads nothing from outside."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

import pandas as pd
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined

from nncore_bench.advise.text import advice_sentences
from nncore_bench.compare.compare import Comparison, compare_cases
from nncore_bench.crossover.table import (
    PINNED,
    RESIDENT,
    Curve,
    cheaper_said,
    columns_of,
    curves,
    faster_said,
)
from nncore_bench.estimate.cells import Cells
from nncore_bench.estimate.source import Source
from nncore_bench.page.drawing import Figure
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
from nncore_bench.runs import replace_file
from nncore_bench.text.format import percentage
from nncore_bench.text.frame import identity
from nncore_bench.text.table import Table
from nncore_bench.variants import words_of

SNIPPET = "window.vegaEmbed = vegaEmbed;"
WIDE = ("shares", "memory", "roofline", "ratios", "history")
FILTERS = ("device", "threads", "phase", "batch", "hidden")
CACHE = "nncore-bench"

WORTH = ("crossover", "cpu_vs_cuda", "prices")
SCALING = ("threads", "scaling")
WHERE = ("phases", "shares", "anatomy", "operators", "accounting", "device", "limits", "counters", "enqueue")
MACHINE = ("ceilings", "quality", "machine", "facts")


@dataclass(frozen=True)
class ShownTable:
    """Hold a table as the template wants it: columns with whether they hold words, and rows of text."""

    name: str
    title: str
    caption: str
    on_screen: bool
    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """Hold a part of the page: what it says first, what is missing and how to get it, and its evidence."""

    anchor: str
    title: str
    lead: Sequence[str] = ()
    missing: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[ShownTable] = ()
    links: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Material:
    """Hold what a page or files are made from.

    `sources` are the runs, oldest first. `command` is what the user typed, and `prices` are of an hour by
    device.
    """

    sources: Sequence[Source]
    command: str
    prices: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def report(self) -> Report:
        """Return the report of the newest run."""
        return render(self.sources[-1], self.prices)

    @cached_property
    def comparison(self) -> Comparison | None:
        """Return how the newest run compares with the one before."""
        return compare_cases(self.sources[-2], self.sources[-1]) if len(self.sources) > 1 else None


@dataclass(frozen=True)
class Told:
    """Hold all that the page is made of: the newest run, its report, and how it compares with the others."""

    source: Source
    report: Report
    cells: Cells
    found: Sequence[Curve]
    prices: Mapping[str, float]
    comparison: Comparison | None
    history: Figure | None
    folder: Path | None


def page(material: Material, folder: Path | None = None) -> str:
    """Return the page of one run, of two compared, or of a run with its history.

    `folder` is where the page will lie, from where traces are linked. Raises ValueError for no run.
    """
    if not material.sources:
        raise ValueError("no run was given")
    told = _told(material, folder)
    sections = _sections(told)
    figures = [figure for section in sections for figure in section.figures]
    text: str = _template().render(
        title=f"Where the time of a training step goes: {told.source.run.host}",
        subtitle=named(told.source.run),
        verdict=_verdict(told),
        filters=_filters(sections),
        sections=sections,
        specs={figure.name: figure.spec for figure in figures},
        bundle=bundle(),
        command=material.command,
        wide=WIDE,
        zip=zip,
    )
    return text


def parts(material: Material) -> tuple[Report, list[Table], list[Figure]]:
    """Return what the page is made of: the report of the newest run, all tables, and all pictures."""
    told = _told(material, None)
    tables = [*told.report.tables, *(told.comparison.tables if told.comparison else ())]
    return told.report, tables, [figure for section in _sections(told) for figure in section.figures]


def _sections(told: Told) -> list[Section]:
    return [of(told) for of in (_worth, _where, _changed, _faster, _machine)]


def _told(material: Material, folder: Path | None) -> Told:
    newest, prices = material.sources[-1], material.prices
    found = curves(newest.cells, prices)
    history = history_figure(material.sources)
    return Told(newest, material.report, newest.cells, found, prices, material.comparison, history, folder)


@cache
def _template() -> Any:  # noqa: ANN401 - jinja2's own type is in no stub
    loader = PackageLoader("nncore_bench.page", "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=False)
    return environment.get_template("page.html.j2")


def bundle() -> str:
    """Return the script of Vega, Vega-Lite and Vega-Embed; it takes seconds to make, and is kept."""
    key = hashlib.sha256(f"{version('vl-convert-python')} {SNIPPET}".encode()).hexdigest()[:16]
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    kept = Path(home) / CACHE / f"vega-{key}.js"
    try:
        return kept.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        made: str = vl_convert.javascript_bundle(SNIPPET).replace("</script", "<\\/script")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        replace_file(kept, made.encode())
    except OSError:
        pass  # a home that cannot be written costs the next page three seconds
    return made


def _verdict(told: Told) -> list[tuple[str, str]]:
    """Return what was found, why, what to do next, and how good the measurement is."""
    slowest, best, worth = told.report.sentences
    lines = [
        ("Verdict", worth),
        ("", best),
        ("Why", slowest),
        ("Next", _next(told)),
        ("Quality", _quality(told)),
    ]
    if told.comparison is not None:
        suspects = len(told.comparison.suspects)
        of = len(told.comparison.results)
        lines.insert(
            0, ("Changed", f"{suspects} of {of} cases are suspected to be slower than in the run before.")
        )
    return lines


def _next(told: Told) -> str:
    findings = told.report.named("findings")
    shown = findings[0].shown if findings else pd.DataFrame()
    if "next step" in shown and len(shown):
        first = shown.iloc[0]
        where = f"{first['finding']}, may save {first['may save']} in {first['worst case']}"
        return f"{first['next step']} ({where})"
    if advice := _advice(told):
        return advice[0]
    return "measure variants of the step: nncore-bench advise"


def _quality(told: Told) -> str:
    steps = [row for row_of in told.cells.values() if (row := row_of.get("step")) and row.time_s]
    widths = [row.time_high_s / row.time_s - 1 for row in steps if row.time_s and row.time_high_s]
    disturbances = [row.disturbance - 1 for row in steps if row.disturbance]
    if not widths or not disturbances:
        return "unknown: no step has an interval"
    return (
        f"the step of {len(steps)} cases is known to ± {percentage(median(widths))} % (median; worst"
        f" {percentage(max(widths))} %) with 95 % intervals between launches; the machine made it"
        f" {percentage(median(disturbances))} % slower than undisturbed (median). Whether figures of this"
        " machine can be believed: nncore-bench selftest"
    )


def _worth(told: Told) -> Section:
    missing = []
    if not told.found:
        none = all(not case.on_device for case in told.cells)
        why = "no CUDA results in this run" if none else "no size was measured on both devices"
        missing.append(f"No crossover: {why} (on a machine with a GPU, --step-devices=cpu,cuda).")
    if not told.prices:
        missing.append("Cost per million samples: give --price cpu=0.10 --price cuda=2.50 (per hour).")
    if told.found and not any(PINNED in words_of(case.variant) for case in told.cells):
        missing.append("Pinned memory was not measured: --step-variants=eager,pinned.")
    lead = [_said(curve, columns_of(told.found)) for curve in told.found if curve.mode == RESIDENT]
    maps = [figure for figure in (speed_up_figure(told.found),) if figure is not None]
    return Section(
        "worth",
        "Is the GPU worth it?",
        lead,
        missing,
        [*throughput_figures(told.cells, told.found), *maps],
        _shown([*told.report.named(*WORTH), *told.report.named(*SCALING, prefix="throughput_")]),
    )


def _said(curve: Curve, columns: Sequence[str]) -> str:
    cell = identity(curve.case, columns)
    where = "".join(
        f", {value if name == 'precision' else f'{name} {value}'}" for name, value in cell.items()
    )
    cheaper = f", and cheaper {said}" if (said := cheaper_said(curve)) else ""
    return f"Batches {curve.mode}{where}: CUDA is faster {faster_said(curve)}{cheaper}."


def _where(told: Told) -> Section:
    run = told.source.run
    roofline = roofline_figure(told.cells, told.source.ceilings)
    figures = (phase_figure(told.cells), memory_figure(told.cells), roofline)
    missing = []
    if not any(record.counters for record in run.cases):
        missing.append("Counters, memory and limits: this run has none (measure it again with this version).")
    if not run.profiles:
        missing.append("Operators: no case was profiled (--step-profile, or nncore-bench profile).")
    return Section(
        "where",
        "Where does the time go?",
        [],
        missing,
        [figure for figure in figures if figure is not None],
        _shown(told.report.named(*WHERE, prefix="operators")),
    )


def _changed(told: Told) -> Section:
    if told.comparison is None:
        return Section(
            "changed",
            "What changed?",
            missing=["One run alone: name an older one before it to see what changed."],
        )
    frame = pd.DataFrame(
        [
            {
                "case": one.case.key,
                "ratio": step.value,
                "low": step.low,
                "high": step.high,
                "outcome": one.outcome,
            }
            for one in told.comparison.results
            if (step := one.ratios.get("step")) is not None
        ],
        columns=["case", "ratio", "low", "high", "outcome"],
    )
    lead = [f"A: {named(told.comparison.base)}", f"B: {named(told.comparison.candidate)}"]
    lead += [line.removeprefix("- ") for line in told.comparison.remarks]
    figures = [figure for figure in (ratio_figure(frame), told.history) if figure is not None]
    return Section("changed", "What changed?", lead, [], figures, _shown(told.comparison.tables))


def _faster(told: Told) -> Section:
    missing = []
    if not told.report.named("findings"):
        missing.append("Findings: none were looked for, since nothing was profiled (--step-profile).")
    if not told.source.gains:
        missing.append("What variants of the step gain, measured side by side: nncore-bench advise.")
    tables = told.report.named("findings", prefix="advice")
    return Section("faster", "How do I make it faster?", _advice(told), missing, [], _shown(tables))


def _advice(told: Told) -> list[str]:
    """Return what variants of the run gain, in sentences; nothing where they are of several cases."""
    alone = told.source.gains if len(told.source.gains) == 1 else {}
    return [line for base, gains in alone.items() for line in advice_sentences(base, gains)]


def _machine(told: Told) -> Section:
    tables = _shown(told.report.named(*MACHINE))
    title = "Machine and measurement"
    return Section("machine", title, told.report.remarks, [], [], tables, list(_traces(told)))


def _traces(told: Told) -> Iterable[tuple[str, str]]:
    """Return what to call each trace of the run, and where it is as seen from the page."""
    run, here = told.source.folder, told.folder
    if run is not None and here is not None:
        for profile in told.source.run.profiles:
            file = run / profile.trace
            if profile.trace and file.exists():
                place = Path(os.path.relpath(file.absolute(), here.absolute())).as_posix()
                yield f"trace of {profile.role or profile.case.key}", quote(place)


def _shown(tables: Iterable[Table]) -> list[ShownTable]:
    return [
        ShownTable(
            table.name,
            table.title,
            table.caption,
            table.on_screen,
            [(str(name), table.holds_words(str(name))) for name in table.shown.columns],
            [[str(cell) for cell in row] for row in table.shown.itertuples(index=False)],
        )
        for table in tables
    ]


def _filters(sections: Sequence[Section]) -> list[tuple[str, list[str]]]:
    """Return what the tables of the page can be filtered by, and the values each of it has."""
    values: dict[str, dict[str, None]] = {}
    for section in sections:
        for table in section.tables:
            for place, (name, _) in enumerate(table.columns):
                if name in FILTERS:
                    values.setdefault(name, {}).update(dict.fromkeys(row[place] for row in table.rows))
    return [(name, sorted(values[name], key=_by_number)) for name in FILTERS if len(values.get(name, ())) > 1]


def _by_number(text: str) -> tuple[bool, float, str]:
    """Order numbers by size, and words after them."""
    return not text.isdecimal(), float(text) if text.isdecimal() else 0.0, text
