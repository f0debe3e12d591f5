"""The report of a run: its tables, remarks on how it went, and three sentences, as text and files."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

from nncore_bench.advise.text import advice_tables
from nncore_bench.crossover.devices import device_table, sentence
from nncore_bench.crossover.table import crossover_table, curves, price_table
from nncore_bench.estimate.cells import Cells
from nncore_bench.estimate.rows import Row
from nncore_bench.estimate.source import Source
from nncore_bench.findings.finding import Finding
from nncore_bench.findings.findings import findings_of
from nncore_bench.findings.text import finding_table
from nncore_bench.records import CaseRecord, Notice
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
from nncore_bench.report.phases import enqueue_table, share_table, time_table
from nncore_bench.report.quality import check_lines, quality_table
from nncore_bench.report.scaling import scaling_table, threads_table
from nncore_bench.report.sentences import best_throughput, slowest_phase
from nncore_bench.report.throughput import throughput_tables
from nncore_bench.runs import Run, replace_file
from nncore_bench.text.format import several
from nncore_bench.text.table import TEXT_WIDTH, Table, write_files

TABLES_FOLDER = "tables"
NO_BREAK = "\N{NO-BREAK SPACE}"
MOST_NAMED = 8
SEEN: Sequence[tuple[Callable[[CaseRecord], object], str, str]] = (
    (
        lambda record: record.correct.get("denormals"),
        "some parameters or optimizer state are denormal, which slows a step down",
        "look for values that fade to zero, or call torch.set_flush_denormal(True) in your own training",
    ),
    (
        lambda record: record.counters and (record.counters.leaked_bytes or 0) > 0,
        "memory that a step allocates is still alive some steps later",
        "look for what keeps tensors or graphs, such as a loss that is added up without .item()",
    ),
    (
        lambda record: record.correct.get("plain_tf32"),
        (
            "float32 throughout, where a plain script would compute in TF32 in part (as torch does by itself"
            " in convolutions and recurrent layers, or as the subject sets it)"
        ),
        "hold a script of yours against --step-precisions=tf32",
    ),
)
"""Notices from records: the condition, the cause and the next step."""


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
        *assumed_lines(run),
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
        sentences=(slowest_phase(cells), best_throughput(cells), sentence(cells, all_cells, run.profiles)),
        findings=tuple(findings),
    )


def cut_short(run: Run, rows: Sequence[Row]) -> list[str]:
    """Say how far a run got that did not finish; nothing of a finished one."""
    if run.state == "finished":
        return []
    done = max((row.rounds for row in rows), default=0)
    planned = f" of {run.campaign.rounds_planned}" if run.campaign and run.campaign.rounds_planned else ""
    still = " (or is still running)" if run.state == "running" else ""
    rounds = f"{done}{planned} round{'' if f'{done}{planned}' == '1' else 's'}"
    return [f"This run was cut short{still} after {rounds}; figures come from the finished rounds."]


def assumed_lines(run: Run) -> list[str]:
    """Say what was assumed of each subject, or found out about it; the same for several cases once."""
    cases_of: dict[tuple[str, str], list[str]] = {}
    for record in run.cases:
        for what in record.assumed:
            cases_of.setdefault((record.case.subject, what), []).append(record.case.key)
    said: dict[str, list[str]] = {}
    for (subject, what), cases in cases_of.items():
        everywhere = len(cases) == sum(record.case.subject == subject for record in run.cases)
        said.setdefault(subject, []).append(
            what if everywhere else f"{what} ({', '.join(cases[:MOST_NAMED])})"
        )
    return [f"Of {subject}: {'; '.join(found)}." for subject, found in said.items()]


def outcome_lines(cells: Cells) -> list[str]:
    """Return the failed cases, and then the skipped ones, once for each reason."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for case, row_of in cells.items():
        for status, reason in dict.fromkeys(
            (row.status, row.reason) for row in row_of.values() if row.status != "ok"
        ):
            phases = [name for name, row in row_of.items() if (row.status, row.reason) == (status, reason)]
            name = case.key if len(phases) == len(row_of) else f"{case.key} ({', '.join(phases)})"
            grouped.setdefault((status, reason), []).append(name)
    lines = [_line(status, reason, names) for (status, reason), names in grouped.items()]
    return sorted(lines, key=lambda line: line.startswith("Skipped"))


def notice_lines(run: Run) -> list[str]:
    """Return the run's warnings, each with what to do about it."""
    notices = list(run.notices)
    for seen, cause, next_step in SEEN:
        cases = [record.case.key for record in run.cases if seen(record)]
        if cases:
            notices.append(Notice(f"{', '.join(cases)}: {cause}", next_step))
    return [f"Notice: {notice.cause}. Next: {notice.next_step}." for notice in notices]


def _line(status: str, reason: str, names: list[str]) -> str:
    why = reason or "no reason was recorded"
    if status == "skipped":
        return f"Skipped: {several(len(names), 'case')}: {why}."
    return f"Failed: {', '.join(names) if len(names) <= MOST_NAMED else f'{len(names)} cases'}: {why}."


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
