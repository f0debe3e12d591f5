"""Measure two revisions of the code side by side.

Exit codes: 0 nothing is proven slower; 1 something is; 2 nothing could be decided; 3 with --strict, something
is undecided.
"""

import argparse
import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nncore_bench import options as step_options
from nncore_bench.commands.answer import FAILED, INTERRUPTED, OK, UNDECIDED, Answer, Say
from nncore_bench.commands.arguments import add_options, writable
from nncore_bench.errors import UserError
from nncore_bench.options import Options, fraction, seconds

if TYPE_CHECKING:
    from nncore_bench.gate.gate import GateOptions
    from nncore_bench.gate.outcome import Outcome

HELP = "measure two revisions side by side, and tell which cases are proven slower or the same"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--base", metavar="REV", help="reference revision (default: merge base with main)")
    parser.add_argument("--cand", metavar="REV", help="revision to judge (default: the working tree)")
    parser.add_argument(
        "--margin",
        default="5%",
        metavar="SHARE",
        help="slower by more never passes (default: 5%%); the suite has 1.5%%, block means at least 5%%",
    )
    parser.add_argument(
        "--alpha", default="0.5%", metavar="SHARE", help="rate of false alarms on equal code (default: 0.5%%)"
    )
    parser.add_argument("--budget", metavar="TIME", help="total time (default: 10m per device)")
    parser.add_argument("--cases", metavar="EXPR", help="select cases as pytest -k does: 'b32 and not h512'")
    text = "Python interpreter of the {}, with its own torch (default: this one)"
    parser.add_argument("--base-python", metavar="PYTHON", help=text.format("base"))
    parser.add_argument("--cand-python", metavar="PYTHON", help=text.format("candidate"))
    parser.add_argument("--strict", action="store_true", help="exit with 3 if something is undecided")
    parser.add_argument("--fail-on-counters", action="store_true", help="exit with 1 if a counter changed")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="append a job summary in Markdown")
    add_options(parser)


def run(given: argparse.Namespace, say: Say) -> Answer:
    """Judge two revisions and print the outcome."""
    asked, summary = asked_for(given), writable("--summary", given.summary)
    from nncore_bench.gate.gate import gate
    from nncore_bench.gate.text import gate_record, gate_summary, gate_text
    from nncore_bench.progress import StandardError, progress_line

    # A cancelled job cleans up and prints what it knows.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with progress_line(StandardError()) as line:
        outcome = gate(asked, line)
    say(gate_text(outcome))  # first, so that a file that cannot be written loses nothing
    more = {} if summary is None else {summary: gate_summary(outcome)}
    return Answer(_exit_code(outcome, given), None, None, None, gate_record(outcome), more)


def asked_for(given: argparse.Namespace) -> "GateOptions":
    """Check the arguments and return the gate's options; raises UserError."""
    raw = step_options.typed(given)
    if raw["step_budget"] is not None:
        raise UserError("--step-budget: the gate has its own time limit (use --budget)")
    defaults = {"step_devices": "cpu", "step_threads": "1"}
    raw |= {name: value for name, value in defaults.items() if raw[name] is None}
    # Every pair spends seconds on starting processes: more cases would leave time for fewer pairs.
    options = replace(Options.build(raw), more_batch_sizes=(), more_hidden=())
    margin, alpha = fraction("--margin", given.margin), fraction("--alpha", given.alpha)
    budget_s = None if given.budget is None else seconds("--budget", given.budget)
    pythons = _python("--base-python", given.base_python), _python("--cand-python", given.cand_python)
    from nncore_bench.gate.gate import GateOptions

    again = _without(given.typed, ("--cases", "--json", "--summary"))
    return GateOptions(given.base, given.cand, margin, alpha, budget_s, given.cases, *pythons, again, options)


def _without(words: Sequence[str], options: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a command line without the given options and their values."""
    left, kept = iter(words), []
    for word in left:
        if word in options:
            next(left, None)
        elif word.partition("=")[0] not in options:
            kept.append(word)
    return tuple(kept)


def _python(option: str, given: str | None) -> str | None:
    """Return the absolute path of a Python interpreter, or None if none was given; raises UserError."""
    if given is None:
        return None
    if found := shutil.which(given):
        return str(Path(found).absolute())
    raise UserError(f"{option}: {given!r} is not a program (example: .venv/bin/python)")


def _exit_code(outcome: "Outcome", given: argparse.Namespace) -> int:
    if outcome.interrupted:
        return INTERRUPTED
    from nncore_bench.gate.decide import Verdict

    if outcome.verdict == Verdict.SLOWER or (given.fail_on_counters and outcome.changes):
        return FAILED
    return UNDECIDED if given.strict and outcome.verdict == Verdict.UNDECIDED else OK
