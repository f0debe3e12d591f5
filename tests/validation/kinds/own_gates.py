"""Run the gate on training loops of people's own, equal ones and some that are 5 % slower.

```
python tests/validation/kinds/own_gates.py --out DIR --times OWN_LOOPS_DIR [--same 24] [--slower 12]
```

Each gate is the command as a user types it, in a repository with one of the loops of `loops.py`; on its
slower branch each call spends 5 % more, by the times that `own_loops.py` left in OWN_LOOPS_DIR. A gate that
is in DIR is not run again; `--at-most` makes a short slice. Prints how many were called what, with one-sided
95 % bounds.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
from loops import LOOPS
from loudness import laps_of, loudness_of, sentence
from scipy.stats import beta

from nncore_bench.estimate.source import read_source
from nncore_bench.runs import newest_run

LOOP = Path(__file__).with_name("loops.py")
GATED = ("plain", "accumulation", "gan", "lbfgs", "penalty", "transformer")
MORE = 0.05
SAME, SLOWER = "same", "slower"


def spent_ns(times: Path, name: str) -> float:
    """Return the nanoseconds that make each call of a loop 5 % longer."""
    source = read_source(newest_run(times / name))
    step_s = next(row.time_s for row in source.rows if row.phase == "step") or 0.0
    return MORE * step_s * 1e9 / source.run.cases[0].correct.get("calls", 1.0)


def repository(folder: Path, name: str, more_ns: float) -> None:
    """Make a repository with a loop on main, the same with a comment, and a slower one."""
    text = LOOP.read_text()

    def git(*words: str) -> None:
        identity = ("-c", "user.name=A", "-c", "user.email=a@b.c")
        command = ["git", "-C", str(folder), *identity, *words]
        subprocess.run(command, check=True, capture_output=True)

    def of(nanoseconds: float) -> str:
        slower = f"\n\nmade = slowed(LOOPS[{name!r}][0], {nanoseconds:.0f})\n"
        return text + (slower if nanoseconds else f"\n\nmade = LOOPS[{name!r}][0]\n")

    git("init", "-b", "main")
    for branch, content in {"main": of(0), SAME: f"{of(0)}# as before\n", SLOWER: of(more_ns)}.items():
        if branch != "main":
            git("checkout", "-b", branch, "main")
        (folder / "loop.py").write_text(content)
        git("add", ".")
        git("commit", "-m", branch)


def gate(folder: Path, name: str, branch: str, outcome: Path) -> None:
    """Run one gate and leave its outcome."""
    words = ["--base", "main", "--cand", branch, "--step-subject=./loop.py:made", "--step-devices=cpu"]
    words += ["--step-threads=1", f"--step-batch-sizes={LOOPS[name][1]}", "--json", str(outcome)]
    command = [sys.executable, "-m", "nncore_bench", "gate", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if outcome.exists() and msgspec.json.decode(outcome.read_bytes())["interrupted"]:
        outcome.unlink()
    if not outcome.exists():
        sys.exit(f"no gate on {name}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def plan(same: int, slower: int) -> Iterator[tuple[int, str, str]]:
    """Yield the number, loop and branch of each gate, in turn over the loops."""
    branches = [SLOWER if (at % 3 == 0 and at // 3 < slower) else SAME for at in range(same + slower)]
    for number, branch in enumerate(branches):
        yield number, GATED[(number // 3 + number) % len(GATED)], branch


def bound(wrong: int, of: int) -> float:
    """Return the one-sided 95 % bound of a share of which so many were seen (Clopper and Pearson, 1934)."""
    return float(beta.ppf(0.95, wrong + 1, of - wrong)) if wrong < of else 1.0


def main() -> None:
    """Run what is missing, at most some, and print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--times", type=Path, required=True)
    parser.add_argument("--same", type=int, default=24)
    parser.add_argument("--slower", type=int, default=12)
    parser.add_argument("--at-most", type=int, default=1000)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for core in sorted(os.sched_getaffinity(0)):
        sys.stdout.write(f"{sentence(loudness_of(core, laps_of(core, 2.0)))}\n")
    made, found = 0, []
    for number, name, branch in plan(given.same, given.slower):
        outcome = given.out / f"{number:03}-{name}-{branch}.json"
        if not outcome.exists() and made < given.at_most:
            made += 1
            with tempfile.TemporaryDirectory() as folder:
                repository(Path(folder), name, spent_ns(given.times, name))
                gate(Path(folder), name, branch, outcome)
        if outcome.exists():
            answer = msgspec.json.decode(outcome.read_bytes())
            step = next(one for one in answer["decisions"] if one["kind"] == "case")
            found.append((branch, answer["verdict"]))
            ratio = f"step {step['ratio']:.3f} ({step['low']:.3f} to {step['high']:.3f})"
            sys.stdout.write(f"{outcome.stem}: {answer['verdict']}, {ratio}, {answer['seconds']:.0f} s\n")
    for branch in (SAME, SLOWER):
        verdicts = [verdict for one, verdict in found if one == branch]
        slower = verdicts.count("slower")
        wrong = slower if branch == SAME else len(verdicts) - slower
        share = f"wrong at most {100 * bound(wrong, len(verdicts)):.1f} %" if verdicts else "none run"
        sys.stdout.write(f"{branch}: slower in {slower} of {len(verdicts)} ({share})\n")


if __name__ == "__main__":
    main()
