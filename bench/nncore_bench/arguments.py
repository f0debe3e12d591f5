"""The command line of `nncore-bench`: what can be typed, read and checked into a command's record."""

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import NoReturn, TypeAlias

from nncore_bench import options as step_options
from nncore_bench.commands import (
    AdviseOptions,
    CompareOptions,
    GateOptions,
    Given,
    ProfileOptions,
    ReportOptions,
    SelftestOptions,
)
from nncore_bench.options import OptionError, Options, choices, fraction, seconds

UNUSABLE = 2
MOST_RUNS = 2
FORMATS = ("html", "md", "csv", "svg", "png", "tex")
DEVICES = ("cpu", "cuda")
RUN_HELP = "folder of a run, its run.json, or a benchmark.json"
ADVISED = {
    "step_devices": "cpu",
    "step_threads": "1",
    "step_budget": "20",
    "step_launches": "6",
}
"""What advice is for where nothing else is said."""

ADVISED_SIMPLENN = {"step_batch_sizes": "32", "step_hidden": "128"}
ADVISED_OTHER = {"step_batch_sizes": "8"}

NOT_TO_ADVISE = {
    "step_variants": "advice tries all of them",
    "step_precisions": "advice tries all of them, against float32",
}
PROFILE_BUDGET = "10"
"""Seconds of the campaign before the profiler, which tells what that adds to a step."""

Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"  # noqa: SLF001 - the type has no public name
Build: TypeAlias = Callable[[argparse.Namespace], Given]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Leave with one sentence; argparse would put the usage before it."""
        self.exit(UNUSABLE, f"{self.prog}: {message}\n")


def parse(argv: Sequence[str] | None, description: str | None) -> Given:
    """Return the checked command line; leave with exit code 2 if it cannot be used."""
    parser = _Parser(prog="nncore-bench", description=description, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    builders: Mapping[str, tuple[_Parser, Build]] = {
        "report": _report(commands),
        "compare": _compare(commands),
        "profile": _profile(commands),
        "gate": _gate(commands),
        "advise": _advise(commands),
        "selftest": _selftest(commands),
    }
    given = parser.parse_args(argv)
    given.typed = sys.argv[1:] if argv is None else argv
    own, build = builders[given.command]
    try:
        return build(given)
    except OptionError as error:
        own.error(str(error))


def _report(commands: Commands) -> tuple[_Parser, Build]:
    parser = commands.add_parser(
        "report",
        help="print a run's tables and sentences again, or set the throughput of two runs side by side",
        description="Print the tables and sentences of a run again, or set two runs side by side.",
        allow_abbrev=False,
    )
    text = f"{RUN_HELP} (default: the newest run; two are set side by side)"
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help=text)
    _add_results(parser)
    parser.add_argument("--all", action="store_true", help="print the checks and the machine as well")
    parser.add_argument(
        "--out", type=Path, metavar="PLACE", help="write a page (report.html), or a folder of the formats"
    )
    parser.add_argument(
        "--format", default="html", metavar="LIST", help=f"of {', '.join(FORMATS)} (default: html, one page)"
    )
    parser.add_argument(
        "--price", action="append", default=[], metavar="DEVICE=PRICE", help="of an hour: cuda=2.50"
    )

    def build(given: argparse.Namespace) -> Given:
        if len(given.runs) > MOST_RUNS and given.out is None:
            raise OptionError(
                f"{len(given.runs)} runs were given, and at most {MOST_RUNS} can be compared on a screen"
                " (--out report.html takes more)"
            )
        formats = choices(*FORMATS)("--format", given.format)
        if given.out is None and (formats != ("html",) or given.price):
            raise OptionError("--format and --price: nothing is written without --out")
        return ReportOptions(
            tuple(given.runs),
            given.results,
            given.all,
            given.out,
            formats,
            dict(_price(text) for text in given.price),
            shlex.join(["nncore-bench", *given.typed]),
        )

    return parser, build


def _price(text: str) -> tuple[str, float]:
    """Return a device and what an hour of it costs; raises OptionError."""
    device, _, price = text.partition("=")
    try:
        value = float(price)
    except ValueError:
        value = 0.0
    if device not in DEVICES or not 0 < value < inf:
        raise OptionError(f"--price: {text!r} is no price of a device (example: --price cuda=2.50)")
    return device, value


def _compare(commands: Commands) -> tuple[_Parser, Build]:
    parser = commands.add_parser(
        "compare",
        help="compare two runs case by case: how far they are apart, and why",
        description="Compare two runs case by case: how far they are apart, in which phase, and what changed."
        " A screen and no verdict, since the runs were made at different times.",
        allow_abbrev=False,
    )
    parser.add_argument("base", type=Path, metavar="BASE", help=RUN_HELP)
    parser.add_argument("candidate", type=Path, metavar="CAND", help="the same, compared with BASE")
    _add_results(parser)
    parser.add_argument(
        "--fail-above",
        metavar="SHARE",
        help="exit with 1 where a case is surely slower by this share or more, such as 5%%",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the tables here too, as .md and .csv")

    def build(given: argparse.Namespace) -> Given:
        margin = None if given.fail_above is None else fraction("--fail-above", given.fail_above)
        return CompareOptions(given.base, given.candidate, given.results, margin, given.out)

    return parser, build


def _profile(commands: Commands) -> tuple[_Parser, Build]:
    parser = commands.add_parser(
        "profile",
        help="look into the phases of every case: operators, modules, and where the wall clock goes",
        description="Time every case for a short while, then profile each: operators by phase and module, the"
        " account of the step's wall clock, and a trace that Perfetto opens.",
        allow_abbrev=False,
    )
    step_options.declare(parser.add_argument)

    def build(given: argparse.Namespace) -> Given:
        raw = step_options.typed(given)
        raw["step_budget"] = raw["step_budget"] or PROFILE_BUDGET
        return ProfileOptions(Options.build(raw | {"step_profile": True}))

    return parser, build


def _advise(commands: Commands) -> tuple[_Parser, Build]:
    parser = commands.add_parser(
        "advise",
        help="measure the variants of a step side by side, and say which are worth it",
        description="Measure the variants that a step can have against the plain one, in turn, and the best"
        " of them together: speed-up, numerical error, memory, one-time cost, and the code to write.",
        allow_abbrev=False,
    )
    step_options.declare(parser.add_argument)

    def build(given: argparse.Namespace) -> Given:
        raw = step_options.typed(given)
        for name, why in NOT_TO_ADVISE.items():
            if raw[name] is not None:
                raise OptionError(f"--{name.replace('_', '-')}: {why}")
        own = raw["step_subject"] in (None, "simplenn")
        advised = {**ADVISED, **(ADVISED_SIMPLENN if own else ADVISED_OTHER)}
        raw |= {name: raw[name] or value for name, value in advised.items()}
        return AdviseOptions(Options.build(raw))

    return parser, build


def _gate(commands: Commands) -> tuple[_Parser, Build]:
    parser = commands.add_parser(
        "gate",
        help="measure two revisions against each other, and say which cases are proven slower or the same",
        description="Measure two revisions of the code against each other in one go. Exit code 0: nothing is"
        " proven slower; 1: something is; 2: nothing could be decided; 3: undecided, with --strict.",
        allow_abbrev=False,
    )
    parser.add_argument("--base", metavar="REV", help="what is compared with (default: merge base with main)")
    parser.add_argument("--cand", metavar="REV", help="what is judged (default: the working tree)")
    parser.add_argument(
        "--margin",
        default="5%",
        metavar="SHARE",
        help="slower by more is never a pass; of the suite 1.5%%, of block means 5%% or this (5%%)",
    )
    parser.add_argument(
        "--alpha", default="0.5%", metavar="SHARE", help="false alarms per run of equal code (0.5%%)"
    )
    parser.add_argument("--budget", metavar="TIME", help="time for all of it (default: 10m a device)")
    parser.add_argument("--cases", metavar="EXPR", help="choose cases as pytest -k does: 'b32 and not h512'")
    text = "the Python of the {}, in the environment of its torch (default: this one)"
    parser.add_argument("--base-python", metavar="PYTHON", help=text.format("base"))
    parser.add_argument("--cand-python", metavar="PYTHON", help=text.format("candidate"))
    parser.add_argument("--strict", action="store_true", help="exit with 3 where something is undecided")
    parser.add_argument("--fail-on-counters", action="store_true", help="exit with 1 where a counter changed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcome here as JSON")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="append a job summary in Markdown")
    step_options.declare(parser.add_argument)

    def build(given: argparse.Namespace) -> Given:
        raw = step_options.typed(given)
        if raw["step_budget"] is not None:
            raise OptionError("--step-budget: the gate has a time of its own (use --budget)")
        defaults = {"step_devices": "cpu", "step_threads": "1"}
        raw |= {name: value for name, value in defaults.items() if raw[name] is None}
        return GateOptions(
            base=given.base,
            candidate=given.cand,
            margin=fraction("--margin", given.margin),
            alpha=fraction("--alpha", given.alpha),
            budget_s=None if given.budget is None else seconds("--budget", given.budget),
            cases=given.cases,
            base_python=_python("--base-python", given.base_python),
            candidate_python=_python("--cand-python", given.cand_python),
            strict=given.strict,
            fail_on_counters=given.fail_on_counters,
            json=_writable("--json", given.json),
            summary=_writable("--summary", given.summary),
            again=_without(given.typed, ("--cases", "--json", "--summary")),
            # Each launch of a pair spends its seconds on starting: more cases would leave fewer pairs.
            options=replace(Options.build(raw), more_batch_sizes=(), more_hidden=()),
        )

    return parser, build


def _writable(option: str, file: Path | None) -> Path | None:
    """Return a file that can be written when all is done; raises OptionError."""
    if file is not None and (file.is_dir() or not os.access(file.parent, os.W_OK)):
        raise OptionError(
            f"{option}: {str(file)!r} cannot be written (name a file in a folder that is there)"
        )
    return file


def _without(words: Sequence[str], options: Sequence[str]) -> tuple[str, ...]:
    """Return words of a command line without some options, each with the value that belongs to it."""
    left, kept = iter(words), []
    for word in left:
        if word in options:
            next(left, None)
        elif word.partition("=")[0] not in options:
            kept.append(word)
    return tuple(kept)


def _python(option: str, given: str | None) -> str | None:
    """Return the path of a Python that can be run, or None where none was given; raises OptionError."""
    found = None if given is None else shutil.which(given)
    if given is not None and found is None:
        raise OptionError(f"{option}: {given!r} is no program (example: .venv/bin/python)")
    return None if found is None else str(Path(found).absolute())


def _selftest(commands: Commands) -> tuple[_Parser, Build]:
    parser = commands.add_parser(
        "selftest",
        help="measure what is known beforehand, and say whether this machine's figures can be believed",
        description="Measure known times, planted delays and identical cases on this machine: a line a check,"
        " exit code 1 when one fails.",
        allow_abbrev=False,
    )
    parser.add_argument("--quick", action="store_true", help="fewer cases and launches, some 20 s")
    parser.add_argument(
        "--gate",
        action="store_true",
        help="test the gate instead: false alarms on equal code and detection of +5%%, some 70 s a run",
    )
    parser.add_argument("--runs", default="10", metavar="N", help="runs of --gate (default: 10)")

    def build(given: argparse.Namespace) -> Given:
        if not given.runs.isdecimal() or not int(given.runs):
            raise OptionError(f"--runs: {given.runs!r} is no number above 0 (example: 10)")
        return SelftestOptions(given.quick, given.gate, int(given.runs))

    return parser, build


def _add_results(parser: _Parser) -> None:
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="where runs are (default: results)",
    )
