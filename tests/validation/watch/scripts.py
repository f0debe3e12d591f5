"""Whether a watched script computes, prints and ends as a bare one, and whether its phases are right.

    python tests/validation/watch/scripts.py --out DIR [NAME...]

Each script of `scripts/` runs twice bare, and once under `nncore-bench run`, where by a coin some 300 µs are
spent in half of the steps in one part of it, and recorded by the script itself. A phase is right if the steps
with the wait take as much longer in it, within 5 % or 10 µs, and no other phase does.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nncore_bench.watch.fold import BETWEEN, watched_of, windows_of
from nncore_bench.watch.marks import read_facts, read_marks
from nncore_bench.watch.phases import WAITING
from nncore_bench.watch.windows import WATCHED

SCRIPTS = Path(__file__).parent / "scripts"
PLANTED = {
    "plain": "forward",
    "amp": "backward",
    "accumulation": WAITING,
    "compiled": "loss",
    "workers": "other",
    "generator": BETWEEN,
    "gan": "forward",
    "lbfgs": "other",
    "trainer": WAITING,
    "with_lightning": "optimizer",
    "with_accelerate": "forward",
    "ranks": "forward",
}
WITHIN_SHARE, WITHIN_NS = 0.05, 10_000


def main() -> None:
    """Print a line for each script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    lines = []
    for name in given.names or PLANTED:
        lines.append(line_of(name, given.out.resolve() / name))
        sys.stdout.write(f"{json.dumps(lines[-1])}\n")
        sys.stdout.flush()
    sys.stdout.write(pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True) + "\n")


def line_of(name: str, out: Path) -> dict[str, str]:
    """Run a script three times, and return what came of it."""
    out.mkdir(parents=True, exist_ok=True)
    bare = [_run(name, [sys.executable], {}) for _ in range(2)]
    again = ["-m", "nncore_bench", "run", "--all", f"--results={out}", f"--json={out / 'answer-%s.json'}"]
    watched = _run(name, [sys.executable, *again], {"PLANTED": str(out / "planted")})
    as_bare = [(one.stdout, one.returncode) for one in bare]
    same = (watched.stdout, watched.returncode) == as_bare[0]
    (out / "stderr.txt").write_text(watched.stderr)
    folders = sorted(out.glob("*/marks"))[-1:]
    found = [judged(folder.parent, out / "planted.0", PLANTED[name]) for folder in folders]
    return {
        "script": name,
        "bare runs alike": "yes" if as_bare[0] == as_bare[1] else "no",
        "watched alike": "yes" if same else "no",
        **(found[0] if found else {"planted in": "nothing watched"}),
    }


def _run(name: str, python: Sequence[str], more: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [word % "0" if "%s" in word else word for word in python] + [f"{name}.py"]
    if name == "ranks":
        launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--no-python"]
        command = [*launch, *command]
    environment = os.environ | more
    return subprocess.run(
        command, cwd=SCRIPTS, env=environment, capture_output=True, text=True, check=False, timeout=600
    )


def judged(folder: Path, record: Path, expected: str) -> dict[str, str]:
    """Compare the watched steps that a wait was planted in with the others."""
    facts = read_facts(folder)
    windows = windows_of(read_marks(folder), facts.get("names", []))
    waits = np.array([line.split() for line in record.read_text().splitlines()], dtype=float).T
    steps = [
        (begun, whole)
        for window in windows
        if window.kind == WATCHED
        for begun, whole in zip(window.begun_ns, window.whole_ns, strict=True)
    ]
    spent = np.array(
        [waits[1][(waits[0] >= begun) & (waits[0] < begun + whole)].sum() for begun, whole in steps]
    )
    watched = watched_of(windows)
    parts = {
        phase: np.concatenate([np.array(window[phase]) for window in watched.parts_ns])
        for phase in watched.parts_ns[0]
    }
    wait = spent > 0
    grown = {
        phase: np.median(of[wait] - (spent[wait] if phase == expected else 0)) - np.median(of[~wait])
        for phase, of in parts.items()
    }
    off = grown[expected]
    within = abs(off) <= max(WITHIN_SHARE * np.median(spent[wait]), WITHIN_NS)
    others = {phase: ns for phase, ns in grown.items() if phase != expected}
    worst = max(others, key=lambda phase: abs(others[phase]))
    return {
        "planted in": expected,
        "steps with, without": f"{wait.sum()}, {(~wait).sum()}",
        "off µs": f"{off / 1e3:+.1f}",
        "right": "yes" if within else "no",
        "most in another µs": f"{worst} {others[worst] / 1e3:+.1f}",
    }


if __name__ == "__main__":
    main()
