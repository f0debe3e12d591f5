"""What watching costs: what `nncore-bench run` says of steps of several lengths.

    python tests/validation/watch/cost.py --out DIR

It comes from windows with and without seams in turn, in one process.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

SCRIPTS = Path(__file__).parent / "scripts"
SIZES = {
    "0.3 ms": ("--width=16", "--batch=4", "--steps=12000"),
    "0.7 ms": ("--width=256", "--batch=16", "--steps=8000"),
    "2 ms": ("--width=640", "--batch=32", "--steps=4000"),
    "20 ms": ("--width=1024", "--batch=256", "--steps=1500"),
}


def main() -> None:
    """Print a line for each size of step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("sizes", nargs="*", metavar="SIZE")
    given = parser.parse_args()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    for size in given.sizes or SIZES:
        lines.append(line_of(size, out))
        sys.stdout.write(f"{json.dumps(lines[-1])}\n")
        sys.stdout.flush()
    sys.stdout.write(pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True) + "\n")
    sys.stdout.write(f"after the last watched step: {after_the_end(out)}\n")


def after_the_end(out: Path) -> str:
    """Return what is left of watching after its last step adds to the steps that follow."""
    said = _python(["-m", "nncore_bench", "run", "--steps=20", f"--results={out}", "ended.py"])
    cost = json.loads(said)
    return f"{_bounds(cost)} µs in steps of {cost['step_s'] * 1e6:.0f} µs ({cost['left']} hook left)"


def line_of(size: str, out: Path) -> dict[str, str]:
    """Return what watching costs a step of a size."""
    file = out / f"{size.replace(' ', '-')}.json"
    own = ["-m", "nncore_bench", "run", "--all", f"--results={out}", f"--json={file}"]
    _python([*own, "sized.py", *SIZES[size]])
    answer = json.loads(file.read_text())
    step = next(line for line in answer["tables"]["watched"] if line["phase"] == "step")
    cost = {one["seams"]: one for one in answer["costs"]}
    marking = cost["marking"]
    return {
        "asked": size,
        "step µs (median)": f"{step['median_s'] * 1e6:.0f}",
        "marking adds µs": _bounds(marking),
        "upper bound % of step": f"{100 * marking['high_s'] / step['median_s']:.1f}",
        "idle seams add µs": _bounds(cost["idle"]),
        "counting takes µs": f"{cost['none, but steps are counted']['added_s'] * 1e6:.1f}",
    }


def _bounds(cost: dict[str, float]) -> str:
    return f"{cost['added_s'] * 1e6:.1f} ({cost['low_s'] * 1e6:.1f} to {cost['high_s'] * 1e6:.1f})"


def _python(words: Sequence[str]) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=SCRIPTS, env=os.environ, check=True, capture_output=True, text=True
    )
    return done.stdout


if __name__ == "__main__":
    main()
