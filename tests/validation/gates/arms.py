"""Revisions whose difference is known: a repository of nncore with a branch for each difference."""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nncore_bench.selftest.injected import Planted, code_of

ROOT = Path(__file__).parents[3]
ONE_CASE = (32, 128)
"""Batch size and hidden width of the case in which alone something is slower."""

BASE = "base"


@dataclass(frozen=True)
class Difference:
    """A difference of two revisions: what is planted, the margin to judge it at, and what must be found.

    `slower` names the column that the gate has to call slower: ONE for the case of ONE_CASE, and None where
    every case is, in the mean alone.
    """

    planted: Planted
    margin: str = "5%"
    slower: str | None = None


ONE = "one case"
NEUTRAL = ("comment", "import", "renamed")
"""Branches that differ from the base in nothing that matters."""

EVERYWHERE = Planted(share=0.05)
DIFFERENCES: Mapping[str, Difference] = {
    "case-5": Difference(replace(EVERYWHERE, case=ONE_CASE), slower=ONE),
    "case-3": Difference(Planted(share=0.03, case=ONE_CASE), "3%", ONE),
    "case-2": Difference(Planted(share=0.02, case=ONE_CASE), "2%", ONE),
    "backward-5": Difference(replace(EVERYWHERE, phases=("backward",)), slower="backward"),
    "call-20us": Difference(Planted(extra_ns=20_000, phases=("forward",)), slower="forward"),
    "suite-1.5": Difference(Planted(share=0.015), slower="suite"),
    "tail": Difference(Planted(every=50, times=10)),
}


def planted_repository(folder: Path) -> Path:
    """Return a repository of nncore in a new folder, with a branch for the base and for each difference."""
    package = folder / "nncore"
    shutil.copytree(ROOT / "nncore", package, ignore=shutil.ignore_patterns("__pycache__"))
    step = package / "step.py"
    original = step.read_text()
    _git(folder, "init", "--quiet", "-b", BASE)
    step.write_text(original + code_of(Planted()))
    _commit(folder, BASE)
    for name, difference in DIFFERENCES.items():
        _branch(folder, name)
        step.write_text(original + code_of(difference.planted))
        _commit(folder, name)
    for name in NEUTRAL:
        _branch(folder, name)
        _change_nothing(package, name)
        _commit(folder, name)
    _git(folder, "checkout", "--quiet", BASE)
    return folder


def _change_nothing(package: Path, name: str) -> None:
    step, model = package / "step.py", package / "model.py"
    if name == "comment":
        step.write_text(f"# A comment of one line.\n{step.read_text()}")
    elif name == "import":
        model.write_text(f"{model.read_text()}\nimport html.entities  # nobody uses it\n")
    else:
        step.rename(package / "training_step.py")
        step.write_text("from nncore.training_step import TrainStep\n")


def arms_of(scenario: str, number: int) -> tuple[str, str]:
    """Return base and candidate of a run: neutral ones in turn, each as often on either side."""
    if scenario in DIFFERENCES:
        return BASE, scenario
    other = NEUTRAL[number % len(NEUTRAL)]
    return (BASE, other) if number // len(NEUTRAL) % 2 else (other, BASE)


def _branch(folder: Path, name: str) -> None:
    _git(folder, "checkout", "--quiet", "-b", name, BASE)


def _commit(folder: Path, message: str) -> None:
    _git(folder, "add", "--all")
    _git(folder, "-c", "user.name=planted", "-c", "user.email=planted@localhost", "commit", "-qm", message)


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True)  # noqa: S607 - the user's own git
