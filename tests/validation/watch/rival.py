"""The twelve scripts bare, by `nncore-bench run` and under traceml-ai, which has to be installed for it.

    python tests/validation/watch/rival.py --out DIR --traceml PATH/TO/traceml [NAME...]

Nothing is changed in the scripts. How long steps take is told by the scripts themselves, from the times at
which one line of theirs runs; each tool prints its own phases.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scripts import PLANTED, SCRIPTS

PHASES = ("input_wait", "forward", "backward", "optimizer", "residual")
ROUNDS = 3
LEADING = 50
"""Calls at the beginning that do not count."""


def main() -> None:
    """Print a line for each script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--traceml", type=Path, required=True)
    given = parser.parse_args()
    lines = []
    for name in given.names or PLANTED:
        lines.append(line_of(name, given.out.resolve() / name, given.traceml.resolve()))
        sys.stdout.write(f"{json.dumps(lines[-1])}\n")
        sys.stdout.flush()
    sys.stdout.write(pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True) + "\n")


def line_of(name: str, out: Path, traceml: Path) -> dict[str, str]:
    """Run a script in each way, in rounds and in random turn, and return what came of it."""
    out.mkdir(parents=True, exist_ok=True)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--no-python"]
    python = [*(torchrun if name == "ranks" else []), sys.executable]
    ours = ["-m", "nncore_bench", "run", f"--results={out}", f"--json={out / 'ours.json'}"]
    theirs = [str(traceml), "run", f"--logs-dir={out}"]
    theirs += ["--nproc-per-node=2"] if name == "ranks" else []
    commands = {"bare": python, "run": [*python, *ours], "traceml": theirs}
    coin = random.Random(name)  # noqa: S311 - a coin, no secret
    printed, took = dict[str, str](), defaultdict[str, list[float]](list)
    for number in range(ROUNDS):
        for way in coin.sample([*commands], len(commands)):
            named = [f"--run-name=theirs{number}"] if way == "traceml" else []
            printed[way], ns = _run([*commands[way], *named, f"{name}.py"], out / way)
            took[way].append(ns)
    answer = json.loads((out / "ours.json").read_text())
    phases = {line["phase"]: line for line in answer["tables"].get("watched", [])}
    seen = _their_phases(out / f"theirs{ROUNDS - 1}" / "final_summary.json")
    marking = {cost["seams"]: cost for cost in answer["costs"]}.get("marking", {})
    return {
        "script": name,
        "bare µs": f"{np.median(took['bare']) / 1e3:.0f}",
        "run / bare": _ratio(took["run"], took["bare"]),
        "run says it adds µs": f"{marking.get('added_s', float('nan')) * 1e6:.0f}",
        "run: largest": max(
            (f"{100 * line['share']:.0f} % {phase}" for phase, line in phases.items() if phase != "step"),
            key=lambda text: float(text.split()[0]),
            default="nothing",
        ),
        "same output": "yes" if printed["run"] == printed["bare"] else "no",
        "traceml / bare": _ratio(took["traceml"], took["bare"]),
        "traceml: steps": str(seen.pop("steps", 0)),
        "traceml: phases": ", ".join(f"{phase} {share:.0f} %" for phase, share in seen.items()) or "none",
        "traceml: same lines": "yes" if _lines(printed["bare"]) <= _lines(printed["traceml"]) else "no",
    }


def _ratio(ones: Sequence[float], others: Sequence[float]) -> str:
    ratios = [one / other for one, other in zip(ones, others, strict=True) if one and other]
    return f"{np.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})" if ratios else "failed"


def _their_phases(file: Path) -> dict[str, float]:
    if not file.exists():
        return {}
    seen = json.loads(file.read_text())["step_time"]["global"]
    mean, steps = seen["average"], seen["window"]["steps_analyzed"] or 0
    if not steps:
        return {}
    shares = {phase: mean.get(f"{phase}_ms") for phase in PHASES}
    whole = mean["step_time_ms"]
    return {"steps": steps} | {phase: 100 * ms / whole for phase, ms in shares.items() if ms is not None}


def _lines(text: str) -> set[str]:
    return set(text.splitlines())


def _run(command: Sequence[str], calls: Path) -> tuple[str, float]:
    """Return what a command prints, and the median nanoseconds between the script's calls of its line."""
    done = subprocess.run(
        command,
        cwd=SCRIPTS,
        env=os.environ | {"CALLS": str(calls)},
        capture_output=True,
        text=True,
        check=False,
    )
    record = Path(f"{calls}.0")
    if not record.exists():
        return done.stdout, 0.0
    times = np.array(record.read_text().split(), dtype=float)[LEADING:]
    return done.stdout, float(np.median(np.diff(times)))


if __name__ == "__main__":
    main()
