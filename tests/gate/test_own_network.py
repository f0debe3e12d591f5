"""The gate in a user's own repository: a network in one file, and no nncore anywhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.machine

NETWORK = """
from torch import nn

WIDTH = 64

def make():
    return nn.Sequential(nn.Linear(20, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 3))
"""
SUBJECT = "./my_net.py:make"


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=A", "-c", "user.email=a@b.c")
    command = ["git", "-C", str(folder), *identity, *arguments]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with a network on main, the same in other words, and a far wider one."""
    folder = tmp_path_factory.mktemp("mine")
    file = folder / "my_net.py"
    git(folder, "init", "-b", "main")
    for branch, text in {
        "main": NETWORK,
        "same": NETWORK.replace("WIDTH = 64", "WIDTH = 8 * 8  # as before"),
        "wider": NETWORK.replace("WIDTH = 64", "WIDTH = 2048"),
    }.items():
        if branch != "main":
            git(folder, "checkout", "-b", branch, "main")
        file.write_text(text)
        git(folder, "add", ".")
        git(folder, "commit", "-m", branch)
    return folder


@pytest.mark.parametrize(("candidate", "budget", "code"), [("same", 1, 0), ("wider", 120, 1)])
def test_each_arm_has_the_network_of_its_own_revision(
    repository: Path, candidate: str, budget: int, code: int
) -> None:
    """What is wider is slower, and its counters say so; what is the same has the same counters.

    Counting needs no pairs, so the least budget is enough for what is the same.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    words = ["--base", "main", "--cand", candidate, f"--step-subject={SUBJECT}", "--step-batch-sizes=32"]
    done = subprocess.run(
        [sys.executable, "-m", "bench", "gate", *words, f"--budget={budget}"],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert ("counted:" in done.stdout) == bool(code)
    assert "cpu-t1-float32-eager-b32-my_net_make" in done.stdout
