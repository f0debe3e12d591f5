"""Waiting for a core, as the scheduler counts it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.measure.scheduling import SCHEDSTAT, waited_ns

MOST_S = 30


def test_the_second_number_is_read(tmp_path: Path) -> None:
    """On the core, on a run queue, turns."""
    file = tmp_path / "schedstat"
    file.write_text("41165701 388963 111\n")
    assert waited_ns(file) == 388_963


@pytest.mark.parametrize("text", ["", "41165701", "no numbers here", None])
def test_what_cannot_be_read_is_no_waiting(tmp_path: Path, text: str | None) -> None:
    """Other systems, containers without it."""
    file = tmp_path / "schedstat"
    if text is not None:
        file.write_text(text)
    assert waited_ns(file) == 0


@pytest.mark.skipif(not SCHEDSTAT.exists(), reason="this system does not count how long a thread waits")
def test_a_thread_whose_core_is_shared_waits() -> None:
    """Two busy processes on one core: within some seconds this one has waited 20 ms."""
    cores = os.sched_getaffinity(0)
    core = min(cores)
    busy = f"import os\nos.sched_setaffinity(0, [{core}])\nwhile os.getppid() == {os.getpid()}: pass"
    os.sched_setaffinity(0, [core])
    other = subprocess.Popen([sys.executable, "-c", busy])
    try:
        before, end = waited_ns(), time.monotonic() + MOST_S
        while waited_ns() - before < 20_000_000 and time.monotonic() < end:
            pass
        assert waited_ns() - before >= 20_000_000
    finally:
        other.kill()
        other.wait()
        os.sched_setaffinity(0, cores)
