"""Measure known times, injected delays and identical cases on this machine.

Exit code 1 if one is off, and 3 if the machine is too loud to tell.
"""

import argparse
from typing import TYPE_CHECKING

from nncore_bench.commands.answer import FAILED, OK, UNDECIDED, Answer, Say
from nncore_bench.errors import UserError
from nncore_bench.options import count

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nncore_bench.selftest.checks import Check
    from nncore_bench.selftest.resolution import Resolution
    from nncore_bench.text.table import Table

HELP = "measure known times, and tell whether this machine's figures can be trusted"
QUIETER = "close other programs and run it again"
MARKS = {True: "ok  ", False: "FAIL", None: "loud"}
LOUD = "too loud to tell"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--quick", action="store_true", help="fewer cases and worker processes, about 20 s")
    parser.add_argument(
        "--gate",
        action="store_true",
        help="test the gate instead: false alarms on equal code, detection of +5%%; about 70 s per run",
    )
    parser.add_argument("--runs", default="10", metavar="N", help="runs of --gate (default: 10)")


def run(given: argparse.Namespace, say: Say) -> Answer:
    """Print a line for every check as soon as it is done, and how many passed."""
    runs = count("--runs", given.runs)
    from nncore_bench.progress import StandardError, progress_line
    from nncore_bench.selftest.campaign import FULL, QUICK, selftest
    from nncore_bench.selftest.gate import selftest_gate
    from nncore_bench.selftest.resolution import resolution_table

    checks: list[Check] = []
    apart: Table | None = None
    try:
        with progress_line(StandardError()) as line:
            found: Iterable[Check | str | list[Resolution]] = (
                selftest_gate(runs, line) if given.gate else selftest(QUICK if given.quick else FULL, line)
            )
            for check in found:
                line.end()
                if isinstance(check, str):
                    say(check)
                elif isinstance(check, list):
                    apart = resolution_table(check)
                else:
                    say(f"{MARKS[check.passed]}  {check.name}: {check.figure}")
                    checks.append(check)
    except UserError as error:
        raise UserError(f"this machine cannot be tested: {error}") from None
    records = [one.record for one in checks]
    failed = [record for record in records if record["passed"] is False]
    loud = [record for record in records if record["passed"] is None]
    passed = len(checks) - len(failed) - len(loud)
    say(f"{passed} of {len(checks)} checks passed{f', {len(loud)} {LOUD}' if loud else ''}")
    figures = {"tables": {"checks": records}}
    if apart is not None:
        say(apart.markdown())
        figures["tables"]["resolution"] = apart.records()
    if failed:
        return Answer(FAILED, "failed", failed[0], QUIETER, figures)
    if loud:
        return Answer(UNDECIDED, LOUD, loud[0], QUIETER, figures)
    return Answer(OK, "passed", None, None, figures)
