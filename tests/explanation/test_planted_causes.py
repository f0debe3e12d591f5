"""Ten causes planted in a copy of the code, measured by real runs, and named first when these are compared.

    pytest tests/explanation

Each cause is a change of `nncore` as a user would make it. A copy of the project with the change runs
`nncore-bench profile` on one case, and its run is compared with that of the unchanged copy.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from nncore_bench.compare.compare import compare_cases
from nncore_bench.compare.explain import Cause, Compared
from nncore_bench.estimate.source import read_source

pytestmark = pytest.mark.machine

ROOT = Path(__file__).parents[2]
GRID = (
    "--step-devices=cpu",
    "--step-batch-sizes=32",
    "--step-hidden=128",
    "--step-budget=3",
)


Edit = tuple[str, str, str]
"""A file of nncore, what is replaced in it, and by what."""


@dataclass(frozen=True)
class Code:
    """Hold a version of the code by its edits, and with how many threads and launches it is run."""

    edits: tuple[Edit, ...] = ()
    threads: int = 1
    launches: int = 6
    """With two, one that was held up leaves an interval without end, or passes for a change of its phase."""


@dataclass(frozen=True)
class Planted:
    """Hold a cause: the code before and after, and the phases and the words by which it may be named."""

    before: Code
    after: Code
    phases: str
    words: tuple[str, ...]


def edited(old: str, new: str, file: str = "step.py", threads: int = 1) -> Code:
    return Code(((file, old, new),), threads)


PLAIN = Code()
FORWARD = "self.model(inputs)"
LOSS = "self.criterion(logits, targets)\n"
CAUSES = {
    "foreach off": Planted(
        edited("Adam(model.parameters(), lr=lr)", "Adam(model.parameters(), lr=lr, foreach=True)"),
        PLAIN,
        "optimizer",
        ("a loop over tensors instead of _foreach_ operators",),
    ),
    "extra clone": Planted(
        PLAIN, edited(FORWARD, "self.model(inputs.clone())"), "forward", ("+1 aten::clone",)
    ),
    ".item() in the loop": Planted(
        PLAIN,
        edited(LOSS, f"{LOSS}        loss.item()\n"),
        "loss",
        ("+1 aten::_local_scalar_dense", ".item()"),
    ),
    "float64 input": Planted(
        PLAIN,
        Code(
            (
                ("data.py", ".float().div(16)", ".double().div(16)"),
                ("model.py", "self.fc1(inputs)", "self.fc1(inputs.float())"),
            )
        ),
        "forward",
        ("aten::_to_copy", "another type"),
    ),
    "wider hidden layer": Planted(
        PLAIN,
        edited("super().__init__()", "super().__init__()\n        hidden_size *= 2", "model.py"),
        "case",
        ("parameters", "101,770 → 203,530"),
    ),
    "set_to_none=False": Planted(
        PLAIN,
        edited(".zero_grad()", ".zero_grad(set_to_none=False)"),
        "zero_grad backward",
        ("gradients are", "kept"),
    ),
    "threads halved": Planted(
        Code(threads=2),
        edited("logits: Tensor = self", "torch.set_num_threads(1)\n        logits: Tensor = self", threads=2),
        "case",
        ("threads", "2 → 1"),
    ),
    "slow loader": Planted(
        PLAIN,
        Code(
            (
                (
                    "data.py",
                    "return iter(loader)",
                    "return (__import__('time').sleep(0.002) or batch for batch in loader)",
                ),
            ),
        ),
        "data",
        ("loading, Python or sleeping",),
    ),
    "an extra operator": Planted(
        PLAIN, edited(FORWARD, "torch.sin(self.model(inputs))"), "forward", ("+1 aten::sin",)
    ),
    "garbage collection forced": Planted(
        PLAIN,
        edited(
            "self.torch_optimizer.step()", "self.torch_optimizer.step()\n        __import__('gc').collect()"
        ),
        "optimizer",
        ("garbage collections", "0 → 1"),
    ),
}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


@cache
def run_of(workshop: Path, code: Code) -> Path:
    """Return the folder of a run of some code."""
    copy = workshop / f"copy-{abs(hash(code))}"
    for package in ("bench", "nncore"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in code.edits:
        source = copy / "nncore" / file
        assert old in source.read_text(), f"{file} has changed: {old!r} is not in it"
        source.write_text(source.read_text().replace(old, new, 1))
    how = (f"--step-threads={code.threads}", f"--step-launches={code.launches}")
    command = [sys.executable, "-m", "bench", "profile", *GRID, *how]
    environment = os.environ | {"PYTHONPATH": str(copy)}
    done = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout
    (folder,) = (copy / "results").iterdir()
    return folder


@cache
def explained(workshop: Path, planted: Planted) -> Compared:
    sources = [read_source(run_of(workshop, code)) for code in (planted.before, planted.after)]
    (result,) = compare_cases(*sources).results
    return result


def says(cause: Cause, planted: Planted) -> bool:
    told = f"{cause.what} {cause.change} {cause.meaning}"
    return cause.phase in planted.phases.split() and all(words in told for words in planted.words)


@pytest.mark.parametrize("name", CAUSES)
def test_a_planted_cause_is_named_first(workshop: Path, name: str) -> None:
    """Before everything else that differs between the two runs."""
    result = explained(workshop, CAUSES[name])
    assert result.causes, "nothing was found"
    assert says(result.causes[0], CAUSES[name]), result.causes


def test_the_same_code_twice_has_no_exact_change(workshop: Path) -> None:
    """Whatever its times do."""
    again = edited("# what loss.backward() calls", "# the same, said in other words")
    result = explained(workshop, Planted(PLAIN, again, "", ()))
    assert not [cause for cause in result.causes if cause.exact]
