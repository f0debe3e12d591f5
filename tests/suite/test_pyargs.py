"""An installed suite runs by its name, from any folder: `pytest --pyargs nncore_bench`."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from nncore_bench.plugin import SUITE, path_of

INSTALLED = any(point.value == "nncore_bench.plugin" for point in entry_points(group="pytest11"))


def test_names_of_this_package_become_places_and_others_stay() -> None:
    """With the test that is named behind it; a folder `bench` may be the user's own."""
    assert path_of("nncore_bench") == str(SUITE)
    assert path_of("nncore_bench::test_phase") == f"{SUITE / 'test_phases.py'}::test_phase"
    for other in ("bench", "tests/", "my_package.nncore_bench", "test_mine.py::test_phase"):
        assert path_of(other) == other


@pytest.mark.machine
@pytest.mark.skipif(not INSTALLED, reason="the package is not installed, so pytest does not know its plugin")
def test_an_installed_suite_takes_its_options_from_any_folder(tmp_path: Path) -> None:
    """By the name of the package, with options that only its conftest declares."""
    command = [sys.executable, "-m", "pytest", "--pyargs", "nncore_bench", "--collect-only", "-q"]
    listed = subprocess.run(
        [*command, "--step-batch-sizes=7", "--step-hidden=5", "--step-threads=1", "--step-devices=cpu"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "test_phase[forward-cpu-t1-float32-eager-b7-h5]" in listed
