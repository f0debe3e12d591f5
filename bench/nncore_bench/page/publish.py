"""Write the page, or its tables and pictures as files of their own."""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import vl_convert

from nncore_bench.page.drawing import Figure, Spec
from nncore_bench.page.page import Material, page, sections_of
from nncore_bench.report.report import Report
from nncore_bench.runs import replace_file
from nncore_bench.text.table import Table, fitting

PAGE_FILE = "report.html"
SUMMARY_FILE = "summary.md"
NOT_ALL = "\nNot all tables fit here; the rest is in the run's folder.\n"
PICTURE_WIDTH = 640
PICTURE_SCALE = 2.0


def publish(material: Material, out: Path, formats: Sequence[str]) -> list[Path]:
    """Write some runs in some formats, and return the files; of html alone `out` is the file."""
    if tuple(formats) == ("html",):
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(out, page(material, out.parent).encode())
        return [out]
    out.mkdir(parents=True, exist_ok=True)
    compared = material.comparison.tables if material.comparison else ()
    tables = [*material.report.tables, *compared]
    figures = [figure for section in sections_of(material) for figure in section.figures]
    files: dict[str, bytes] = {}
    if "html" in formats:
        files[PAGE_FILE] = page(material, out).encode()
    if "md" in formats:
        files[SUMMARY_FILE] = summary(material.report).encode()
    for name, of_table in OF_TABLES.items():
        if name in formats:
            files |= {f"{table.name}.{name}": of_table(table).encode() for table in tables}
    for name, of_figure in OF_FIGURES.items():
        if name in formats:
            files |= {f"{figure.name}.{name}": of_figure(figure) for figure in figures}
    for name, content in files.items():
        replace_file(out / name, content)
    return [out / name for name in files]


def summary(report: Report) -> str:
    """Return the report as Markdown of at most 60 kB: sentences first, then as many tables as fit."""
    head = "\n".join(f"- {line}" for line in (*report.sentences, *report.remarks))
    text = f"# Where the time of a training step goes\n\n{head}\n"
    texts = list(accumulate([text, *(f"\n{t.markdown()}" for t in report.tables if t.on_screen)]))
    return fitting([texts[-1], *(fewer + NOT_ALL for fewer in reversed(texts[:-1]))])


def _on_paper(figure: Figure) -> Spec:
    """Return a picture black on white, with its title and a width in pixels."""
    return {**figure.spec, "width": PICTURE_WIDTH, "background": "white", "title": figure.title}


OF_TABLES: Mapping[str, Callable[[Table], str]] = {
    "md": Table.markdown,
    "csv": Table.csv,
    "tex": lambda table: table.shown.to_latex(
        index=False, caption=table.title, label=f"tab:{table.name}", escape=True
    ),
}
OF_FIGURES: Mapping[str, Callable[[Figure], bytes]] = {
    "svg": lambda figure: vl_convert.vegalite_to_svg(_on_paper(figure)).encode(),
    "png": lambda figure: vl_convert.vegalite_to_png(_on_paper(figure), scale=PICTURE_SCALE),
}
