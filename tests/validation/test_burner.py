"""The load beside a series is the same for the same seed, and outlives neither its use nor its parent."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path

import psutil
import pytest
from burner import KINDS, WORKS, burning, check_burning, rhythm

HERE = Path(__file__).parent
CORE = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
PATIENCE_S = 30


def until(happened: Callable[[], bool]) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def is_gone(process: psutil.Process) -> bool:
    """Return whether a process has ended, be it that nobody has asked for its exit code yet."""
    with suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def test_bursts_and_pauses_are_random_and_the_same_again() -> None:
    """Between 0.05 and 2 s each, as long one as the other on average; a steady load never pauses."""
    bursty, steady = KINDS["bursty"], KINDS["steady"]
    times = list(islice(rhythm(bursty, "1"), 2000))
    assert times == list(islice(rhythm(bursty, "1"), 2000))
    assert times != list(islice(rhythm(bursty, "2"), 2000))
    for lengths in zip(*times, strict=True):
        assert 0.05 <= min(lengths) < max(lengths) <= 2
        assert sum(lengths) / 2000 == pytest.approx(1.025, rel=0.05)
    assert {pause for _, pause in islice(rhythm(steady, "1"), 10)} == {0.0}


def test_every_load_has_work_and_is_busy_for_30_to_60_percent_or_always() -> None:
    """In the long run, by the middle of its spans."""
    for load in KINDS.values():
        busy, pause = (sum(span) / 2 for span in (load.busy_s, load.pause_s))
        assert load.work in WORKS
        assert not pause or 0.3 <= busy / (busy + pause) <= 0.6


@pytest.mark.machine
def test_the_burner_burns_on_its_core_and_ends_with_its_block() -> None:
    """As long as the block lasts it takes time; then it is gone."""
    with burning("steady", "0", CORE) as (process,):
        seen = psutil.Process(process.pid)
        until(lambda: seen.cpu_affinity() == [CORE])
        begun = seen.cpu_times().user
        until(lambda: seen.cpu_times().user > begun + 0.1)
        check_burning([process])
    assert process.poll() is not None


@pytest.mark.machine
@pytest.mark.parametrize("kind", ["bursty", "steady", "cache", "stream"])
def test_a_killed_parent_leaves_no_burner(kind: str) -> None:
    """Kill -9 lets nobody clean up; the burner looks after itself."""
    program = (
        "import sys, time; from burner import burning\n"
        f"with burning({kind!r}, '0', {CORE}) as (process, *_):\n"
        "    print(process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=HERE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    orphan = psutil.Process(int(parent.stdout.readline()))
    assert not is_gone(orphan)
    parent.kill()
    parent.communicate()
    until(lambda: is_gone(orphan))


def test_no_load_starts_no_burner() -> None:
    """There is nothing to check either."""
    with burning("none", "0") as processes:
        check_burning(processes)
    assert not processes
