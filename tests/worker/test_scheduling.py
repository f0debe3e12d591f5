"""Waiting for a core, as the scheduler counts it."""

import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nncore_bench.gate.cores import Cores
from nncore_bench.worker.waiting import SCHEDSTAT, Waiting, waited_ns

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


@pytest.mark.machine
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


def chosen(waits: dict[int, float], times: int = 60, count: int = 1) -> list[tuple[int, ...]]:
    """Return the cores of so many measurements on cores that are waited for a share of the time."""
    cores = Cores(list(waits), random.Random(0))  # noqa: S311 - coins, and no secret
    found = []
    for _ in range(times):
        found.append(cores.choose(count))
        for core in found[-1]:
            cores.note([core], round(1_000_000 * waits[core]), 1_000_000)
    return found


def test_a_core_that_others_use_is_tried_once() -> None:
    """Half of the time on core 1 is another's."""
    assert chosen({0: 0.0, 1: 0.5}).count((1,)) <= 1
    assert chosen({0: 0.3, 1: 0.5, 2: 0.25}).count((2,)) >= 55


def test_cores_that_are_as_good_take_turns_by_a_coin() -> None:
    """Within two in a hundred."""
    assert 15 <= chosen({0: 0.001, 1: 0.015}).count((1,)) <= 45


def test_several_threads_have_as_many_cores() -> None:
    """The quietest; all there are where there are fewer; none where the system does not tell."""
    assert [set(cores) for cores in chosen({0: 0.5, 1: 0.0, 2: 0.0}, 60, 2)[3:]] == [{1, 2}] * 57
    assert set(chosen({0: 0.5, 1: 0.0}, 1, 4)[0]) == {0, 1}
    assert chosen({}, 1) == [()]


@pytest.mark.machine
@pytest.mark.skipif(not SCHEDSTAT.exists(), reason="this system does not count how long a thread waits")
def test_waiting_behind_a_thread_of_its_own_is_no_waiting_for_others() -> None:
    """A helper thread without the interpreter's lock, on the same core: it waits for its own work."""
    affinity = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [min(affinity)])
    try:
        data = b"x" * 2**26
        helper = threading.Thread(target=lambda: [hashlib.sha256(data) for _ in range(6)])
        before, waiting = waited_ns(), Waiting()
        helper.start()
        while helper.is_alive():
            pass
        assert waited_ns() - before >= 20_000_000
        assert waiting.ns() <= 0.5 * (waited_ns() - before)
    finally:
        os.sched_setaffinity(0, affinity)
