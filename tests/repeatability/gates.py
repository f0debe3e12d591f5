"""Run the gate again and again on arms whose difference is known, to see how often it is right.

    python tests/repeatability/gates.py --out DIR --scenario same --runs 75 --load none|bursty
    python tests/repeatability/judge_gates.py DIR [DIR...]

Each run is the command as a user types it, on a repository made for it (arms.py), and leaves DIR/001.json.
Kill it at any moment: the same command goes on where it stopped. Nothing else may run beside it.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from arms import DIFFERENCES, arms_of, planted_repository
from burner import LOADS, BurnerError, burning
from gate_code import code_here, series_of
from series import ROOT, SETTINGS_FILE, Runner, SeriesError, alone, loaded, run_session, settle

SAME = "same"
SCENARIOS = (SAME, *DIFFERENCES)
LOG_FILE = "gate.txt"
FINISHED = (0, 1)


@dataclass(frozen=True)
class GateSettings:
    """Hold what all gates of a series have in common."""

    scenario: str
    load: str = "none"
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
        code = run(command_of(settings, number, unfinished), out / LOG_FILE)
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the series")
    parser.add_argument("--scenario", choices=SCENARIOS, default=SAME, help="what the arms differ in")
    parser.add_argument("--runs", type=int, default=10, help="gates in all")
    parser.add_argument("--at-most", type=int, help="gates in this slice")
    parser.add_argument("--load", choices=LOADS, default="none", help="what keeps core 1 busy meanwhile")
    parser.add_argument("--budget", default="10m", help="--budget of the gate")
    parser.add_argument("--python", default=sys.executable, help="the Python that runs the gates")
    return parser.parse_args(arguments)


def main() -> None:
    """Run a slice of a series."""
    given = parse()
    out: Path = given.out.resolve()
    code = code_of(out, code_here(given.python))
    settings = GateSettings(given.scenario, given.load, given.budget, given.python, code)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `with` ends what it started
    out.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONPATH"] = str(ROOT)  # the gate itself is this checkout's
    try:
        settle(out, settings)
        with (
            alone(out) as lock,
            tempfile.TemporaryDirectory(prefix="arms-") as folder,
            burning(settings.load, f"{settings.scenario}:{time.time_ns()}") as process,
        ):
            cwd = planted_repository(Path(folder))
            runner = loaded(process, partial(run_session, lock=lock, cwd=cwd))
            done = go_on(out, settings, given.runs, runner, given.at_most)
    except (SeriesError, BurnerError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted (the same command goes on)")
    sys.stdout.write(f"{done} gates finished in this slice\n")


if __name__ == "__main__":
    main()
