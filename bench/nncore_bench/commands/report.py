"""Print the tables and sentences of a run, put two runs side by side, or write pages and files."""

import argparse
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from nncore_bench.commands.answer import OK, Answer, Say, costliest, records_of
from nncore_bench.commands.arguments import RUN_HELP, add_results
from nncore_bench.errors import UserError
from nncore_bench.options import choices

if TYPE_CHECKING:
    from nncore_bench.estimate.source import Source
    from nncore_bench.text.table import Table

HELP = "print a stored run's tables and sentences, or put the throughput of two runs side by side"
MOST_RUNS = 2
FORMATS = ("html", "md", "csv", "svg", "png", "tex")
DEVICES = ("cpu", "cuda")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    text = f"{RUN_HELP} (default: the newest run; two are put side by side)"
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help=text)
    add_results(parser)
    parser.add_argument("--all", action="store_true", help="also print the checks and the machine's facts")
    parser.add_argument(
        "--out", type=Path, metavar="PATH", help="write a page (report.html), or a folder of several formats"
    )
    parser.add_argument(
        "--format", default="html", metavar="LIST", help=f"{', '.join(FORMATS)} (default: html, a page)"
    )
    parser.add_argument(
        "--price", action="append", default=[], metavar="DEVICE=PRICE", help="price per hour: cuda=2.50"
    )


def run(given: argparse.Namespace, say: Say) -> Answer:
    """Print one or two runs, or write a page or files of any number."""
    formats, prices = choices(FORMATS, "--format", given.format), dict(map(_price, given.price))
    if len(given.runs) > MOST_RUNS and given.out is None:
        raise UserError(
            f"{len(given.runs)} runs were given, but only {MOST_RUNS} can be compared on the screen"
            " (--out report.html takes more)"
        )
    if given.out is None and (formats != ("html",) or prices):
        raise UserError("--format and --price: nothing is written without --out")
    from nncore_bench.estimate.source import read_source
    from nncore_bench.runs import found_run, newest_run
    from nncore_bench.watch.marks import is_watched

    paths = [found_run(path, given.results) for path in given.runs] or [newest_run(given.results)]
    if any(map(is_watched, paths)):
        return watched(paths, say, given.out)
    if given.out is not None:
        return _publish(given, paths, formats, prices, say)
    sources = [read_source(path) for path in paths]
    if len(sources) == MOST_RUNS:
        return _two_runs(sources[0], sources[1], say)
    return _one_run(sources[0], given, say)


def watched(paths: Sequence[Path], say: Say, out: Path | None = None) -> Answer:
    """Print one watched run, or write its page, or print two side by side."""
    from nncore_bench.report.watched import watched_report, watched_versus
    from nncore_bench.watch.marks import is_watched

    if len(paths) == 1:
        report = watched_report(paths[0])
        if out is None:
            say(report.text)
        else:
            from nncore_bench.page.watched import write_watched_page

            write_watched_page(paths[0], out)
            say(f"written: {out}")
        return Answer(OK, report.slowest, report.cause, None, report.figures)
    if out is not None:
        raise UserError("--out: a page has one watched run (two are put side by side on the screen)")
    table = watched_versus(*paths) if all(map(is_watched, paths)) else None
    if table is None:
        names = " and ".join(repr(str(path)) for path in paths)
        raise UserError(f"{names}: two watched runs can be compared, each with steps that were watched")
    say(table.markdown())
    return Answer(OK, None, None, None, records_of([table]))


def _price(text: str) -> tuple[str, float]:
    """Return a device and its price per hour; raises UserError."""
    device, _, price = text.partition("=")
    try:
        value = float(price)
    except ValueError:
        value = 0.0
    if device not in DEVICES or not 0 < value < inf:
        raise UserError(f"--price: {text!r} is not DEVICE=PRICE (example: --price cuda=2.50)")
    return device, value


def _one_run(source: "Source", given: argparse.Namespace, say: Say) -> Answer:
    """Print one run, and rewrite the tables in its folder if that is writable."""
    from nncore_bench.report.facts import named
    from nncore_bench.report.report import render, write_tables

    report = render(source)
    with suppress(OSError):  # a read-only run can still be printed
        write_tables(source.folder, report)
    say(f"{named(source.run)}\n\n{report.full_text if given.all else report.text}")
    return _answer(source, [table for table in report.tables if given.all or table.on_screen])


def _answer(source: "Source", tables: Sequence["Table"]) -> Answer:
    from nncore_bench.report.sentences import slowest

    cause = costliest(tables)
    step = "nncore-bench advise" if cause is None else str(cause["next_step"])
    return Answer(OK, slowest(source.cells), cause, step, records_of(tables))


def _two_runs(base: "Source", candidate: "Source", say: Say) -> Answer:
    from nncore_bench.compare.side_by_side import side_by_side, versus_table

    say(side_by_side(base, candidate))
    table = versus_table(base, candidate)
    again = shlex.join(["nncore-bench", "compare", base.run.id, candidate.run.id])
    return Answer(OK, None, None, again, records_of([table] if table else []))


def _publish(
    given: argparse.Namespace,
    paths: Sequence[Path],
    formats: Sequence[str],
    prices: Mapping[str, float],
    say: Say,
) -> Answer:
    """Write the page or files and print their names; a broken run among several is left out and named."""
    from nncore_bench.estimate.source import read_source
    from nncore_bench.page.page import Material
    from nncore_bench.page.publish import publish

    sources: list[Source] = []
    left_out: list[str] = []
    for path in paths:
        try:
            sources.append(read_source(path))
        except UserError as error:
            if len(paths) == 1:
                raise
            left_out.append(f"left out: {error}")
    if not sources:
        raise UserError(f"none of the {len(paths)} runs can be read ({left_out[0]})")
    material = Material(sources, shlex.join(["nncore-bench", *given.typed]), prices)
    written = publish(material, given.out, formats)
    say("\n".join([*left_out, f"written: {', '.join(map(str, written))}"]))
    return _answer(sources[-1], material.report.tables)
