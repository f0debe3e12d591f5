"""A series goes on where it stopped, and neither its sessions nor its burner outlive their use."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import psutil
import pytest
from burner import LONGEST_S, SHORTEST_S, BurnerError, burning, check_burning, rhythm
from series import LOG_FILE, RECORD_FILE, SeriesError, Settings, go_on, loaded, order_of, settle

HERE = Path(__file__).parent
CORE = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
PATIENCE_S = 30


class Sessions:
    """Stand in for sessions: each leaves a log, and the one with a given number fails as it is told."""

    def __init__(self, failing: int = 0, failure: BaseException | int = 0) -> None:
        self.failing = failing
        self.failure = failure
        self.begun: list[str] = []

    def __call__(self, _command: Sequence[str], log: Path) -> int:
        log.write_text("said")
        self.begun.append(f"{log.parent.parent.name}/{log.parent.name.removesuffix('.unfinished')}")
        if len(self.begun) != self.failing:
            return 0
        if isinstance(self.failure, int):
            return self.failure
        raise self.failure


def finished(out: Path) -> list[str]:
    """Return the parts that are there, each with its record and what its session said."""
    assert len(list(out.glob(f"*/*/{RECORD_FILE}"))) <= len(list(out.glob(f"*/*/{LOG_FILE}")))
    return sorted(str(path.parent.relative_to(out)) for path in out.glob(f"*/*/{RECORD_FILE}"))


ALL_OF_THREE = [f"00{number}/{part}" for number in (1, 2, 3) for part in ("ours", "plain")]


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


@pytest.mark.parametrize("killed_in", range(1, 7))
def test_it_goes_on_where_it_stopped(tmp_path: Path, killed_in: int) -> None:
    """Whichever session it was killed in, that one is measured again, and none that was finished."""
    first, second = Sessions(killed_in, KeyboardInterrupt()), Sessions()
    with pytest.raises(KeyboardInterrupt):
        go_on(tmp_path, Settings(), 3, first)
    assert finished(tmp_path) == sorted(first.begun[:-1])
    go_on(tmp_path, Settings(), 3, second)
    assert finished(tmp_path) == ALL_OF_THREE
    assert [*first.begun[:-1], *second.begun] == [
        f"00{number}/{part}" for number in (1, 2, 3) for part in order_of(0, number)
    ]
    assert not list(tmp_path.glob("*/*.unfinished"))


def test_a_slice_is_of_so_many_runs_at_most(tmp_path: Path) -> None:
    """Two of three, then the last, then none."""
    assert [go_on(tmp_path, Settings(), 3, Sessions(), at_most=2) for _ in range(3)] == [2, 1, 0]
    assert finished(tmp_path) == ALL_OF_THREE


def test_a_session_that_fails_ends_the_series_and_is_no_result(tmp_path: Path) -> None:
    """What it said is named."""
    with pytest.raises(SeriesError, match=rf"run 2 ended with 1 \(read .*{LOG_FILE}"):
        go_on(tmp_path, Settings(), 3, Sessions(failing=3, failure=1))
    assert len(finished(tmp_path)) == 2


def test_the_order_is_random_and_the_same_again() -> None:
    """Over many runs each part is first about as often."""
    orders = [order_of(0, number) for number in range(200)]
    assert orders == [order_of(0, number) for number in range(200)]
    assert 70 < sum(order[0] == "ours" for order in orders) < 130


def test_a_folder_holds_runs_of_one_kind(tmp_path: Path) -> None:
    """The same settings go on; others are refused with those it was begun with."""
    settle(tmp_path, Settings(extra=("-k", "step")))
    settle(tmp_path, Settings(extra=("-k", "step")))
    with pytest.raises(SeriesError, match="begun with --load 'none'"):
        settle(tmp_path, Settings(load="bursty", extra=("-k", "step")))


def test_bursts_and_pauses_are_random_and_the_same_again() -> None:
    """Between 0.05 and 2 s each, as long one as the other on average; a steady load never pauses."""
    times = list(islice(rhythm("bursty", "1"), 2000))
    assert times == list(islice(rhythm("bursty", "1"), 2000))
    assert times != list(islice(rhythm("bursty", "2"), 2000))
    for lengths in zip(*times, strict=True):
        assert SHORTEST_S <= min(lengths) < max(lengths) <= LONGEST_S
        assert sum(lengths) / 2000 == pytest.approx((SHORTEST_S + LONGEST_S) / 2, rel=0.05)
    assert {pause for _, pause in islice(rhythm("steady", "1"), 10)} == {0.0}


def test_the_burner_burns_on_its_core_and_ends_with_its_block() -> None:
    """As long as the block lasts it takes time; then it is gone."""
    with burning("steady", "0", CORE) as process:
        assert process is not None
        seen = psutil.Process(process.pid)
        until(lambda: seen.cpu_times().user > 0.1)
        assert seen.cpu_affinity() == [CORE]
        check_burning(process)
    assert process.poll() is not None


@pytest.mark.parametrize("kind", ["bursty", "steady"])
def test_a_killed_parent_leaves_no_burner(kind: str) -> None:
    """Kill -9 lets nobody clean up; the burner looks after itself."""
    program = (
        "import sys, time; from burner import burning\n"
        f"with burning({kind!r}, '0', {CORE}) as process:\n"
        "    print(process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=HERE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    orphan = psutil.Process(int(parent.stdout.readline()))
    assert not is_gone(orphan)
    parent.kill()
    parent.communicate()
    until(lambda: is_gone(orphan))


def test_a_burner_that_has_ended_ends_the_series(tmp_path: Path) -> None:
    """Its runs would count as noisy and be idle."""
    with burning("steady", "0", core=100_000) as process:
        assert process is not None
        process.wait(PATIENCE_S)
        with pytest.raises(BurnerError, match="ended with 1"):
            go_on(tmp_path, Settings(load="steady"), 1, loaded(process, Sessions()))
    assert not finished(tmp_path)


def test_no_load_starts_no_burner() -> None:
    """There is nothing to check either."""
    with burning("none", "0") as process:
        check_burning(process)
    assert process is None
