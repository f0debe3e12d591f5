"""Check what came back of a day with a GPU: one line and a figure for each assertion.

    PYTHONPATH=bench:. python tests/validation/gpu/check.py FOLDER

FOLDER holds the logs, probe.json and the archives of both commands. Exit code 0: every claim holds; 1: one
does not, or there was nothing to make it of; 2: the folder cannot be read.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from checks_of_answers import checks_of_gate, checks_of_variants, checks_of_worth
from checks_of_counts import checks_of_counters, checks_of_profiles
from checks_of_laps import checks_of_laps
from checks_of_probe import checks_of_probe, checks_of_stages
from checks_of_run import checks_of_run
from checks_of_steps import checks_of_steps
from claims import Claim, Finding, Told
from day import Day, DayError, Measured, read_day

from nncore_bench.runs import RunError

FAILED, UNREADABLE = 1, 2


def sections(day: Day) -> Iterator[tuple[str, list[Finding | Told]]]:
    """Yield what is found of the day, of each run and of the gate, each with its heading."""
    yield "the day", [*checks_of_stages(day), *checks_of_probe(day)]
    for run in day.runs:
        yield f"{run.stage}: {run.source.run.id}", [*_of_run(run, day)]
    yield "gate", [*checks_of_gate(day)]


def _of_run(run: Measured, day: Day) -> Iterator[Finding | Told]:
    yield from checks_of_run(run, day)
    yield from checks_of_laps(run)
    yield from checks_of_steps(run, day)
    yield from checks_of_counters(run)
    yield from checks_of_profiles(run)
    yield from checks_of_variants(run)
    yield from checks_of_worth(run)


def unmade(made: Sequence[Finding]) -> list[Finding]:
    """Return the claims of which nothing was found: what cannot be seen does not hold."""
    seen = {finding.claim for finding in made}
    return [
        Finding(claim, passed=False, figure="nothing to check it on") for claim in Claim if claim not in seen
    ]


def lines_of(day: Day) -> tuple[list[str], list[Finding]]:
    """Return what is printed of a day, and its findings."""
    lines, made = list[str](), list[Finding]()
    for heading, found in sections(day):
        lines += ["", f"== {heading}", *map(_line, found)]
        made += [one for one in found if isinstance(one, Finding)]
    missing = unmade(made)
    lines += ["", *map(_line, missing)] if missing else []
    made += missing
    passed = sum(finding.passed for finding in made)
    return [*lines, "", f"{passed} of {len(made)} checks passed"], made


def _line(one: Finding | Told) -> str:
    if isinstance(one, Told):
        return f"      {one.about}: {one.figure}"
    return f"{'ok  ' if one.passed else 'FAIL'}  {one.claim}: {one.figure}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the checks of the folder that was named; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the files lie that came back")
    try:
        lines, made = lines_of(read_day(parser.parse_args(argv).folder))
    except (DayError, RunError) as error:
        sys.stderr.write(f"{error}\n")
        return UNREADABLE
    sys.stdout.write("\n".join(lines).lstrip() + "\n")
    return 0 if all(finding.passed for finding in made) else FAILED


if __name__ == "__main__":
    sys.exit(main())
