"""`nncore-bench gate` on real revisions of a copy of the project, and its exit codes and files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import pytest
import torch

from nncore_bench.__main__ import main
from nncore_bench.gate.revisions import Repository

pytestmark = pytest.mark.machine

ROOT = Path(__file__).parents[2]
GRID = ("--step-batch-sizes=32", "--step-hidden=128", "--budget=120")
SLOWER = (
    "logits: Tensor = self.model(inputs)",
    "logits: Tensor = self.model(self.model(inputs) @ inputs[:10] + inputs)",
)


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@b.c")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with the project, and a branch on which the forward phase does twice the work."""
    folder = tmp_path_factory.mktemp("project")
    for package in ("bench", "nncore"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    git(folder, "init", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "base")
    git(folder, "checkout", "-b", "slower")
    step = folder / "nncore" / "step.py"
    assert SLOWER[0] in step.read_text()
    step.write_text(step.read_text().replace(*SLOWER))
    git(folder, "commit", "-am", "twice the work")
    git(folder, "checkout", "-b", "broken", "main")
    step.write_text("import nothing_of_this_name\n")
    git(folder, "commit", "-am", "does not import")
    git(folder, "checkout", "-b", "empty", "main")
    git(folder, "rm", "-r", "nncore")
    git(folder, "commit", "-m", "nothing to measure")
    git(folder, "checkout", "-b", "no-package", "main")
    git(folder, "mv", "nncore/__init__.py", "nncore/other.py")
    git(folder, "commit", "-m", "a folder that is no package")
    git(folder, "checkout", "main")
    return folder


@pytest.fixture(autouse=True)
def place(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Gate in the repository, with temporary folders beside it; a gate changes what SIGTERM does."""
    temporary = project.with_name("temporary")
    temporary.mkdir(exist_ok=True)
    monkeypatch.chdir(project)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True)
class Gate:
    """How a gate ended, and what it printed."""

    code: int
    out: str
    errors: str


def gate(*arguments: str) -> Gate:
    """Return what a gate in this process came to."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as errors:
        code = main(["gate", *GRID, *arguments])
    return Gate(code, out.getvalue(), errors.getvalue())


def test_twice_the_work_is_slower_with_its_phase_and_its_operators(tmp_path: Path) -> None:
    """Exit code 1, and the same in JSON and in the job summary."""
    done = gate(
        "--base",
        "main",
        "--cand",
        "slower",
        f"--json={tmp_path / 'a.json'}",
        f"--summary={tmp_path / 'a.md'}",
    )
    assert done.code == 1, done
    assert "counted: forward: aten::" in done.out
    assert "is slower by" in done.out
    case = "cpu-t1-float32-eager-b32-h128"
    assert f"nncore-bench gate {' '.join(GRID)} --base main --cand slower --cases {case}`" in done.out
    assert "forward" in done.out.partition("is slower by")[2].partition(";")[0]
    record = json.loads((tmp_path / "a.json").read_text())
    (case,) = [one for one in record["decisions"] if one["kind"] == "case"]
    assert case["verdict"] == "slower"
    assert case["ratio"] > 1.1
    assert "): slower (margin 5.0 %" in (tmp_path / "a.md").read_text().splitlines()[0]


def test_identical_code_is_not_slower_on_a_single_core() -> None:
    """Exit code 0: same or undecided, and nothing that is counted changed."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [min(cores)])  # which the gate and its workers inherit
    try:
        done = gate("--base", "main", "--cand", "HEAD", "--budget=12")
    finally:
        os.sched_setaffinity(0, cores)
    assert done.code == 0, done
    assert "counted:" not in done.out
    assert ", void" not in done.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--base", "nowhere"), "'nowhere' is no revision of"),
        (("--base", "main", "--cases", "b999"), "--cases: 'b999' matches no case of the grid"),
        (("--base", "main", "--cases", "b32 and"), "--cases: 'b32 and' is not an expression"),
        (("--base", "main", "--step-budget=9"), "--step-budget: the gate has its own time limit"),
        (("--base", "main", "--step-variants=inference-mode"), "inference-mode has no phases of a step"),
        (("--base", "main", "--margin=5"), "--margin: '5' is not between 0 and 100 %"),
        (("--base", "main", "--cand", "empty"), "has no package nncore, which is what is measured"),
        pytest.param(
            ("--base", "main", "--step-devices=cuda"),
            "--step-devices: ",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
        (("--base-python", "no/python"), "--base-python: 'no/python' is not a program"),
        (("--json", "no/such/folder.json"), "--json: 'no/such/folder.json' cannot be written"),
        (("--summary", "."), "--summary: '.' cannot be written"),
        (("--base-python", "/bin/true"), "the measuring process did not start"),
        (("--base", ""), "'' is no revision of"),
        (("--cand", "HEAD"), "is the merge base with main itself (name what to compare with: --base REV)"),
        (("--base", "main", "--cand", "no-package"), "its code has no package nncore"),
        (("--base", "main", "--cand", "broken"), "its code cannot be imported (ModuleNotFoundError"),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    """Exit code 2, before anything is measured."""
    done = gate(*arguments)
    assert done.code == 2
    assert sentence in done.errors
    assert "Traceback" not in done.errors


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--base", "main", "--cand", "slower", "--fail-on-counters", "--budget=1"), 1),
        (("--base", "main", "--budget=1", "--strict"), 3),
        (("--base", "main", "--budget=1"), 0),
    ],
)
def test_what_is_undecided_fails_where_that_was_asked_for(arguments: tuple[str, ...], code: int) -> None:
    """Two pairs decide nothing; what was counted needs none."""
    done = gate(*arguments)
    assert done.code == code, done
    assert "the budget of 1 s ended screening after 2 of 8 pairs" in done.out
    assert ("counted: forward" in done.out) == (code == 1)


def test_two_pythons_measure_the_same_code(tmp_path: Path) -> None:
    """The other one is this one by another name; without a base both arms have the candidate's code.

    Identical code may stay undecided, so the budget ends the gate after two pairs.
    """
    other = tmp_path / "other-python"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    done = gate("--base-python", str(other), "--budget=1")
    assert done.code == 0, done
    arms = [f"working tree with torch {torch.__version__} of {python}" for python in (sys.executable, other)]
    assert " against ".join(arms) in done.out
    assert "counted:" not in done.out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_costs_the_file_and_not_the_verdict(tmp_path: Path) -> None:
    """Exit code 2 and one sentence, after all that was found."""
    file = tmp_path / "outcome.json"
    files = ("--summary", "/dev/full", "--json", str(file))
    done = gate("--base", "main", "--cases", "b32", "--budget=1", *files)
    assert done.code == 2
    assert "# Gate: working tree against main" in done.out
    assert "cannot be used (No space left on device)" in done.errors
    assert "Traceback" not in done.errors
    assert json.loads(file.read_text())["decisions"]


def test_without_git_there_are_no_revisions(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, exit code 2."""
    monkeypatch.setenv("PATH", str(project / "bench"))
    done = gate("--base", "main")
    assert done.code == 2
    assert "git cannot be run (No such file or directory), and revisions come from it" in done.errors


def test_a_cancelled_gate_says_what_is_known_and_cleans_up(project: Path) -> None:
    """A job that is cancelled gets SIGTERM: as Ctrl-C, it is undecided, with exit code 130."""
    environment = {**os.environ, "PYTHONPATH": str(project), "TMPDIR": tempfile.gettempdir()}
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", "gate", *GRID, "--base", "main"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "screening" not in (told := process.stderr.readline()):
        assert told, "the gate ended before it could be cancelled"
    process.terminate()
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted, so undecided" in out
    assert "Traceback" not in errors
    assert not list(project.with_name("temporary").glob("nncore-bench-*"))


def test_nothing_is_left_behind(project: Path) -> None:
    """No process, no folder, and nothing in the repository."""
    known = Repository(project)
    assert known.revision("HEAD") == replace(known.revision("main"), name="HEAD")
    assert not (project / ".git" / "worktrees").exists()
    assert not [
        line for line in git(project, "status", "--porcelain").splitlines() if "__pycache__" not in line
    ]
    assert not list(project.with_name("temporary").glob("nncore-bench-*"))
