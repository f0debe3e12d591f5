"""A session against a stored run: suspects are told with the command that decides, and fail it if asked.

What pytest-benchmark saved of that run is compared by its own option, in the same session.
"""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sessions import SMALL, session, session_here

from nncore_bench.runs import SAMPLES_FILE, newest_run, pack, read_blocks, read_run

pytestmark = pytest.mark.machine

ARGUMENTS = (*SMALL, "--benchmark-only", "-q", "-k", "step or forward")
# Of two launches one that is held up leaves an interval without end, and nothing is suspect.
PRECISE = (*ARGUMENTS, "--step-launches=6", "--step-budget=12")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder where pytest-benchmark saves and the sessions store their runs."""
    return tmp_path_factory.mktemp("place")


def into(place: Path) -> tuple[str, str]:
    return f"--benchmark-storage={place / 'storage'}", f"--step-results={place / 'results'}"


@pytest.fixture(scope="module")
def stored(place: Path) -> Path:
    """Return the folder of a run, which pytest-benchmark has saved, too."""
    process = session(*PRECISE, "--benchmark-autosave", *into(place))
    assert process.returncode == 0, process.stdout
    return newest_run(place / "results")


@pytest.fixture(scope="module")
def faster(place: Path, stored: Path) -> subprocess.CompletedProcess[str]:
    """Return a session that is faster than its baseline, and compared with what was saved as well."""
    scaled(stored, place / "results" / "slow", 2.0)
    shown = ("--benchmark-compare", "--benchmark-group-by=param:device", "--benchmark-columns=min,max")
    return session(*ARGUMENTS, *into(place), "--step-baseline=slow", "--step-fail-on-suspect", *shown)


def scaled(stored: Path, folder: Path, factor: float) -> Path:
    """Return a copy of a run whose cases take so many times as long; what shows the drift stays."""
    shutil.copytree(stored, folder)
    cases = len(read_run(folder).cases)
    blocks = [
        replace(
            block, host=np.rint(block.host * factor).astype(np.int64), wall_ns=round(block.wall_ns * factor)
        )
        if block.case < cases
        else block
        for block in read_blocks(folder)
    ]
    np.savez(folder / SAMPLES_FILE, **pack(blocks))
    return folder


def test_a_case_twice_as_slow_is_suspect_and_fails_the_session_that_asked(
    stored: Path, tmp_path: Path
) -> None:
    """With the ratio and the gate's command; tests that ran have passed, and nothing is a traceback."""
    baseline = scaled(stored, tmp_path / "fast", 0.5)
    results = tmp_path / "results"
    process = session(
        *PRECISE, f"--step-results={results}", f"--step-baseline={baseline}", "--step-fail-on-suspect"
    )
    assert process.returncode == 1, process.stdout + process.stderr
    ending = process.stdout.partition("against the baseline")[2]
    assert "1 suspect" in ending
    assert "--cases 'cpu-t1-float32-eager-b32-h32'" in ending
    assert "failed: a case is suspect" in ending
    assert "Traceback" not in process.stdout + process.stderr
    assert " failed" not in process.stdout.splitlines()[-1]
    assert (newest_run(results) / "compare.md").exists()


def test_a_case_that_got_faster_is_ok(faster: subprocess.CompletedProcess[str]) -> None:
    """By its bare name in the results folder, as reports print it."""
    assert faster.returncode == 0, faster.stdout + faster.stderr
    ending = faster.stdout.partition("against the baseline")[2]
    assert "compared 1 of 1, 0 new, 0 missing: 1 ok" in ending
    assert "bench gate" not in ending


def test_saved_is_compared_in_the_groups_and_columns_that_the_user_asks_for(
    faster: subprocess.CompletedProcess[str],
) -> None:
    """`--benchmark-compare` finds the same names in the saved run; ours are defaults and no more."""
    assert "(NOW)" in faster.stdout
    assert "(0001_" in faster.stdout
    assert "benchmark 'device=cpu': 4 tests" in faster.stdout
    header = next(line for line in faster.stdout.splitlines() if line.startswith("Name (time in"))
    assert header.split()[4:] == ["Min", "Max"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--step-baseline=nowhere",), "--step-baseline: 'nowhere' does not exist"),
        (
            ("--step-fail-on-suspect",),
            "--step-fail-on-suspect: nothing is suspect without --step-baseline=RUN",
        ),
    ],
)
def test_a_baseline_that_cannot_be_read_is_one_sentence(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    """Before anything is measured."""
    results = tmp_path / "results"
    process = session_here(capfd, *ARGUMENTS, *arguments, f"--step-results={results}")
    assert process.returncode == 4
    assert f"ERROR: {words}" in process.stderr
    assert not results.exists()
