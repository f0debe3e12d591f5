"""pytest's and pytest-benchmark's own options still do what their users expect."""

import json
from pathlib import Path
from typing import Any

import pytest
from sessions import SMALL, session

pytestmark = pytest.mark.machine

CPU = (*SMALL, "--benchmark-only")


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """Return what a session of two phases and of twelve rounds printed, and its benchmarks."""
    folder = tmp_path_factory.mktemp("chosen")
    process = session(
        *CPU,
        "-k",
        "forward or loss",
        "--benchmark-min-rounds=12",
        "--step-target=90%",
        "--step-budget=20",
        f"--benchmark-json={folder / 'out.json'}",
        f"--step-results={folder / 'results'}",
    )
    assert process.returncode == 0, process.stdout
    return process.stdout, json.loads((folder / "out.json").read_text())["benchmarks"]


def test_k_chooses_phases_and_only_what_they_need_is_run(chosen: tuple[str, list[dict[str, Any]]]) -> None:
    """The whole step still runs, and what was not asked for is not reported."""
    printed, benchmarks = chosen
    assert "2 passed, 6 deselected" in printed
    assert [benchmark["params"]["phase"] for benchmark in benchmarks] == ["forward", "loss"]


def test_pytest_benchmarks_own_time_and_rounds_steer_the_campaign(
    chosen: tuple[str, list[dict[str, Any]]],
) -> None:
    """Rounds at least, when they are asked for and the budget allows them."""
    assert [benchmark["stats"]["rounds"] for benchmark in chosen[1]] == [12, 12]


def test_x_stops_at_the_first_failure_and_keeps_the_run(tmp_path: Path) -> None:
    """All was measured before the first test, so nothing measured is lost."""
    process = session(*CPU, "-x", "--step-hidden=1000000000,32", f"--step-results={tmp_path / 'results'}")
    assert process.returncode == 1
    assert "1 failed" in process.stdout
    assert "passed" not in process.stdout.splitlines()[-1]
    assert list((tmp_path / "results").glob("*/samples.npz"))
