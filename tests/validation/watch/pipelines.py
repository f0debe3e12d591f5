"""Whether `nncore-bench loader` chooses the DataLoader settings that are best, on ten planted pipelines.

    python tests/validation/watch/pipelines.py --out DIR [NAME...]

All settings of 0, 1, 2 workers and 1, 2, 4, 8 batches ahead are measured, each in a process of its own; then
the chosen one and the best of these again, in turn. Prints their ratio with its bounds.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent / "pipelines"
NAMES = (
    *("in memory", "slow disk", "slow network", "heavy decoding", "light decoding", "large samples"),
    *("large and slow", "bursts", "decoding under a long step", "disk under a long step"),
)
GRID = [(0, 0), *((workers, prefetch) for workers in (1, 2) for prefetch in (1, 2, 4, 8))]
STEPS, TURNS, T_95 = 150, 6, 2.571


def main() -> None:
    """Print a line for each pipeline."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", default="30s")
    given = parser.parse_args()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    for name in given.names or NAMES:
        lines.append(line_of(name, out, given.budget))
        sys.stdout.write(f"{json.dumps(lines[-1])}\n")
        sys.stdout.flush()
    sys.stdout.write(pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True) + "\n")


def line_of(name: str, out: Path, budget: str) -> dict[str, str]:
    """Choose, search, and measure both choices again."""
    file = out / f"{name.replace(' ', '-')}.json"
    own = ["-m", "nncore_bench", "loader", f"--budget={budget}", f"--results={out}", f"--json={file}"]
    subprocess.run([sys.executable, *own, "pipeline.py", name], cwd=HERE, check=True, capture_output=True)
    verdict = json.loads(file.read_text())["verdict"]
    numbers = [int(number) for number in re.findall(r"(?:workers|factor)=(\d+)", verdict)]
    choice = (*numbers, 0)[:2] if numbers else (0, 0)
    searched = {setting: seconds_of(name, setting) for setting in GRID}
    best = min(searched, key=lambda setting: searched[setting])
    again = [(seconds_of(name, best), seconds_of(name, choice)) for _ in range(TURNS)]
    logs = np.log([theirs / ours for theirs, ours in again])
    half = T_95 * logs.std(ddof=1) / np.sqrt(TURNS)
    ratio, low = np.exp(logs.mean()), np.exp(logs.mean() - half)
    return {
        "pipeline": name,
        "chosen": str(choice),
        "best of all": str(best),
        "as it is over best": f"{searched[0, 0] / searched[best]:.2f}",
        "chosen, of the best": f"{ratio:.3f}",
        "lower bound": f"{low:.3f}",
    }


def seconds_of(name: str, setting: tuple[int, int]) -> float:
    """Return the seconds of a step with a setting, in a process of its own."""
    words = [sys.executable, "pipeline.py", name, *map(str, setting), str(STEPS)]
    return float(subprocess.run(words, cwd=HERE, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
