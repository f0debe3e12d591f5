"""Whether two versions tell the same of recorded runs: `python tests/validation/same_reports.py OLD`.

Reports, comparisons, pages and files of the runs in `tests/recorded` and of the reference run are made by a
commit OLD, in a worktree of its own, and by the code here, and their differences are printed. Pages are
compared as text without the libraries that they carry. The exit code is 1 where there are any.
"""

import argparse
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests" / "recorded"
RUNS = {
    **{name: RECORDED / name for name in ("default", "variants", "profiled")},
    "reference": ROOT / "results" / "reference" / "cpu-2-cores",
}
ONE_RUN = (("report",), ("report", "--all"), ("report", "--format=html,md,csv,tex", "--out"))
TWO_RUNS = (("compare",), ("compare", "--out"), ("report",), ("report", "--format=html", "--out"))
PAIRS = (("default", "variants"), ("default", "profiled"), ("default", "reference"))
LIBRARY = re.compile(r"<script[^>]*>.{100000,}?</script>", re.DOTALL)
LONG_NUMBER = re.compile(r"\d*\.\d{12,}(e-?\d+)?")
LONGEST_LINE = 400


def told_by(root: Path, python: str) -> dict[str, str]:
    """Return what a checkout prints and writes, by command and file."""
    told: dict[str, str] = {}
    commands = [([RUNS[name]], words) for name in RUNS for words in ONE_RUN]
    commands += [([RUNS[one], RUNS[other]], words) for one, other in PAIRS for words in TWO_RUNS]
    for runs, words in commands:
        name = " ".join([words[0], *(run.name for run in runs), *words[1:]])
        with tempfile.TemporaryDirectory() as place:
            out = Path(place) / "out"
            copies = [
                shutil.copytree(run, Path(place) / run.name) for run in runs
            ]  # tables are written there
            arguments = [
                *(words[0], *map(str, copies), *words[1:]),
                *([str(out)] if words[-1] == "--out" else []),
            ]
            done = subprocess.run(
                [python, "-m", "bench", *arguments],
                capture_output=True,
                text=True,
                cwd=root,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (root / "bench", root)))},
                check=False,
            )
            if "Traceback" in done.stderr:
                raise SystemExit(f"{name} of {root} failed: {done.stderr}")
            told[name] = f"exit code {done.returncode}\n{_without(done.stdout + done.stderr, place)}"
            files = [out] if out.is_file() else sorted(file for file in out.rglob("*") if file.is_file())
            for file in files:
                told[f"{name}: {file.name}"] = _without(LIBRARY.sub("", file.read_text()), place)
    return told


def _without(text: str, place: str) -> str:
    """Return text without the name of a temporary folder, and numbers to twelve digits."""
    text = LONG_NUMBER.sub(lambda found: f"{float(found[0]):.12g}", text)
    return text.replace(place, "OUT").replace("python -m bench", "nncore-bench")


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return the lines of a unified difference for each command or file that differs."""
    found: list[str] = []
    for name in dict.fromkeys([*old, *new]):
        before, after = (_lines(told.get(name, "(not there)")) for told in (old, new))
        found += difflib.unified_diff(before, after, f"old: {name}", f"new: {name}", n=0, lineterm="")
    return found


def _lines(text: str) -> list[str]:
    """Return the lines of a text, long ones of data cut where a new entry begins."""
    return [part for line in text.splitlines() for part in _parts(line)]


def _parts(line: str) -> list[str]:
    return [line] if len(line) <= LONGEST_LINE else re.split(r"(?<=[}\]]), ?", line)


def main() -> int:
    """Print the differences and how many commands and files were compared."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", help="a commit")
    parser.add_argument("--python", default=sys.executable, help="the Python that runs both")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place) / "old"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", tree, given.old], check=True)
        try:
            old = told_by(tree, given.python)
        finally:
            subprocess.run([*git, "remove", "--force", tree], check=True)
    new = told_by(ROOT, given.python)
    found = differences(old, new)
    sys.stdout.write("".join(f"{line}\n" for line in found))
    sys.stdout.write(f"{len(new)} texts compared, {sum(line.startswith('--- ') for line in found)} differ\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
