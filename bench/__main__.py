"""Read runs back and test the instrument from the command line: `python -m bench COMMAND`."""

# ruff: noqa: PLC0415 - pandas takes a second to import, and --help and a mistyped option must answer at once.

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from typing import TypeAlias

    from bench.report import Source

    Commands: TypeAlias = argparse._SubParsersAction["_Parser"]  # noqa: SLF001 - the type has no public name

OK, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
MOST_RUNS = 2


@dataclass(frozen=True)
class ReportOptions:
    """Hold what `report` was asked for: no run means the newest, two are compared."""

    runs: tuple[Path, ...]
    results: Path
    everything: bool


@dataclass(frozen=True)
class SelftestOptions:
    """Hold what `selftest` was asked for."""

    quick: bool


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Leave with one sentence; argparse would put the usage before it."""
        self.exit(UNUSABLE, f"{self.prog}: {message}\n")


def parse(argv: Sequence[str] | None = None) -> ReportOptions | SelftestOptions:
    """Return the checked command line; leave with exit code 2 if it cannot be used."""
    parser = _Parser(prog="python -m bench", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    report = _report_parser(commands)
    _selftest_parser(commands)
    given = parser.parse_args(argv)
    if given.command == "selftest":
        return SelftestOptions(given.quick)
    if len(given.runs) > MOST_RUNS:
        report.error(f"{len(given.runs)} runs were given, and at most {MOST_RUNS} can be compared")
    return ReportOptions(tuple(given.runs), given.results, given.all)


def _report_parser(commands: "Commands") -> _Parser:
    report = commands.add_parser(
        "report",
        help="print a run's tables and sentences again, or compare the throughput of two runs",
        description="Print the tables and sentences of a run again, or compare the throughput of two runs.",
        allow_abbrev=False,
    )
    report.add_argument(
        "runs",
        nargs="*",
        type=Path,
        metavar="RUN",
        help="folder of a run, its run.json, or a benchmark.json (default: the newest run; two are compared)",
    )
    report.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="where runs are (default: results)",
    )
    report.add_argument("--all", action="store_true", help="print the checks and the machine as well")
    return report


def _selftest_parser(commands: "Commands") -> None:
    selftest = commands.add_parser(
        "selftest",
        help="measure what is known beforehand, and say whether this machine's figures can be believed",
        description="Measure known times, planted delays and identical cases on this machine: a line a check,"
        " exit code 1 when one fails.",
        allow_abbrev=False,
    )
    selftest.add_argument("--quick", action="store_true", help="fewer cases and launches, half a minute")


def report_text(options: ReportOptions) -> str:
    """Return what `report` prints, and bring the tables in the folder of a single run up to date."""
    from bench.report import compare, read_source
    from bench.runs import newest_run

    runs = [_found(run, options.results) for run in options.runs] or [newest_run(options.results)]
    sources = [read_source(path) for path in runs]
    if len(sources) == MOST_RUNS:
        return compare(*sources)
    return _single(sources[0], everything=options.everything)


def _found(run: Path, results: Path) -> Path:
    """Return the run as typed or, for the bare name that reports print, in the results folder."""
    return results / run if not run.exists() and (results / run).exists() else run


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    try:
        given = parse(argv)
        return _selftest(given) if isinstance(given, SelftestOptions) else _report(given)
    except KeyboardInterrupt:
        return INTERRUPTED


def _selftest(options: SelftestOptions) -> int:
    """Print a line for every check as soon as it is known, and how many failed."""
    from bench.measure.workers import WorkerError
    from bench.progress import ProgressLine, StandardError
    from bench.selftest import FULL, QUICK, selftest

    failed = done = 0
    line = ProgressLine(StandardError())
    try:
        for check in selftest(QUICK if options.quick else FULL, line):
            line.end()
            _print(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.figure}")
            done, failed = done + 1, failed + (not check.passed)
    except WorkerError as error:
        return _refuse("selftest", f"nothing can be measured here: {error}")
    _print(f"{done - failed} of {done} checks passed")
    return FAILED if failed else OK


def _report(options: ReportOptions) -> int:
    from bench.runs import RunError

    try:
        _print(report_text(options))
    except RunError as error:
        return _refuse("report", str(error))
    except OSError as error:
        return _refuse("report", f"{error.filename or 'a file'!r} cannot be read ({error.strerror})")
    return OK


def _refuse(command: str, sentence: str) -> int:
    print(f"python -m bench {command}: {sentence}", file=sys.stderr)  # noqa: T201 - the edge
    return UNUSABLE


def _single(source: "Source", *, everything: bool) -> str:
    """Return the report of one run, after rewriting the tables in its folder where that is allowed."""
    from bench.report import named, render, write_tables

    report = render(source.run, source.rows, source.beside)
    if source.folder is not None:
        with suppress(OSError):  # a run that may only be read is read all the same
            write_tables(source.folder, report)
    return f"{named(source.run)}\n\n{report.full_text if everything else report.text}"


def _print(text: str) -> None:
    """Write to standard output; a reader that has seen enough (`| head`) is no error."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an ASCII terminal has no µ
    try:
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more as it ends; that goes nowhere, too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
