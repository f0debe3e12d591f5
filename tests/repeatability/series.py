"""Run whole sessions again and again, ours and plain pytest-benchmark's in turn, to see how far they repeat.

    python tests/repeatability/series.py --out DIR --runs 10 --load none
    python tests/repeatability/judge.py DIR

Each run is two processes in random order, and leaves DIR/001/ours and DIR/001/plain. Kill it at any moment:
the same command goes on where it stopped. Measure a checkout that is not installed with PYTHONPATH set to it.
"""

import argparse
import fcntl
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from burner import LOADS, BurnerError, burning, check_burning

from nncore_bench.measure.machine import code_measured
from nncore_bench.runs import plain_json, replace_file

ROOT = Path(__file__).parents[2]
PARTS = ("ours", "plain")
SETTINGS_FILE = "series.json"
RECORD_FILE = "record.json"
PLAIN_FILE = "benchmarks.json"
LOG_FILE = "session.txt"

Runner: TypeAlias = Callable[[Sequence[str], Path], int]
"""Runs a command, leaves what it printed in a file, and returns its exit code."""


class SeriesError(RuntimeError):
    """Say in one sentence why a series cannot go on."""


@dataclass(frozen=True)
class Settings:
    """Hold what all runs of a series have in common; `extra` are more arguments of our session."""

    load: str = "none"
    budget: str = "30"
    seed: int = 0
    python: str = sys.executable
    extra: tuple[str, ...] = ()


def settle(out: Path, settings: Any) -> None:  # noqa: ANN401 - any dataclass
    """Leave the settings in the folder of the series; raise SeriesError if it was begun with others."""
    wanted = json.loads(plain_json(asdict(settings)))
    path = out / SETTINGS_FILE
    if not path.exists():
        replace_file(path, plain_json(wanted))
    begun = json.loads(path.read_bytes())
    if changed := [f"--{name} {begun.get(name)!r}" for name in wanted if begun.get(name) != wanted[name]]:
        raise SeriesError(
            f"{str(out)!r} was begun with {', '.join(changed)} (give the same, or another --out)"
        )


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
    code = run(command, folder / LOG_FILE)
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


@contextmanager
def alone(out: Path) -> Iterator[int]:
    """Hold the folder's lock, and yield its file descriptor.

    Sessions inherit it: one that outlives a killed series keeps the next from measuring beside it.
    """
    with (out / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def run_session(command: Sequence[str], log: Path, *, lock: int, cwd: Path = ROOT) -> int:
    """Run a session in a process of its own, on the code of a folder."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    with log.open("w") as file:
        return subprocess.run(
            command, cwd=cwd, env=environment, stdout=file, stderr=file, pass_fds=[lock], check=False
        ).returncode


def loaded(process: subprocess.Popen[bytes] | None, run: Runner) -> Runner:
    """Return the runner that checks before and after that the burner is still there."""

    def checked(command: Sequence[str], log: Path) -> int:
        check_burning(process)
        code = run(command, log)
        check_burning(process)
        return code

    return checked


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the series")
    parser.add_argument("--runs", type=int, default=10, help="runs in all")
    parser.add_argument("--at-most", type=int, help="runs in this slice")
    parser.add_argument("--load", choices=LOADS, default="none", help="what keeps core 1 busy meanwhile")
    parser.add_argument("--budget", default="30", help="--step-budget of our session")
    parser.add_argument("--seed", type=int, default=0, help="of the order and of the bursts")
    parser.add_argument("--python", default=sys.executable, help="the Python that runs the sessions")
    parser.add_argument("--extra", default="", help="more arguments of our session, such as '-k step'")
    return parser.parse_args(arguments)


def main() -> None:
    """Measure a slice of a series."""
    given = parse()
    out: Path = given.out.resolve()  # the sessions run in the root of the checkout
    extra = tuple(shlex.split(given.extra))
    settings = Settings(given.load, given.budget, given.seed, given.python, extra)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `with` ends what it started
    out.mkdir(parents=True, exist_ok=True)
    try:
        settle(out, settings)
        with alone(out) as lock, burning(settings.load, f"{settings.seed}:{time.time_ns()}") as process:
            runner = loaded(process, partial(run_session, lock=lock))
            done = go_on(out, settings, given.runs, runner, given.at_most)
    except (SeriesError, BurnerError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted (the same command goes on)")
    sys.stdout.write(f"{done} runs finished in this slice\n")


if __name__ == "__main__":
    main()
