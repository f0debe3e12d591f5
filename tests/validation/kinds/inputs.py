"""Run steps that came out wrong or poor before, as their users would, and check what the commands say.

```
python tests/validation/kinds/inputs.py FOLDER [--only 04 39] [--out DIR]
```

FOLDER holds the subjects; EXPECTED lists the command for each and what is right. Prints a table.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tabulate import tabulate

SHORT = ("--step-budget=10", "--step-launches=3")
"""A quick look: what is checked here needs no narrow interval."""

SENTENCE = 600
"""The most characters that a refusal may have."""


@dataclass(frozen=True)
class Said:
    """What a command printed, its exit code, and the answer or the run that it wrote."""

    code: int
    text: str
    answer: dict[str, Any]
    run: dict[str, Any]

    def variants(self) -> dict[str, dict[str, Any]]:
        """Return the rows of advice by variant, or by precision where that is what changes."""
        rows = [row for table in self.answer.get("tables", {}).values() for row in table]
        return {row["variant"] if row["variant"] != "eager" else row["precision"]: row for row in rows}

    def phases(self, number: int = 0) -> dict[str, Any]:
        """Return the counters of the phases of a measured case."""
        cases = [case for case in self.run["cases"] if not case["role"]]
        phases: dict[str, Any] = cases[number]["counters"]["phases"]
        return phases


Check = Callable[[Said], bool]


def refused(*parts: str) -> Check:
    """Return a check: the command says one sentence with these parts, once, and no traceback."""
    return lambda said: (
        said.code != 0
        and all(part in said.text for part in parts)
        and said.text.count(parts[0]) <= 3
        and "Traceback" not in said.text
    )


def never(*parts: str) -> Check:
    """Return a check: none of these is said."""
    return lambda said: not any(part in said.text for part in parts)


def ranked(*variants: str) -> Check:
    """Return a check: these variants compute the same numbers, nearly to the last bit, and are ranked."""
    return lambda said: all(
        said.variants()[name]["error"] < 1e-4
        and said.variants()[name]["judgement"] not in {"other numbers", "cannot run"}
        for name in variants
    )


def lacks(*variants: str) -> Check:
    """Return a check: the optimizer has no such option, and the row says so."""
    return lambda said: all("has no such option" in said.variants()[name]["reason"] for name in variants)


def measured(said: Said) -> bool:
    """Return whether the command succeeded."""
    return said.code == 0


def same_numbers(said: Said) -> bool:
    """Return whether no variant is called other numbers."""
    return all(row["judgement"] != "other numbers" for row in said.variants().values())


def code(variant: str, *parts: str) -> Check:
    """Return a check: the line to write for a variant contains these parts."""
    return lambda said: all(part in said.variants()[variant]["optimizer_code"] for part in parts)


def counted(said: Said) -> bool:
    """Return whether every case was timed and counted."""
    cases = [case for case in said.run["cases"] if not case["role"]]
    return bool(cases) and all(case["status"] == "ok" and case["counters"] for case in cases)


def quick(said: Said) -> bool:
    """Return whether no measuring came before the refusal."""
    return said.answer["seconds"] < 60  # type: ignore[no-any-return]


ADVISE, SUITE, PROFILE = "advise", "suite", "profile"
EXPECTED: list[tuple[str, str, str, list[Check]]] = [
    ("02-many-small-tensors.py:make", ADVISE, "32", [
        measured, ranked("fused", "foreach"),
        code("fused", "AdamW", "lr=0.0003", "betas=(0.9, 0.95)", "param_groups"),
    ]),
    ("04-adagrad-start-value.py:make", ADVISE, "64", [measured, ranked("fused", "foreach"), same_numbers]),
    ("07-forces-in-forward.py:make", ADVISE, "16", [
        measured, never("give a batch that fits"), ranked("fused"),
    ]),
    ("09-pinn-loss-calls-network.py:make", ADVISE, "32", [
        measured, never("0% of the parameters"), ranked("fused"),
    ]),
    ("12-update-within-backward.py:make", ADVISE, "64", [measured, never("0% of the parameters")]),
    ("20-carries-its-state.py:make", SUITE, "8,32", [measured, counted]),
    ("22-scripted.py:make", SUITE, "16", [measured, counted]),
    ("28-sparse-skipgram.py:make", ADVISE, "256", [measured, lacks("fused", "foreach")]),
    ("29-two-heads.py:make", SUITE, "8", [measured, counted, never("object has no attribute 'to'")]),
    ("31-gan-two-optimizers.py:make", ADVISE, "32", [refused("2 optimizers", "training_step"), quick]),
    ("32-wrapped-with-scaler.py:make", ADVISE, "64", [measured, never("no attribute 'inner'")]),
    ("33-lbfgs.py:make", ADVISE, "64", [refused("LBFGS needs a closure", "training_step"), quick]),
    ("34-warm-up-from-zero.py:make", ADVISE, "32", [measured, ranked("fused")]),
    ("39-vae-own-noise.py:make", ADVISE, "64", [
        measured, ranked("fused", "foreach", "set-to-none=false", "default-allocator"),
    ]),
    ("41-frozen-backbone.py:make", ADVISE, "8", [measured, never("put into training mode"), ranked("fused")]),
    ("42-detection.py:make", SUITE, "4", [refused("a list of 4 samples", "stack")]),
    ("42-detection.py:make_stacked", SUITE, "4", [measured, counted]),
    ("48-fake-quantized.py:make", ADVISE, "32", [measured, ranked("fused", "default-allocator")]),
    ("49-labels-inside.py:make", SUITE, "16", [
        measured, counted, lambda said: said.phases()["forward"]["autograd_nodes"] > 0,
        lambda said: said.phases()["loss"]["operators"] == 0,
    ]),
    ("49-labels-inside.py:make", PROFILE, "16", [measured]),
    ("51-arguments-at-import.py:make", ADVISE, "8", [refused("exit code 2", "__main__", "--data"), quick]),
]  # fmt: skip


def command(kind: str, subject: str, batch_sizes: str, folder: Path) -> list[str]:
    """Return the command as a user types it; it writes into the folder."""
    common = [f"--step-subject={subject}", f"--step-batch-sizes={batch_sizes}"]
    if kind == SUITE:
        suite = ["bench/", "--benchmark-only", "-q", "--step-devices=cpu", "--step-threads=1"]
        return [sys.executable, "-m", "pytest", *suite, *SHORT, f"--step-results={folder}", *common]
    answer = f"--json={folder / 'answer.json'}"
    start = [sys.executable, "-m", "nncore_bench", kind]
    short = [*SHORT, "--budget=60s"] if kind == ADVISE else []
    return [*start, *common, f"--step-results={folder}", answer, *short]


def run(kind: str, subject: str, batch_sizes: str, folder: Path) -> Said:
    """Run a command in a folder and return what it said."""
    begin = time.monotonic()
    done = subprocess.run(
        command(kind, subject, batch_sizes, folder), capture_output=True, text=True, check=False, timeout=900
    )
    answers, runs = folder / "answer.json", sorted(folder.glob("*/run.json"))
    answer = json.loads(answers.read_text()) if answers.exists() else {}
    answer["seconds"] = time.monotonic() - begin
    return Said(
        done.returncode, done.stdout + done.stderr, answer, json.loads(runs[-1].read_text()) if runs else {}
    )


def judged(said: Said, checks: list[Check]) -> list[int]:
    """Return the numbers of the checks that fail; one that finds nothing to look at fails, too."""
    failed = []
    for number, check in enumerate(checks, start=1):
        try:
            right = check(said)
        except (KeyError, IndexError, TypeError):
            right = False
        if not right:
            failed.append(number)
    return failed


def rows(folder: Path, only: list[str], out: Path) -> Iterator[list[object]]:
    """Run each expected command and yield a line of the table."""
    for subject, kind, batch_sizes, checks in EXPECTED:
        if only and not subject.startswith(tuple(only)):
            continue
        beside = out / f"{subject.replace(':', '-')}-{kind}"
        beside.mkdir(parents=True, exist_ok=True)
        said = run(kind, f"{folder / subject}", batch_sizes, beside)
        (beside / "said.txt").write_text(said.text)
        failed = judged(said, checks)
        yield [
            subject,
            kind,
            batch_sizes,
            f"{said.answer['seconds']:.0f}",
            "wrong" if failed else "right",
            failed or "",
        ]


def main() -> None:
    """Print the table and leave with 1 if anything came out wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with TemporaryDirectory() as temporary:
        lines = []
        for line in rows(given.folder.resolve(), given.only, given.out or Path(temporary)):
            lines.append(line)
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    sys.stdout.write(
        tabulate(lines, ["subject", "command", "batch", "s", "came out", "failed checks"]) + "\n"
    )
    right = sum(line[4] == "right" for line in lines)
    sys.stdout.write(f"{right} of {len(lines)} as they should\n")
    sys.exit(right < len(lines))


if __name__ == "__main__":
    main()
