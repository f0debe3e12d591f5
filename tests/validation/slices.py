"""A slice of a series: begun alone in its folder, after a probe of the machine, beside the load it asks for.

What gates.py and series.py have in common. A killed slice goes on where it stopped.
"""

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from burner import LOADS, BurnerError, burning, check_burning
from loudness import Loudness, Probe, sentence

from nncore_bench.runs import plain_json, replace_file

ROOT = Path(__file__).parents[2]
SETTINGS_FILE = "series.json"
LOUDNESS_FILE = "loudness.json"

Session: TypeAlias = Callable[[Sequence[str], Path], int]
"""Runs a command, leaves what it printed in a file, and returns its exit code."""

Runner: TypeAlias = Callable[[int, Sequence[str], Path], int]
"""Does the same for the run with a number."""


class SeriesError(RuntimeError):
    """Say in one sentence why a series cannot go on."""


@contextmanager
def slice_of(out: Path, settings: Any, probe_s: float, load: str = "none") -> Iterator[int]:  # noqa: ANN401 - any dataclass
    """Begin or continue the series in a folder, and yield the file descriptor of its lock.

    The machine is probed for `probe_s` seconds a core, by itself and beside the load, or not at all for 0.
    What stops the series ends the program with one sentence.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `with` ends what it started
    out.mkdir(parents=True, exist_ok=True)
    try:
        settle(out, settings)
        with alone(out) as lock:
            if probe_s:
                for beside in dict.fromkeys(("none", load)):
                    record_loudness(out, probe_s, beside)
            yield lock
    except (SeriesError, BurnerError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted (the same command goes on)")
    finally:
        signal.signal(signal.SIGTERM, before)


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


@contextmanager
def alone(out: Path) -> Iterator[int]:
    """Hold the folder's lock, and yield its file descriptor.

    Sessions inherit it: one that outlives a killed series keeps the next from measuring beside it.
    """
    with (out / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def record_loudness(out: Path, seconds: float, load: str) -> None:
    """Probe every core for some seconds beside a load, and add the figures to those of the slices before."""
    started = datetime.now(UTC).isoformat()
    command = [sys.executable, str(Path(__file__).with_name("loudness.py")), "--json", f"--seconds={seconds}"]
    with burning(load, started):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SeriesError(f"the machine cannot be probed: {done.stderr.strip()}")
    probe = Probe(started, msgspec.json.decode(done.stdout, type=tuple[Loudness, ...]), load)
    probes = msgspec.json.encode([*recorded_loudness(out), probe])
    replace_file(out / LOUDNESS_FILE, msgspec.json.format(probes, indent=1))
    beside = "" if load == "none" else f"beside the load {load}, "
    sys.stdout.write("".join(f"{beside}{sentence(one)}\n" for one in probe.cores))
    sys.stdout.flush()


def recorded_loudness(out: Path) -> list[Probe]:
    """Return what was probed before each slice of a series; nothing where nothing was."""
    path = out / LOUDNESS_FILE
    return msgspec.json.decode(path.read_bytes(), type=list[Probe]) if path.exists() else []


def run_session(command: Sequence[str], log: Path, *, lock: int, cwd: Path = ROOT) -> int:
    """Run a session in a process of its own, on the code of a folder."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    with log.open("w") as file:
        return subprocess.run(
            command, cwd=cwd, env=environment, stdout=file, stderr=file, pass_fds=[lock], check=False
        ).returncode


def loaded(kind: str, seed: int, session: Session) -> Runner:
    """Return a runner with a load beside each session, which its run's number and the seed decide alone.

    It raises BurnerError if the load ended before the session did.
    """

    def run(number: int, command: Sequence[str], log: Path) -> int:
        with burning(kind, f"{seed}:{number}") as processes:
            code = session(command, log)
            check_burning(processes)
        return code

    return run


def slice_parser(description: str | None, runs: str) -> argparse.ArgumentParser:
    """Return the options that all series have; `runs` is what a series calls its runs."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the series")
    parser.add_argument("--runs", type=int, default=10, help=f"{runs} in all")
    parser.add_argument("--at-most", type=int, help=f"{runs} in this slice")
    parser.add_argument(
        "--load",
        choices=LOADS,
        default="none",
        help="what keeps core 1 or all cores busy meanwhile (see burner.py)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the load, and of whatever else is random")
    parser.add_argument("--python", default=sys.executable, help="the Python that measures")
    parser.add_argument(
        "--probe", type=float, default=2.0, metavar="SECONDS", help="how long each core is probed first"
    )
    parser.add_argument("--no-probe", dest="probe", action="store_const", const=0.0, help="do not")
    return parser
