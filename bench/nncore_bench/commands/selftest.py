"""Measure known times, planted delays and identical cases on this machine; exit code 1 when one is off."""

import argparse
from typing import TYPE_CHECKING

from nncore_bench.commands.answer import FAILED, OK, Answer, Say
from nncore_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nncore_bench.selftest.checks import Check

HELP = "measure what is known beforehand, and say whether this machine's figures can be believed"
QUIETER = "end other programs and run it again"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--quick", action="store_true", help="fewer cases and launches, some 20 s")
    parser.add_argument(
        "--gate",
        action="store_true",
        help="test the gate instead: false alarms on equal code and detection of +5%%, some 70 s a run",
    )
    parser.add_argument("--runs", default="10", metavar="N", help="runs of --gate (default: 10)")


def run(given: argparse.Namespace, say: Say) -> Answer:
    """Say a line for every check as soon as it is known, and how many passed."""
    if not given.runs.isdecimal() or not int(given.runs):
        raise UserError(f"--runs: {given.runs!r} is no number above 0 (example: 10)")
    from nncore_bench.progress import StandardError, progress_line
    from nncore_bench.selftest.campaign import FULL, QUICK, selftest
    from nncore_bench.selftest.gate import selftest_gate

    checks: list[Check] = []
    try:
        with progress_line(StandardError()) as line:
            found: Iterable[Check | str] = (
                selftest_gate(int(given.runs), line)
                if given.gate
                else selftest(QUICK if given.quick else FULL, line)
            )
            for check in found:
                line.end()
                if isinstance(check, str):
                    say(check)
                else:
                    say(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.figure}")
                    checks.append(check)
    except UserError as error:
        raise UserError(f"nothing can be measured here: {error}") from None
    records = [one.record for one in checks]
    failed = [record for record in records if not record["passed"]]
    say(f"{len(checks) - len(failed)} of {len(checks)} checks passed")
    figures = {"tables": {"checks": records}}
    if failed:
        return Answer(FAILED, "failed", failed[0], QUIETER, figures)
    return Answer(OK, "passed", None, None, figures)
