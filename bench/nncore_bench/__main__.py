"""Read runs back, compare and explain them, and test the instrument: `nncore-bench COMMAND`."""

# ruff: noqa: PLC0415 - pandas takes a second to import, and --help and a mistyped option must answer at once.

import os
import signal
import sys
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING

from nncore_bench.arguments import MOST_RUNS, UNUSABLE, parse
from nncore_bench.commands import (
    AdviseOptions,
    CompareOptions,
    GateOptions,
    Given,
    ProfileOptions,
    ReportOptions,
    SelftestOptions,
)

if TYPE_CHECKING:
    from pathlib import Path

    from nncore_bench.report import Comparison, Source
    from nncore_bench.verdict.truth import Check

OK, FAILED, UNDECIDED, INTERRUPTED = 0, 1, 3, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    try:
        return _run(parse(argv, __doc__))
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(given: Given) -> int:
    match given:
        case SelftestOptions():
            return _selftest(given)
        case ProfileOptions():
            return _profile(given)
        case GateOptions():
            return _gate(given)
        case AdviseOptions():
            return _advise(given)
        case CompareOptions():
            return _compare(given)
        case ReportOptions():
            return _report(given)


def _selftest(options: SelftestOptions) -> int:
    """Print a line for every check as soon as it is known, and how many failed."""
    from nncore_bench.measure.workers import WorkerError
    from nncore_bench.progress import ProgressLine, StandardError
    from nncore_bench.selftest import FULL, QUICK, selftest
    from nncore_bench.selftest_gate import selftest_gate
    from nncore_bench.stages import GateError

    failed = done = 0
    line = ProgressLine(StandardError())
    found: Iterable[Check | str] = (
        selftest_gate(options.runs, line)
        if options.gate
        else selftest(QUICK if options.quick else FULL, line)
    )
    try:
        for check in found:
            line.end()
            if isinstance(check, str):
                _print(check)
                continue
            _print(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.figure}")
            done, failed = done + 1, failed + (not check.passed)
    except (WorkerError, GateError) as error:
        line.end()
        return _refuse("selftest", f"nothing can be measured here: {error}")
    _print(f"{done - failed} of {done} checks passed")
    return FAILED if failed else OK


def _profile(given: ProfileOptions) -> int:
    """Profile the cases of the grid; exit code 2 where none could be."""
    from nncore_bench.measure.workers import WorkerError
    from nncore_bench.options import OptionError
    from nncore_bench.profiling import profile
    from nncore_bench.progress import ProgressLine, StandardError

    line = ProgressLine(StandardError())
    try:
        profiled = profile(given.options, line)
    except (OptionError, WorkerError) as error:
        line.end()
        return _refuse("profile", str(error))
    line.end()
    _print(profiled.text)
    return OK if profiled.complete else UNUSABLE


def _advise(given: AdviseOptions) -> int:
    """Measure the variants of a step and print what they gain."""
    from nncore_bench.advise import advise
    from nncore_bench.measure.workers import WorkerError
    from nncore_bench.options import OptionError
    from nncore_bench.progress import ProgressLine, StandardError
    from nncore_bench.report.advice import advice_text

    line = ProgressLine(StandardError())
    try:
        advice = advise(given.options, line)
    except (OptionError, WorkerError) as error:
        line.end()
        return _refuse("advise", str(error))
    line.end()
    _print(
        advice_text(
            advice.base,
            advice.plain_s,
            advice.found,
            advice.together,
            advice.assumed,
            advice.seconds,
            advice.folders,
        )
    )
    return OK


def _compare(options: CompareOptions) -> int:
    """Compare two runs; exit code 1 only where that was asked for, 2 where something cannot be compared."""
    from nncore_bench.report import compare_cases, read_source, write_comparison
    from nncore_bench.runs import RunError, found_run
    from nncore_bench.verdict.explain import MARGIN

    try:
        base, candidate = (
            read_source(found_run(run, options.results)) for run in (options.base, options.candidate)
        )
        comparison = compare_cases(base, candidate, options.fail_above or MARGIN)
        if options.out is not None:
            write_comparison(options.out, comparison)
    except RunError as error:
        return _refuse("compare", str(error))
    except OSError as error:
        return _refuse("compare", f"{error.filename or 'a file'!r} cannot be used ({error.strerror})")
    _print(comparison.text)
    return _exit_code(comparison, fail=options.fail_above is not None)


def _exit_code(comparison: "Comparison", *, fail: bool) -> int:
    """Return 1 where something is slower and that fails, 2 where too little could be compared, else 0."""
    from nncore_bench.verdict.explain import NOT_COMPARABLE

    if fail and comparison.suspects:
        return FAILED
    judged = [result for result in comparison.results if result.outcome != NOT_COMPARABLE]
    unusable = not comparison.results or bool(comparison.missing) or (fail and not judged)
    unusable = unusable or (comparison.same_machine and len(judged) < len(comparison.results))
    return UNUSABLE if unusable else OK


def _gate(options: GateOptions) -> int:
    """Judge two revisions, print what was found, and write what was asked for."""
    from nncore_bench.gate import gate
    from nncore_bench.measure.revisions import RevisionError
    from nncore_bench.measure.workers import WorkerError
    from nncore_bench.options import OptionError
    from nncore_bench.progress import ProgressLine, StandardError
    from nncore_bench.report.verdicts import gate_record, gate_summary, gate_text
    from nncore_bench.runs import plain_json, replace_file
    from nncore_bench.stages import GateError

    line = ProgressLine(StandardError())
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # a cancelled job cleans up and says what it knows
    try:
        outcome = gate(options, line)
        line.end()
        _print(gate_text(outcome))  # first of all: a file that cannot be written costs nothing that is known
        if options.json is not None:
            replace_file(options.json, plain_json(gate_record(outcome)))
        if options.summary is not None:
            with options.summary.open("a") as summary:
                summary.write(gate_summary(outcome))
    except (GateError, OptionError, RevisionError, WorkerError) as error:
        line.end()
        return _refuse("gate", str(error))
    except OSError as error:
        return _refuse("gate", f"{error.filename or 'a file'!r} cannot be used ({error.strerror})")
    except Exception:  # noqa: BLE001 - whatever it is, it is no regression, which an exit code of 1 would say
        traceback.print_exc()
        return UNUSABLE
    if outcome.interrupted:
        return INTERRUPTED
    if outcome.of("slower") or (options.fail_on_counters and outcome.changes):
        return FAILED
    return UNDECIDED if options.strict and outcome.of("undecided") else OK


def _report(options: ReportOptions) -> int:
    from nncore_bench.runs import RunError

    try:
        _print(report_text(options) if options.out is None else published(options, options.out))
    except RunError as error:
        return _refuse("report", str(error))
    except OSError as error:
        return _refuse("report", f"{error.filename or 'a file'!r} cannot be used ({error.strerror})")
    return OK


def report_text(options: ReportOptions) -> str:
    """Return what `report` prints, and bring the tables in the folder of a single run up to date."""
    from nncore_bench.report import read_source, side_by_side
    from nncore_bench.runs import found_run, newest_run

    runs = [found_run(run, options.results) for run in options.runs] or [newest_run(options.results)]
    sources = [read_source(path) for path in runs]
    if len(sources) == MOST_RUNS:
        return side_by_side(*sources)
    return _single(sources[0], everything=options.everything)


def published(options: ReportOptions, out: "Path") -> str:
    """Write what was asked for and say so; a broken run among several is left out, and named."""
    from nncore_bench.report import Source, read_source
    from nncore_bench.report.page import Material
    from nncore_bench.report.published import publish
    from nncore_bench.runs import RunError, found_run, newest_run

    paths = [found_run(run, options.results) for run in options.runs] or [newest_run(options.results)]
    sources: list[Source] = []
    told: list[str] = []
    for path in paths:
        try:
            sources.append(read_source(path))
        except RunError as error:
            if len(paths) == 1:
                raise
            told.append(f"left out: {error}")
    if not sources:
        raise RunError(f"none of the {len(paths)} runs can be read ({told[0]})")
    material = Material(sources, options.typed, options.prices)
    written = publish(material, out, options.formats)
    return "\n".join([*told, f"written: {', '.join(map(str, written))}"])


def _single(source: "Source", *, everything: bool) -> str:
    """Return the report of one run, after rewriting the tables in its folder where that is allowed."""
    from nncore_bench.report import named, render, write_tables

    report = render(source.run, source.rows, source.beside, source.gains)
    if source.folder is not None:
        with suppress(OSError):  # a run that may only be read is read all the same
            write_tables(source.folder, report)
    return f"{named(source.run)}\n\n{report.full_text if everything else report.text}"


def _refuse(command: str, sentence: str) -> int:
    print(f"nncore-bench {command}: {sentence}", file=sys.stderr)  # noqa: T201 - the edge
    return UNUSABLE


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
