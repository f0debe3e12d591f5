"""pytest's and pytest-benchmark's own options still do what their users expect."""

import json
from pathlib import Path

import pytest
from sessions import SMALL, session

pytestmark = pytest.mark.machine

CPU = (*SMALL, "--step-devices=cpu", "--benchmark-only")


def test_k_chooses_phases_and_only_what_they_need_is_run(tmp_path: Path) -> None:
    """The whole step still runs, and what was not asked for is not reported."""
    out = tmp_path / "out.json"
    process = session(
        *CPU, "-k", "forward", f"--benchmark-json={out}", f"--step-results={tmp_path / 'results'}"
    )
    assert process.returncode == 0, process.stdout
    assert "1 passed, 7 deselected" in process.stdout
    (benchmark,) = json.loads(out.read_text())["benchmarks"]
    assert benchmark["params"]["phase"] == "forward"


def test_save_then_compare_shows_both_runs(tmp_path: Path) -> None:
    """`--benchmark-compare` finds the same names in the saved run."""
    storage = (f"--benchmark-storage={tmp_path / 'storage'}", f"--step-results={tmp_path / 'results'}")
    assert session(*CPU, "--benchmark-autosave", *storage).returncode == 0
    process = session(*CPU, "--benchmark-compare", *storage)
    assert process.returncode == 0, process.stdout
    assert "(NOW)" in process.stdout
    assert "(0001_" in process.stdout


def test_grouping_and_columns_are_ours_unless_the_user_says_otherwise(tmp_path: Path) -> None:
    """Any parameter groups, and the columns asked for are the columns shown."""
    process = session(
        *CPU,
        "-k",
        "step or loss",
        "--benchmark-group-by=param:device",
        "--benchmark-columns=min,max",
        f"--step-results={tmp_path / 'results'}",
    )
    assert process.returncode == 0, process.stdout
    assert "benchmark 'device=cpu': 2 tests" in process.stdout
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
