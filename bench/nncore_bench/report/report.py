"""The report of a run: its tables, how it went, and three sentences, as text and as files."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

from nncore_bench.advise.text import advice_tables
from nncore_bench.crossover.devices import device_table
from nncore_bench.crossover.table import crossover_table, curves, price_table
from nncore_bench.estimate.source import Source
from nncore_bench.findings.finding import Finding
from nncore_bench.findings.findings import findings_of
from nncore_bench.findings.text import finding_table
from nncore_bench.report.counters import (
    allocator_line,
    anatomy_table,
    ceiling_table,
    counter_table,
    impossible_lines,
    limit_table,
)
from nncore_bench.report.facts import facts_table, machine_table
from nncore_bench.report.operators import account_table, activity_table, operator_tables, profile_lines
from nncore_bench.report.outcomes import cut_short, notice_lines, outcome_lines
from nncore_bench.report.phases import enqueue_table, share_table, time_table
from nncore_bench.report.quality import check_lines, quality_table
from nncore_bench.report.scaling import scaling_table, threads_table
from nncore_bench.report.sentences import three_sentences
from nncore_bench.report.throughput import throughput_tables
from nncore_bench.runs import replace_file
from nncore_bench.text.table import TEXT_WIDTH, Table, write_files

TABLES_FOLDER = "tables"
NO_BREAK = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Report:
    """The tables, remarks, sentences and findings of a run, in the order in which they are printed."""

    tables: tuple[Table, ...]
    remarks: tuple[str, ...]
    sentences: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def text(self) -> str:
        """Return the tables that are printed by default, the remarks, and the sentences last."""
        return _text([table for table in self.tables if table.on_screen], self.remarks, self.sentences)

    @property
    def full_text(self) -> str:
        """Return the same with all tables."""
        return _text(self.tables, self.remarks, self.sentences)

    def chosen(self, names: Collection[str]) -> str:
        """Return the tables of some names, the remarks, and no sentences."""
        return _text(self.named(*names), self.remarks)

    def named(self, *names: str, prefix: str | None = None) -> list[Table]:
        """Return the tables of some names, and those whose name begins with the prefix."""
        return [
            table
            for table in self.tables
            if table.name in names or (prefix is not None and table.name.startswith(prefix))
        ]


def _text(tables: Iterable[Table], *lists: Sequence[str]) -> str:
    parts = [table.markdown() for table in tables]
    parts += ["".join(f"{_wrapped(line)}\n" for line in lines) for lines in lists if lines]
    return "\n".join(parts).rstrip()


def render(source: Source, prices: Mapping[str, float] | None = None) -> Report:
    """Return the report of a run; nothing is written or printed. `prices` are of an hour by device."""
    run, rows, cells, all_cells = source.run, source.rows, source.cells, source.all_cells
    found = curves(cells, prices)
    findings = findings_of(run, rows, source.beside)
    tables = (
        time_table(cells),
        share_table(cells),
        enqueue_table(cells),
        anatomy_table(cells, source.ceilings),
        *operator_tables(run.profiles),
        account_table(run.profiles, cells),
        activity_table(run.profiles, cells),
        finding_table(findings),
        *advice_tables(source.gains),
        *throughput_tables(cells),
        crossover_table(found),
        device_table(cells),
        price_table(found, prices or {}),
        scaling_table(cells),
        threads_table(cells),
        limit_table(cells),
        counter_table(cells),
        ceiling_table(source.ceilings),
        quality_table(cells),
        facts_table(run),
        machine_table(run),
    )
    remarks = (
        *cut_short(run, rows),
        *check_lines(run, cells),
        *profile_lines(run.profiles, cells),
        *impossible_lines(cells),
        *allocator_line(cells, source.beside),
        *outcome_lines(all_cells),
        *notice_lines(run),
    )
    return Report(
        tables=tuple(table for table in tables if table is not None),
        remarks=remarks,
        sentences=three_sentences(cells, all_cells, run.profiles),
        findings=tuple(findings),
    )


def write_tables(folder: Path | None, report: Report) -> None:
    """Write every table as Markdown and as CSV, and the text of the report, into `folder`/tables, if any."""
    if folder is None:
        return
    write_files(folder / TABLES_FOLDER, report.tables)
    replace_file(folder / TABLES_FOLDER / "summary.md", f"{report.text}\n".encode())


def _wrapped(line: str) -> str:
    """Return a line as a wrapped list item, unbroken between a number and its interval, unit or sign."""
    together = re.sub(r"(?<=\d) (?=(s|ms|µs|ns)\b)|(?<=\d) (?=[±%])|(?<=±) ", NO_BREAK, line)
    return fill(together, TEXT_WIDTH, initial_indent="- ", subsequent_indent="  ").replace(NO_BREAK, " ")
