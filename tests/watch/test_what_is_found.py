"""What `nncore-bench run` finds in scripts that have something to be found."""

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from watched_scripts import bare, run, script

pytestmark = pytest.mark.machine

COMPILED = """
    import torch._dynamo


    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = model

        def forward(self, x):
            return self.layers(x) + 1


    net = Net()
    net.compile(backend="eager")


    def on(size):
        optimizer.zero_grad()
        nn.functional.mse_loss(net(torch.randn(size, 8)), torch.zeros(size, 1)).backward()
        optimizer.step()


    for step in range(120):
        on(32 if step < 40 else 17 if step < 60 else 9)
    print(torch._dynamo.utils.counters["frames"]["ok"])
"""
FALLS_BACK = """
    class Talks(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = model

        def forward(self, x):
            x = self.layers(x) * 2
            print(end="")
            return x + 1


    model = Talks()
    model.compile(backend="eager")
    steps(100)
"""
READS = """
    for step in range(100):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        busy = [loss.item() for _ in range(2000)]
"""
KEEPS = """
    kept = []
    for step in range(1200):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        kept.append(torch.ones(50_000))
        loss.backward()
        optimizer.step()
"""
RANKS = """
    import os
    import time
    import torch
    from torch import nn

    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(32, 8), torch.randn(32, 1)
    for step in range(120):
        if rank == 1:
            time.sleep(0.005)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    torch.distributed.destroy_process_group()
"""


def found(folder: Path, path: Path) -> dict[str, dict[str, object]]:
    """Return the findings in a script by their names."""
    answer = run(folder, path.name, options=["--length=5"]).answer
    return {line["finding"]: line for line in answer["tables"].get("findings", [])}


def test_code_compiled_anew_is_found_and_no_more_is_compiled_than_without_us(tmp_path: Path) -> None:
    path = script(tmp_path, COMPILED)
    alone, watched = bare(tmp_path, path.name), run(tmp_path, path.name, options=["--length=5"])
    assert watched.out == alone.out
    assert int(alone.out) > 1
    (line,) = [line for line in watched.answer["tables"]["findings"] if line["finding"] == "compiled-again"]
    assert line["gain_s"] > 0
    assert re.search(
        r"compiled .* again while it ran, .*: .*(expected 32, actual 17|does not say why)", line["evidence"]
    )


def test_a_line_at_which_compiled_code_falls_back_is_found(tmp_path: Path) -> None:
    path = script(tmp_path, FALLS_BACK)
    line = path.read_text().splitlines().index('        print(end="")') + 1
    assert f"train.py:{line}: print(end=" in str(found(tmp_path, path)["graph-breaks"]["evidence"])


def test_a_line_that_reads_much_is_found(tmp_path: Path) -> None:
    path = script(tmp_path, READS)
    line = path.read_text().splitlines().index("    busy = [loss.item() for _ in range(2000)]") + 1
    assert f"train.py:{line} (item of a tensor on cpu)" in str(
        found(tmp_path, path)["synchronisation"]["evidence"]
    )


def test_memory_that_is_kept_is_found(tmp_path: Path) -> None:
    """A tensor of 200 kB in each step."""
    path = script(tmp_path, KEEPS)
    evidence = str(found(tmp_path, path)["memory-growth"]["evidence"])
    kb = re.match(r"grows by (\d+) kB a step in RAM", evidence)
    assert kb is not None
    assert 190 <= int(kb[1]) <= 220


def test_a_script_with_nothing_to_find_has_no_findings_and_a_page(tmp_path: Path) -> None:
    path = script(tmp_path, "steps(200)")
    watched = run(tmp_path, path.name)
    assert set(watched.answer["tables"]) == {"watched"}
    (page,) = (tmp_path / "results").glob("*/report.html")
    assert f"- Page: {page}\n" in watched.err
    assert "takes" in page.read_text()


def test_of_two_ranks_the_late_one_is_named(tmp_path: Path) -> None:
    """It sleeps for 5 ms in each step."""
    (tmp_path / "ranks.py").write_text(dedent(RANKS))
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "--no-python",
    ]
    ours = [sys.executable, "-m", "nncore_bench", "run", f"--results={tmp_path / 'results'}", "--length=5"]
    done = subprocess.run(
        [*torchrun, *ours, "ranks.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "## Ranks" in done.stderr
    late = re.search(r"Rank 1 is late: .* in (\d+) % of the steps; its between steps takes", done.stderr)
    assert late is not None, done.stderr
    assert int(late[1]) > 90
    assert "- Run folder of rank 1: " in done.stderr
