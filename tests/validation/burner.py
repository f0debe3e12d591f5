"""Keep one core busy, always or in bursts, for as long as the program that started this one lives.

`python tests/validation/burner.py bursty --seed 0:1 --parent $$` by hand; `burning` for a program. The seed
decides the whole rhythm of a bursty load: gates.py and series.py begin that of every run anew, from their own
seed and the number of the run.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat

LOADS = ("none", "bursty", "steady")
CORE = 1
SHORTEST_S, LONGEST_S = 0.05, 2.0
LOOK_S = 0.1  # how long an orphan may go on


class BurnerError(RuntimeError):
    """Say that the load is not there, so that what is measured is not what was asked for."""


def rhythm(kind: str, seed: str) -> Iterator[tuple[float, float]]:
    """Yield for ever how long to be busy, and how long to pause then, in seconds."""
    if kind == "steady":
        yield from repeat((LONGEST_S, 0.0))
    draw = random.Random(seed).uniform  # noqa: S311 - a load, no secret
    while True:
        yield draw(SHORTEST_S, LONGEST_S), draw(SHORTEST_S, LONGEST_S)


@contextmanager
def burning(kind: str, seed: str, core: int = CORE) -> Iterator[subprocess.Popen[bytes] | None]:
    """Start a burner on a core and end it with the block, or start none for the load `none`."""
    if kind == "none":
        yield None
        return
    words = [kind, f"--seed={seed}", f"--core={core}", f"--parent={os.getpid()}"]
    # In a session of its own Ctrl-C does not reach it: it ends when the block does.
    process = subprocess.Popen([sys.executable, __file__, *words], start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def check_burning(process: subprocess.Popen[bytes] | None) -> None:
    """Raise BurnerError if a burner that was started has ended."""
    if process is not None and process.poll() is not None:
        raise BurnerError(f"the burner ended with {process.returncode} (see what it printed)")


def burn(kind: str, seed: str, parent: int) -> None:
    """Be busy and pause in turn, until this program has another parent than it was told."""
    for busy, pause in rhythm(kind, seed):
        if not (_spend(busy, parent, asleep=False) and _spend(pause, parent, asleep=True)):
            return


def _spend(seconds: float, parent: int, *, asleep: bool) -> bool:
    """Return whether the parent still lived when the time was over."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and os.getppid() == parent:
        if asleep:
            time.sleep(min(left, LOOK_S))
        else:
            sum(range(20_000))  # well below a millisecond
    return os.getppid() == parent


def pin(core: int) -> None:
    """Stay on one core; raise BurnerError where this process may not run there."""
    try:
        os.sched_setaffinity(0, {core})
    except (AttributeError, OSError) as error:
        raise BurnerError(f"--core: {core} cannot be had ({error}; example: 0)") from None


def main() -> None:
    """Read the command line and burn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=LOADS[1:])
    parser.add_argument("--seed", default="0", help="of bursts and pauses: the same seed, the same rhythm")
    parser.add_argument("--core", type=int, default=CORE)
    parser.add_argument("--parent", type=int, required=True, help="end when this process is gone")
    arguments = parser.parse_args()
    try:
        pin(arguments.core)
    except BurnerError as error:
        sys.exit(str(error))
    burn(arguments.kind, arguments.seed, arguments.parent)


if __name__ == "__main__":
    main()
