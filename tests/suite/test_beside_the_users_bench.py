"""A user's own `bench.py` or `bench/` and the instrument leave each other alone."""

import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

import pytest

SMALL = (
    "--step-batch-sizes=4",
    "--step-threads=1",
    "--step-devices=cpu",
    "--step-launches=1",
    "--step-budget=1",
)
SCRIPT = Path(sys.executable).with_name("nncore-bench")
pytestmark = [
    pytest.mark.machine,
    pytest.mark.skipif(
        not (SCRIPT.exists() and entry_points(group="console_scripts", name="nncore-bench")),
        reason="nncore-bench is not installed, so it has no script",
    ),
]
OF_THE_USER = """
from pathlib import Path
Path(__file__).with_name("imported").touch()
MINE = True
"""


@pytest.fixture(params=["bench.py", "bench/__init__.py", "bench/mine.py"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a folder with a `bench` of the user's: a file, a package, or a folder that is none."""
    own = tmp_path / request.param
    own.parent.mkdir(exist_ok=True)
    own.write_text(OF_THE_USER)
    return tmp_path


def run(folder: Path, *commands: Sequence[str]) -> list[str]:
    """Return what commands print that run side by side; they must succeed."""
    processes = [
        subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for words in commands
    ]
    printed = [process.communicate(timeout=120) for process in processes]
    assert not any(process.returncode for process in processes), printed
    return [out for out, _ in printed]


def test_the_script_and_its_workers_the_suite_and_measure_step_run(folder: Path) -> None:
    """By the name that nothing shadows, or where it lies; the script measures a network of the user's there.

    What is timed and printed is seen where `measure_step` runs.
    """
    (folder / "net.py").write_text(
        "from torch import nn\nfrom types import SimpleNamespace\nimport torch\n"
        "def make():\n    return SimpleNamespace(model=nn.Linear(3, 2), inputs=torch.randn(4, 3))\n"
    )
    suite = ("-m", "pytest", "--pyargs", "nncore_bench", "--benchmark-disable", "--step-hidden=8")
    code = (
        "from nncore_bench import measure_step as m; print(m(batch_sizes=4, hidden=8, launches=1, budget=1))"
    )
    of_script, of_suite, of_code = run(
        folder,
        (str(SCRIPT), "profile", "--step-subject=./net.py:make", *SMALL),
        (sys.executable, *suite, *SMALL),
        (sys.executable, "-c", code),
    )
    assert "-net_make" in of_script
    assert "8 passed" in of_suite
    assert "zero_grad" in of_code
    assert not list(folder.rglob("imported"))


def test_the_users_own_tests_import_their_own(folder: Path) -> None:
    """`python -m pytest` loads the plugin of ours and then their module."""
    own = "bench.mine" if (folder / "bench" / "mine.py").exists() else "bench"
    (folder / "test_mine.py").write_text(
        f"def test_mine():\n    import {own} as mine\n    assert mine.MINE\n"
    )
    assert "1 passed" in run(folder, (sys.executable, "-m", "pytest", "-q", "test_mine.py"))[0]
