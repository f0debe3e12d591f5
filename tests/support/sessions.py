"""Real sessions of the suite, as a user types them."""

import os
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = (
    "--step-devices=cpu",
    "--step-threads=1",
    "--step-batch-sizes=32",
    "--step-hidden=32",
    "--step-launches=2",
    "--step-budget=1",
)


def command(*arguments: str) -> list[str]:
    """Return the command line of a session of the suite."""
    return [sys.executable, "-m", "pytest", "bench/", "-p", "no:cacheprovider", *arguments]


def session(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the suite with some arguments in the project's root and return what it printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def session_here(capfd: pytest.CaptureFixture[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the suite in this process, where what is tested ends before anything is measured."""
    typed = command(*arguments)
    with chdir(ROOT):
        code = pytest.main(typed[typed.index("bench/") :])
    return subprocess.CompletedProcess(typed, code, *capfd.readouterr())
