"""Run whole sessions again and again, ours and plain pytest-benchmark's in turn, to see how far they repeat.

    python tests/validation/series/series.py --out DIR --runs 10 --load none
    python tests/validation/series/judge.py DIR

Each run is two processes in random order, and leaves DIR/001/ours and DIR/001/plain. Kill it at any moment:
the same command goes on where it stopped. Measure a checkout that is not installed with PYTHONPATH set to it.
"""

import argparse
import os
import random
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from nncore_bench.machine.facts import code_measured
from nncore_bench.runs import plain_json, replace_file

sys.path.append(str(Path(__file__).parents[1]))  # where slices.py, burner.py and loudness.py are

from slices import ROOT, Runner, SeriesError, loaded, run_session, slice_of, slice_parser

PARTS = ("ours", "plain")
RECORD_FILE = "record.json"
PLAIN_FILE = "benchmarks.json"
LOG_FILE = "session.txt"


@dataclass(frozen=True)
class Settings:
    """Hold what all runs of a series have in common; `extra` are more arguments of our session."""

    load: str = "none"
    budget: str = "30"
    seed: int = 0
    python: str = sys.executable
    extra: tuple[str, ...] = ()


def order_of(seed: int, number: int) -> list[str]:
    """Return the parts of a run in the order in which they are measured: random, and the same again."""
    parts = list(PARTS)
    random.Random(f"{seed}:{number}").shuffle(parts)  # noqa: S311 - an order, no secret
    return parts


def place_of(out: Path, number: int, part: str) -> Path:
    """Return the folder that a finished part of a run has."""
    return out / f"{number:03}" / part


def missing_parts(out: Path, settings: Settings, number: int) -> list[str]:
    """Return the parts of a run that are still to be measured."""
    return [part for part in order_of(settings.seed, number) if not place_of(out, number, part).exists()]


def command_of(settings: Settings, part: str, folder: Path) -> list[str]:
    """Return the command of one session, as a user would type it."""
    common = ["--benchmark-only", "-q", "-p", "no:cacheprovider"]
    if part == "ours":
        grid = ["--step-devices=cpu", "--step-threads=1", f"--step-budget={settings.budget}"]
        words = ["bench/", *common, *grid, f"--step-results={folder}", *settings.extra]
    else:
        # Without the conftest of tests/, which would make warnings errors.
        file = str(Path(__file__).with_name("plain_benchmark.py").relative_to(ROOT))
        words = ["--noconftest", file, *common, f"--benchmark-json={folder / PLAIN_FILE}"]
    return [settings.python, "-m", "pytest", *words]


def go_on(out: Path, settings: Settings, runs: int, run: Runner, at_most: int | None = None) -> int:
    """Measure what is missing of the first `runs` runs, at most so many, and return how many it finished."""
    unfinished = [number for number in range(1, runs + 1) if missing_parts(out, settings, number)]
    for number in unfinished[:at_most]:
        for part in missing_parts(out, settings, number):
            _measure(out, settings, number, part, run)
    return len(unfinished[:at_most])


def _measure(out: Path, settings: Settings, number: int, part: str, run: Runner) -> None:
    """Measure one part under another name, which becomes its own when all of it is there."""
    folder = place_of(out, number, f"{part}.unfinished")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = command_of(settings, part, folder)
    record = _record(settings, number, part, command)
    begun = time.monotonic()
    code = run(number, command, folder / LOG_FILE)
    if code:
        raise SeriesError(f"{part} of run {number} ended with {code} (read {str(folder / LOG_FILE)!r})")
    record |= {"seconds": time.monotonic() - begun, "load_average_after": os.getloadavg()}
    replace_file(folder / RECORD_FILE, plain_json(record))
    folder.rename(place_of(out, number, part))
    sys.stdout.write(f"run {number}, {part}: {record['seconds']:.0f} s\n")
    sys.stdout.flush()


def _record(settings: Settings, number: int, part: str, command: Sequence[str]) -> dict[str, Any]:
    code = code_measured(ROOT)
    return {
        "run": number,
        "part": part,
        "place": 1 + order_of(settings.seed, number).index(part),
        "load": settings.load,
        "started": datetime.now(UTC).isoformat(),
        "load_average_before": os.getloadavg(),
        "commit": code.commit,
        "dirty": code.dirty,
        "command": list(command),
    }


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = slice_parser(__doc__, "runs")
    parser.add_argument("--budget", default="30", help="--step-budget of our session")
    parser.add_argument("--extra", default="", help="more arguments of our session, such as '-k step'")
    return parser.parse_args(arguments)


def main() -> None:
    """Measure a slice of a series."""
    given = parse()
    out: Path = given.out.resolve()  # the sessions run in the root of the checkout
    extra = tuple(shlex.split(given.extra))
    settings = Settings(given.load, given.budget, given.seed, given.python, extra)
    with slice_of(out, settings, given.probe, given.load) as lock:
        runner = loaded(settings.load, settings.seed, partial(run_session, lock=lock))
        done = go_on(out, settings, given.runs, runner, given.at_most)
    sys.stdout.write(f"{done} runs finished in this slice\n")


if __name__ == "__main__":
    main()
