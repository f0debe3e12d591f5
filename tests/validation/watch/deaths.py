"""Whether a watched script that dies leaves what a bare one leaves, and a table within 5 s.

    python tests/validation/watch/deaths.py --out DIR

Each way to die is tried bare and under `nncore-bench run`.
"""

import argparse
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pandas as pd

TRAINING = """
    import os, signal, sys, time
    import torch
    from torch import nn

    torch.set_num_threads(1)
    model = nn.Linear(64, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = torch.randn(16, 64), torch.arange(16) % 10
    for step in range(400):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    print("trained", flush=True)
"""
WAYS = {
    "an exception": "raise ValueError('nothing left')",
    "sys.exit(5)": "sys.exit(5)",
    "os._exit(3)": "os._exit(3)",
    "a segmentation fault": "import ctypes; ctypes.string_at(0)",
    "SIGKILL to itself": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGINT from outside": "time.sleep(60)",
    "SIGTERM from outside": "time.sleep(60)",
}
FROM_OUTSIDE = {"SIGINT from outside": signal.SIGINT, "SIGTERM from outside": signal.SIGTERM}


def main() -> None:
    """Print a line for each way to die."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    lines = [line_of(way, out) for way in WAYS]
    sys.stdout.write(pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True) + "\n")


def line_of(way: str, out: Path) -> dict[str, object]:
    """Return how a script ended, bare and watched."""
    path = out / "train.py"
    path.write_text(textwrap.dedent(TRAINING) + WAYS[way] + "\n")
    bare, _, _ = ended(way, [sys.executable, str(path)])
    ours = [sys.executable, "-m", "nncore_bench", "run", f"--results={out}", str(path)]
    watched, err, seconds = ended(way, ours)
    return {
        "way": way,
        "code bare": bare,
        "watched": watched,
        "table": "yes" if "| step " in err else "no",
        "s from the end": f"{seconds:.1f}",
    }


def ended(way: str, command: list[str]) -> tuple[int, str, float]:
    """Return exit code and errors of a command, and the seconds from the end of its training to its own."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    if way in FROM_OUTSIDE:
        time.sleep(0.2)
        process.send_signal(FROM_OUTSIDE[way])
    begun = time.monotonic()
    _, err = process.communicate(timeout=120)
    return process.returncode, err, time.monotonic() - begun


if __name__ == "__main__":
    main()
