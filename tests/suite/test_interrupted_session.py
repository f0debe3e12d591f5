"""Sessions that go wrong in the middle: killed, interrupted, out of memory, without a worker."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from sessions import ROOT, SMALL, command, session

from nncore_bench.__main__ import main
from nncore_bench.runs import read_blocks, read_run

pytestmark = pytest.mark.machine

LONG = ("--step-budget=60", "--step-target=0.0001", "--step-devices=cpu", "--benchmark-only")
PATIENCE_S = 120


def until(happened: Callable[[], bool]) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Start a long session, and wait until it has finished three rounds."""
    process = subprocess.Popen(
        command(*SMALL, *LONG, f"--step-results={tmp_path / 'results'}"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until(lambda: len(list((tmp_path / "results").glob("*/rounds/[0-9]*.npz"))) >= 3)
    yield process, next((tmp_path / "results").iterdir())
    process.kill()
    process.communicate()


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the processes that measure for a session."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if any("start.py" in word for word in child.cmdline())]


def test_kill_9_leaves_the_finished_rounds_and_no_process(
    running: tuple[subprocess.Popen[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The report of what was finished reads like any other and says that it was cut short."""
    process, folder = running
    workers = workers_of(process)
    assert len(workers) == 6  # two launchers, one of them for the default allocator, and two launches of each
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: not any(worker.is_running() for worker in workers))
    rounds = {block.round for block in read_blocks(folder)}
    assert len(rounds) >= 3
    assert read_run(folder).state == "running"
    assert main(["report", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "cut short" in printed
    assert "samples/s" in printed


def test_ctrl_c_prints_what_is_known_and_leaves_no_process(
    running: tuple[subprocess.Popen[str], Path],
) -> None:
    """Pytest's own exit code for an interruption, and our tables of the finished rounds."""
    process, folder = running
    workers = workers_of(process)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    until(lambda: not any(worker.is_running() for worker in workers))
    assert read_run(folder).state == "interrupted"
    assert "samples/s" in printed
    assert main(["report", str(folder)]) == 0


def kill_a_launch_of_the_cases(process: subprocess.Popen[str]) -> None:
    """Kill one of the workers that the cases run in, and not one of the default allocator's."""
    with suppress(psutil.Error):  # a worker may be on its way out
        workers = workers_of(process)
        pids = {worker.pid for worker in workers}
        launches = [worker for worker in workers if worker.ppid() in pids and worker.status() != "zombie"]
        next(worker for worker in launches if "MALLOC_TRIM_THRESHOLD_" in worker.environ()).kill()


def test_a_worker_that_is_killed_costs_what_it_was_busy_with_and_not_the_session(
    running: tuple[subprocess.Popen[str], Path],
) -> None:
    """Killed until it was the only case: that fails, and says how; the session ends by itself."""
    process, folder = running
    end = time.monotonic() + PATIENCE_S
    while process.poll() is None and read_run(folder).cases[0].status == "ok":
        assert time.monotonic() < end, "the case was never hit"
        kill_a_launch_of_the_cases(process)
        time.sleep(0.3)
    printed, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "killed by signal 9" in printed
    record = read_run(folder).cases[0]
    assert record.status == "failed"
    assert "killed by signal 9" in record.reason


def test_a_case_that_runs_out_of_memory_says_so_and_the_others_go_on(tmp_path: Path) -> None:
    """A hidden width of a thousand million needs 3 TB of weights."""
    process = session(
        *SMALL,
        "--benchmark-only",
        "--step-devices=cpu",
        "--step-hidden=32,1000000000",
        f"--step-results={tmp_path / 'results'}",
    )
    assert process.returncode == 1
    assert "1 failed, 8 passed, 7 skipped" in process.stdout
    good, bad = read_run(next((tmp_path / "results").iterdir())).cases
    assert (good.status, bad.status) == ("ok", "failed")
    assert bad.reason.startswith("out of memory")
    assert "out of memory" in process.stdout
