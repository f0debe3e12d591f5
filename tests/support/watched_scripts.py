"""Scripts that train a small network, run bare and by `nncore-bench run`."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRAINING = """
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(32, 8)
    y = x.sum(1, keepdim=True)


    def steps(number):
        for _ in range(number):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
        print(f"{loss.item():.9f}", flush=True)

"""


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    code: int
    out: str
    err: str
    answer: dict[str, Any]

    @property
    def phases(self) -> set[str]:
        return {line["phase"] for line in self.answer["tables"]["watched"]}


def script(folder: Path, then: str, before: str = "") -> Path:
    path = folder / "train.py"
    path.write_text(textwrap.dedent(before) + textwrap.dedent(TRAINING) + textwrap.dedent(then))
    return path


def bare(folder: Path, *words: str) -> Ran:
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False)
    return Ran(done.returncode, done.stdout, done.stderr, {})


def command(folder: Path, words: Sequence[str], options: Sequence[str] = ()) -> list[str]:
    own = [f"--json={folder / 'answer.json'}", f"--results={folder / 'results'}", *options]
    return [sys.executable, "-m", "nncore_bench", "run", *own, *words]


def run(folder: Path, *words: str, options: Sequence[str] = ()) -> Ran:
    done = subprocess.run(
        command(folder, words, options), cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    return ran(folder, done.returncode, done.stdout, done.stderr)


def ran(folder: Path, code: int, out: str, err: str) -> Ran:
    file = folder / "answer.json"
    return Ran(code, out, err, json.loads(file.read_text()) if file.exists() else {})
