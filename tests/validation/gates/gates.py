"""Run the gate again and again on revisions whose difference is known, to see how often it is right.

    python tests/validation/gates/gates.py --out DIR --scenario same --runs 75 --load none|bursty
    python tests/validation/gates/judge_gates.py DIR [DIR...]

Each run is the command as a user types it, on a repository made for it (arms.py), and leaves DIR/001.json.
Kill it at any moment: the same command goes on where it stopped. Nothing else may run beside it.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from arms import DIFFERENCES, arms_of, planted_repository
from gate_code import code_here, series_of

sys.path.append(str(Path(__file__).parents[1]))  # where slices.py, burner.py and loudness.py are

from slices import ROOT, SETTINGS_FILE, Runner, SeriesError, loaded, run_session, slice_of, slice_parser

SAME = "same"
SCENARIOS = (SAME, *DIFFERENCES)
LOG_FILE = "gate.txt"
FINISHED = (0, 1)


@dataclass(frozen=True)
class GateSettings:
    """Hold what all gates of a series have in common."""

    scenario: str
    load: str = "none"
    seed: int = 0
    budget: str = "10m"
    python: str = sys.executable
    code: str = "unknown"
    """The code that measures, and its torch: a series has one, or what was accepted beside it."""


def place_of(out: Path, number: int) -> Path:
    """Return the file that a finished run has."""
    return out / f"{number:03}.json"


def command_of(settings: GateSettings, number: int, outcome: Path) -> list[str]:
    """Return the command of one gate, as a user would type it."""
    base, candidate = arms_of(settings.scenario, number)
    words = [settings.python, "-m", "bench", "gate", "--base", base, "--cand", candidate]
    if settings.scenario in DIFFERENCES:
        words.append(f"--margin={DIFFERENCES[settings.scenario].margin}")
    return [*words, f"--budget={settings.budget}", "--json", str(outcome)]


def go_on(out: Path, settings: GateSettings, runs: int, run: Runner, at_most: int | None = None) -> int:
    """Run what is missing of the first `runs` gates, at most so many, and return how many it finished."""
    missing = [number for number in range(1, runs + 1) if not place_of(out, number).exists()][:at_most]
    for number in missing:
        begun, unfinished = time.monotonic(), out / "unfinished.json"
        unfinished.unlink(missing_ok=True)
        code = run(number, command_of(settings, number, unfinished), out / LOG_FILE)
        if code not in FINISHED or not unfinished.exists():
            raise SeriesError(f"gate {number} ended with {code} (read {str(out / LOG_FILE)!r})")
        unfinished.rename(place_of(out, number))
        sys.stdout.write(f"gate {number}: exit code {code}, {time.monotonic() - begun:.0f} s\n")
        sys.stdout.flush()
    return len(missing)


def code_of(out: Path, here: str) -> str:
    """Return the code that a series was begun with if the code here may go on with it, else the code here."""
    path = out / SETTINGS_FILE
    begun = json.loads(path.read_bytes()).get("code", here) if path.exists() else here
    return str(begun) if series_of(begun) == series_of(here) else here


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = slice_parser(__doc__, "gates")
    parser.add_argument("--scenario", choices=SCENARIOS, default=SAME, help="what the revisions differ in")
    parser.add_argument("--budget", default="10m", help="--budget of the gate")
    return parser.parse_args(arguments)


def main() -> None:
    """Run a slice of a series."""
    given = parse()
    out: Path = given.out.resolve()
    code = code_of(out, code_here(given.python))
    settings = GateSettings(given.scenario, given.load, given.seed, given.budget, given.python, code)
    os.environ["PYTHONPATH"] = str(ROOT)  # the gate itself is this checkout's
    with (
        slice_of(out, settings, given.probe, given.load) as lock,
        tempfile.TemporaryDirectory(prefix="arms-") as folder,
    ):
        session = partial(run_session, lock=lock, cwd=planted_repository(Path(folder)))
        runner = loaded(settings.load, settings.seed, session)
        done = go_on(out, settings, given.runs, runner, given.at_most)
    sys.stdout.write(f"{done} gates finished in this slice\n")


if __name__ == "__main__":
    main()
