"""Keep cores busy, always or in bursts, for as long as the program that started this one lives.

`python tests/validation/burner.py bursty --seed 0:1 --parent $$` by hand; `burning` for a program. The seed
decides the whole rhythm of a load: gates.py and series.py begin that of every run anew, from their own seed
and the number of the run. A neighbour on the sibling hyper-thread of a core is beyond what a program inside a
virtual machine can be: that load is there in hours that are loud by themselves, or not at all.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import TypeAlias

import numpy as np

Span: TypeAlias = tuple[float, float]
"""The shortest and the longest time, in seconds."""

CORE = 1
LOOK_S = 0.1
"""How long an orphan may go on."""


@dataclass(frozen=True)
class Load:
    """What a core is kept busy with, and for how long it is busy and pauses in turn.

    On `both` cores each has a process of its own, in a rhythm of its own.
    """

    work: str
    busy_s: Span
    pause_s: Span
    both: bool = False


ALWAYS: Span = (2.0, 2.0)
NEVER: Span = (0.0, 0.0)
LONG: Span = (0.1, 0.5)
SLOW: Span = (0.05, 2.0)
KINDS: Mapping[str, Load] = {
    "bursty": Load("arithmetic", SLOW, SLOW),
    "steady": Load("arithmetic", ALWAYS, NEVER),
    "short": Load("arithmetic", (0.001, 0.005), (0.002, 0.006), both=True),
    "long": Load("arithmetic", LONG, LONG, both=True),
    "cache": Load("cache", (0.001, 0.005), (0.001, 0.005), both=True),
    "memory": Load("memory", LONG, LONG, both=True),
    "stream": Load("memory", ALWAYS, NEVER),
}
LOADS = ("none", *KINDS)

CACHED_BYTES, STREAMED_BYTES, CHUNK_BYTES = 512 * 2**10, 128 * 2**20, 2**20


class BurnerError(RuntimeError):
    """Say that the load is not there, so that what is measured is not what was asked for."""


def rhythm(load: Load, seed: str) -> Iterator[tuple[float, float]]:
    """Yield for ever how long to be busy, and how long to pause then, in seconds."""
    draw = random.Random(seed).uniform  # noqa: S311 - a load, no secret
    while True:
        yield draw(*load.busy_s), draw(*load.pause_s)


@contextmanager
def burning(kind: str, seed: str, core: int = CORE) -> Iterator[Sequence[subprocess.Popen[bytes]]]:
    """Start a burner on a core, or on all, and end it with the block; the load `none` starts none.

    Yields the processes.
    """
    load = KINDS.get(kind)
    cores = [] if load is None else sorted(os.sched_getaffinity(0)) if load.both else [core]
    processes = [_started(kind, seed if one == core else f"{seed}:{one}", one) for one in cores]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _started(kind: str, seed: str, core: int) -> subprocess.Popen[bytes]:
    words = [kind, f"--seed={seed}", f"--core={core}", f"--parent={os.getpid()}"]
    # In a session of its own Ctrl-C does not reach it: it ends when the block does.
    return subprocess.Popen([sys.executable, __file__, *words], start_new_session=True)


def check_burning(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Raise BurnerError if a burner that was started has ended."""
    for process in processes:
        if process.poll() is not None:
            raise BurnerError(f"the burner ended with {process.returncode} (see what it printed)")


def burn(kind: str, seed: str, parent: int) -> None:
    """Be busy and pause in turn, until this program has another parent than it was told."""
    load = KINDS[kind]
    work = WORKS[load.work]()
    for busy, pause in rhythm(load, seed):
        if not (_spend(busy, parent, work) and _spend(pause, parent, None)):
            return


def _spend(seconds: float, parent: int, work: Callable[[], object] | None) -> bool:
    """Work or sleep; return whether the parent still lived when the time was over."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and os.getppid() == parent:
        if work is None:
            time.sleep(min(left, LOOK_S))
        else:
            work()
    return os.getppid() == parent


def _arithmetic() -> Callable[[], object]:
    return lambda: sum(range(5_000))  # some 0.1 ms


def _cache() -> Callable[[], object]:
    values = np.zeros(CACHED_BYTES // 8)
    return lambda: np.add(values, 1.0, out=values)


def _memory() -> Callable[[], object]:
    source, target = (np.ones(STREAMED_BYTES // 8) for _ in range(2))
    size = CHUNK_BYTES // 8
    begins = cycle(range(0, len(source), size))

    def copy() -> None:
        begin = next(begins)
        target[begin : begin + size] = source[begin : begin + size]

    return copy


WORKS: Mapping[str, Callable[[], Callable[[], object]]] = {
    "arithmetic": _arithmetic,
    "cache": _cache,
    "memory": _memory,
}
"""What a burner does again and again for well below a millisecond, made ready first."""


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
