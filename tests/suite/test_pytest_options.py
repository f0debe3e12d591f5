"""pytest's and pytest-benchmark's own options still do what their users expect."""

import json
import subprocess
from pathlib import Path

import pytest
from sessions import SMALL, session

pytestmark = pytest.mark.machine

CPU = (*SMALL, "--benchmark-only")
TWO = (*CPU, "-k", "forward or loss")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Return a session of two phases that saved itself, and the folder with its storage and JSON."""
    folder = tmp_path_factory.mktemp("saved")
    return session(
        *TWO, "--benchmark-autosave", f"--benchmark-json={folder / 'out.json'}", *into(folder)
    ), folder


def into(folder: Path) -> tuple[str, str]:
    return f"--benchmark-storage={folder / 'storage'}", f"--step-results={folder / 'results'}"


def test_k_chooses_phases_and_only_what_they_need_is_run(
    saved: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    """The whole step still runs, and what was not asked for is not reported."""
    process, folder = saved
    assert process.returncode == 0, process.stdout
    assert "2 passed, 6 deselected" in process.stdout
    benchmarks = json.loads((folder / "out.json").read_text())["benchmarks"]
    assert [benchmark["params"]["phase"] for benchmark in benchmarks] == ["forward", "loss"]


def test_saved_is_compared_in_the_groups_and_columns_that_the_user_asks_for(
    saved: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    """`--benchmark-compare` finds the same names in the saved run; ours are defaults and no more."""
    _, folder = saved
    shown = ("--benchmark-group-by=param:device", "--benchmark-columns=min,max")
    process = session(*TWO, "--benchmark-compare", *shown, *into(folder))
    assert process.returncode == 0, process.stdout
    assert "(NOW)" in process.stdout
    assert "(0001_" in process.stdout
    assert "benchmark 'device=cpu': 4 tests" in process.stdout
    header = next(line for line in process.stdout.splitlines() if line.startswith("Name (time in"))
    assert header.split()[4:] == ["Min", "Max"]


def test_x_stops_at_the_first_failure_and_keeps_the_run(tmp_path: Path) -> None:
    """All was measured before the first test, so nothing measured is lost."""
    process = session(*CPU, "-x", "--step-hidden=1000000000,32", f"--step-results={tmp_path / 'results'}")
    assert process.returncode == 1
    assert "1 failed" in process.stdout
    assert "passed" not in process.stdout.splitlines()[-1]
    assert list((tmp_path / "results").glob("*/samples.npz"))


def test_pytest_benchmarks_own_time_and_rounds_steer_the_campaign(tmp_path: Path) -> None:
    """Rounds at least, when they are asked for and the budget allows them."""
    out = tmp_path / "out.json"
    process = session(
        *CPU,
        "-k",
        "inference",
        "--benchmark-min-rounds=12",
        "--step-target=90%",
        "--step-budget=20",
        f"--benchmark-json={out}",
        f"--step-results={tmp_path / 'results'}",
    )
    assert process.returncode == 0, process.stdout
    assert json.loads(out.read_text())["benchmarks"][0]["stats"]["rounds"] == 12
