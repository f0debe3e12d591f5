"""A training step of one's own in real sessions of the suite: its parts in tables and files, and compared."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sessions import ROOT, session

from nncore_bench.estimate.source import Source, read_source
from nncore_bench.runs import BENCHMARK_FILE, RUN_FILE

pytestmark = pytest.mark.machine

STEP = """
import torch
from torch import nn
from nncore_bench import phase


class Loop:
    def __init__(self):
        self.model = nn.Linear(20, 3)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.batch = torch.randn(32, 20), torch.arange(32) % 3

    def training_step(self, batch):
        inputs, targets = batch
        with phase("augment"):
            inputs = inputs + MORE
        loss = nn.functional.cross_entropy(self.model(inputs), targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss
"""
PARTS = {"zero_grad", "forward", "backward", "optimizer", "augment", "other"}


def measured(folder: Path, more: str) -> tuple[subprocess.CompletedProcess[str], Source]:
    """Measure the step of a file, where `more` is added to its inputs."""
    (folder / "loop.py").write_text(STEP.replace("MORE", more))
    results = folder / f"results-{len(more)}"
    options = ["--step-launches=2", "--step-budget=2", "--step-devices=cpu", "--step-threads=1"]
    options += [
        f"--step-subject={folder / 'loop.py'}:Loop",
        "--step-batch-sizes=32",
        "--benchmark-only",
        "-rs",
    ]
    done = session(*options, f"--step-results={results}")
    assert done.returncode == 0, done.stdout + done.stderr
    return done, read_source(next(results.iterdir()))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[subprocess.CompletedProcess[str], Source]]:
    folder = tmp_path_factory.mktemp("own")
    return [measured(folder, more) for more in ("0.1", "torch.randn_like(inputs)")]


def test_its_parts_are_columns_and_phases_that_it_lacks_are_skipped(
    runs: list[tuple[subprocess.CompletedProcess[str], Source]],
) -> None:
    """And all of them stand in the files that others read."""
    done, source = runs[0]
    assert "augment" in done.stdout
    assert "its step has no loss" in done.stdout
    assert "its step has no inference" in done.stdout
    assert {row.phase for row in source.rows} == PARTS | {"step", "data"}
    assert source.run.cases[0].parts[-2:] == ("augment", "other")
    assert source.folder is not None
    published = read_source(source.folder / BENCHMARK_FILE)
    assert {row.phase for row in published.rows} == PARTS | {"step", "data"}
    counted = json.loads((source.folder / RUN_FILE).read_text())["cases"][0]["counters"]["phases"]
    assert counted["augment"]["operators"] == 1  # the sum


def test_two_runs_of_it_are_compared_part_by_part(
    runs: list[tuple[subprocess.CompletedProcess[str], Source]],
) -> None:
    """One draw of random numbers more, in the part that has it."""
    (_, before), (_, after) = runs
    assert before.folder is not None
    assert after.folder is not None
    command = [sys.executable, "-m", "nncore_bench", "compare", str(before.folder), str(after.folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    line = next(line for line in done.stdout.splitlines() if "aten::randn_like" in line)
    assert "augment" in line
    assert "+1 aten::randn_like" in line
