"""Measure two revisions of the code against each other in one go.

Exit code 0: nothing is proven slower; 1: something is; 2: nothing could be decided; 3: undecided, with
--strict.
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

HELP = "measure two revisions against each other, and say which cases are proven slower or the same"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
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
    parser.add_argument("--summary", type=Path, metavar="FILE", help="append a job summary in Markdown")
    add_options(parser)


def run(given: argparse.Namespace, say: Say) -> Answer:
    """Judge two revisions and say what was found."""
    asked, summary = asked_for(given), writable("--summary", given.summary)
    from nncore_bench.gate.gate import gate
    from nncore_bench.gate.text import gate_record, gate_summary, gate_text
    from nncore_bench.progress import StandardError, progress_line

    # a cancelled job cleans up and says what it knows
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with progress_line(StandardError()) as line:
        outcome = gate(asked, line)
    say(gate_text(outcome))  # first of all: a file that cannot be written costs nothing that is known
    more = {} if summary is None else {summary: gate_summary(outcome)}
    return Answer(_exit_code(outcome, given), None, None, None, gate_record(outcome), more)


def asked_for(given: argparse.Namespace) -> "GateOptions":
    """Return what was asked for, checked."""
    raw = step_options.typed(given)
    if raw["step_budget"] is not None:
        raise UserError("--step-budget: the gate has a time of its own (use --budget)")
    defaults = {"step_devices": "cpu", "step_threads": "1"}
    raw |= {name: value for name, value in defaults.items() if raw[name] is None}
    # Each launch of a pair spends its seconds on starting: more cases would leave fewer pairs.
    options = replace(Options.build(raw), more_batch_sizes=(), more_hidden=())
    margin, alpha = fraction("--margin", given.margin), fraction("--alpha", given.alpha)
    budget_s = None if given.budget is None else seconds("--budget", given.budget)
    pythons = _python("--base-python", given.base_python), _python("--cand-python", given.cand_python)
    from nncore_bench.gate.gate import GateOptions

    again = _without(given.typed, ("--cases", "--json", "--summary"))
    return GateOptions(given.base, given.cand, margin, alpha, budget_s, given.cases, *pythons, again, options)


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
    """Return the path of a Python that can be run, or None where none was given; raises UserError."""
    found = None if given is None else shutil.which(given)
    if given is not None and found is None:
        raise UserError(f"{option}: {given!r} is no program (example: .venv/bin/python)")
    return None if found is None else str(Path(found).absolute())


def _exit_code(outcome: "Outcome", given: argparse.Namespace) -> int:
    if outcome.interrupted:
        return INTERRUPTED
    from nncore_bench.gate.decide import Verdict

    if outcome.verdict == Verdict.SLOWER or (given.fail_on_counters and outcome.changes):
        return FAILED
    return UNDECIDED if given.strict and outcome.verdict == Verdict.UNDECIDED else OK
