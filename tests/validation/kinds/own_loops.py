"""Measure training loops of people's own, and ask whether their phases can be believed.

```
python tests/validation/kinds/own_loops.py --out DIR [--only plain gan] [--budget 12] [--launches 4]
```

Each of the loops in `loops.py` and its twin with 300 µs more a call in a part of its own is measured by the
suite. For each launch: do the phases, less what the run says that its seams cost, add up to the step measured
as a whole, within 3 % or 5 µs? Is the planted part within 5 % of what was planted? Do 100 blocks start from
one state, bit for bit? A run that is in DIR is not made again.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from loops import LOOPS, PLANTED_NS
from loudness import laps_of, loudness_of, sentence
from tabulate import tabulate

from nncore_bench.cases import Case, parts_in
from nncore_bench.estimate.rows import Row, timed_rows
from nncore_bench.estimate.source import Source, read_source
from nncore_bench.runs import NANO, by_case, newest_run
from nncore_bench.worker.blocks import run_block
from nncore_bench.worker.clock import HostClock
from nncore_bench.worker.subjects.catalog import workload_of
from nncore_bench.worker.subjects.own_step import OwnStep

FILE = Path(__file__).with_name("loops.py")
WITHIN_SHARE, WITHIN_S = 0.03, 5e-6
"""How far phases less their seams may be from the step: by one or the other."""

PLANTED_WITHIN = 0.05
BLOCKS = 100


@dataclass(frozen=True)
class Cell:
    """One launch of one loop: its step, its phases less the seams, and the planted part, in seconds."""

    loop: str
    launch: int
    step_s: float
    phases_s: float
    noise: float
    planted_s: float | None
    expected_s: float

    @property
    def off_s(self) -> float:
        """By how much the phases, less the seams, miss the step."""
        return self.phases_s - self.step_s

    @property
    def adds_up(self) -> bool:
        """Whether they add up, within 3 % or 5 µs."""
        return abs(self.off_s) <= max(WITHIN_SHARE * self.step_s, WITHIN_S)

    @property
    def is_found(self) -> bool:
        """Whether the planted part is within 5 % of what was planted."""
        return self.planted_s is None or abs(self.planted_s / self.expected_s - 1) <= PLANTED_WITHIN


def measured(name: str, batch_size: int, out: Path, arguments: Sequence[str]) -> Source:
    """Return the run of a loop, made now if there is none in its folder."""
    folder = out / name
    if not any(folder.glob("*/samples.npz")):
        options = [
            f"--step-subject={FILE}:{name}",
            f"--step-batch-sizes={batch_size}",
            f"--step-results={folder}",
        ]
        fixed = ["--step-devices=cpu", "--step-threads=1", "--benchmark-only", "-q", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", "bench/", *fixed, *options, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{name} could not be measured:\n{done.stdout[-3000:]}")
    return read_source(newest_run(folder))


def cells_of(name: str, source: Source) -> Iterator[Cell]:
    """Yield what each launch of a run shows; what its seams cost is what the whole run says."""
    of_run = {row.phase: row for row in source.rows}
    cost_s = of_run["step"].lap_overhead_s or 0.0
    launches = sorted({block.launch for block in source.blocks if not block.case})
    records = source.run.cases
    steps: list[float] = []
    rows_of: list[dict[str, Row]] = []
    for launch in launches:
        blocks = [block for block in source.blocks if block.launch == launch]
        rows_of.append({row.phase: row for row in timed_rows(records, by_case(blocks))})
        steps.append(rows_of[-1]["step"].time_s or 0.0)
    expected_s = PLANTED_NS * NANO * records[0].correct.get("calls", 1.0)
    noise = (max(steps) - min(steps)) / min(steps)
    for launch, rows in zip(launches, rows_of, strict=True):
        phases_s = sum(rows[part].time_s or 0.0 for part in parts_in(rows)) - cost_s
        planted = rows.get("planted")
        found_s = planted.time_s if planted else None
        yield Cell(name, launch, rows["step"].time_s or 0.0, phases_s, noise, found_s, expected_s)


def restores(name: str, batch_size: int) -> bool:
    """Return whether every one of many blocks starts from the same state, to the last bit."""
    subject = workload_of(Case(f"{FILE}:{name}", "-", "cpu", 1, "float32", "eager", batch_size, "-"))
    assert isinstance(subject, OwnStep)
    subject.check()
    subject.save()
    start = [tensor.detach().clone() for tensor in subject.state()]
    for number in range(BLOCKS):
        kind = subject.kinds[number % len(subject.kinds)]
        run_block(subject, HostClock(), kind, 2, subject.laps if kind == "laps" else None)
        subject.restore()
        now = subject.state()
        if len(now) != len(start) or not all(map(torch.equal, start, now)):
            return False
    return True


def print_loudness() -> None:
    """Say how loud the machine is just now."""
    for core in sorted(os.sched_getaffinity(0)):
        sys.stdout.write(f"{sentence(loudness_of(core, laps_of(core, 2.0)))}\n")


def main() -> None:
    """Measure, judge and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(LOOPS))
    parser.add_argument("--budget", default="12")
    parser.add_argument("--launches", default="4")
    given = parser.parse_args()
    print_loudness()
    torch.set_num_threads(1)
    arguments = [f"--step-budget={given.budget}", f"--step-launches={given.launches}"]
    cells, lines = [], []
    for name in given.only:
        size = LOOPS[name][1]
        for one in (name, f"{name}_planted"):
            found = list(cells_of(one, measured(one, size, given.out, arguments)))
            cells += found
            lines += [
                {
                    "loop": one,
                    "launch": cell.launch,
                    "step µs": f"{cell.step_s * 1e6:,.1f}",
                    "phases less seams": f"{cell.phases_s * 1e6:,.1f}",
                    "off µs": f"{cell.off_s * 1e6:+.1f}",
                    "off %": f"{100 * cell.off_s / cell.step_s:+.1f}",
                    "launches differ %": f"{100 * cell.noise:.1f}",
                    "adds up": "yes" if cell.adds_up else "NO",
                    "planted µs": "" if cell.planted_s is None else f"{cell.planted_s * 1e6:.1f}",
                    "found": "" if cell.planted_s is None else "yes" if cell.is_found else "NO",
                }
                for cell in found
            ]
        lines[-1]["restored"] = f"{BLOCKS} of {BLOCKS}" if restores(name, size) else "NO"
    planted = [cell for cell in cells if cell.planted_s is not None]
    sys.stdout.write(
        f"{tabulate(lines, headers='keys', disable_numparse=True)}\n\n"
        f"phases less seams add up to the step: {sum(c.adds_up for c in cells)} of {len(cells)} cells\n"
        f"planted part found within 5 %: {sum(c.is_found for c in planted)} of {len(planted)}\n"
    )
    print_loudness()


if __name__ == "__main__":
    main()
