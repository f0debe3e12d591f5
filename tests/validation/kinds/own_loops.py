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
from math import sqrt
from pathlib import Path

import numpy as np
import torch
from loops import LOOPS, PLANTED_NS
from loudness import laps_of, loudness_of, sentence
from tabulate import tabulate

from nncore_bench.cases import Case, parts_in
from nncore_bench.estimate.rows import Row, timed_rows
from nncore_bench.estimate.source import Source, read_source
from nncore_bench.runs import NANO, Block, by_case, newest_run
from nncore_bench.worker.blocks import run_block
from nncore_bench.worker.catalog import workload_of
from nncore_bench.worker.clock import HostClock
from nncore_bench.worker.subjects.own_step import OwnStep

FILE = Path(__file__).with_name("loops.py")
WITHIN_SHARE, WITHIN_S = 0.03, 5e-6
"""How far phases less their seams may be from the step: by one or the other."""

PLANTED_WITHIN = 0.05
BLOCKS = 100


@dataclass(frozen=True)
class Cell:
    """One launch of one loop: its step, and what its phases less the seams exceed it by, in seconds.

    Both are medians over the launch's rounds of neighbouring blocks with laps and without, by their smallest
    iterations; `noise_s` is twice the standard error of the latter (1.25 standard deviations over the root of
    their number, from the median absolute deviation).
    """

    loop: str
    launch: int
    step_s: float
    off_s: float
    noise_s: float
    planted_s: float | None
    expected_s: float

    def adds_up(self, noise_s: float = 0.0) -> bool:
        """Whether phases less seams are within 3 % or 5 µs of the step, and noise."""
        return abs(self.off_s) <= max(WITHIN_SHARE * self.step_s, WITHIN_S) + noise_s

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
    cost_s = _rows(source, source.blocks)["step"].lap_overhead_s or 0.0
    expected_s = PLANTED_NS * NANO * source.run.cases[0].correct.get("calls", 1.0)
    for launch in sorted({block.launch for block in source.blocks if not block.case}):
        blocks = [block for block in source.blocks if block.launch == launch]
        kinds = by_case(blocks)[0]
        plain = {block.turn: float(block.each_ns.min()) * NANO for block in kinds["plain"]}
        lapped = {block.turn: float(block.host[1:, :-1].sum(axis=1).min()) * NANO for block in kinds["laps"]}
        off = np.array([lapped[turn] - plain[turn] - cost_s for turn in lapped])
        deviation = 1.4826 * float(np.median(np.abs(off - np.median(off))))
        noise_s = 2 * 1.25 * deviation / sqrt(len(off))
        planted = _rows(source, blocks).get("planted")
        found_s = planted.time_s if planted else None
        step_s = float(np.median(list(plain.values())))
        yield Cell(name, launch, step_s, float(np.median(off)), noise_s, found_s, expected_s)


def published(source: Source) -> tuple[float, float]:
    """Return the step as a run prints it, and the sum of its phases as printed less what its seams cost."""
    rows = _rows(source, source.blocks)
    phases_s = sum(rows[part].time_s or 0.0 for part in parts_in(rows))
    return rows["step"].time_s or 0.0, phases_s - (rows["step"].lap_overhead_s or 0.0)


def _rows(source: Source, blocks: Sequence[Block]) -> dict[str, Row]:
    return {row.phase: row for row in timed_rows(source.run.cases, by_case(blocks))}


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


def _line(cell: Cell) -> dict[str, str]:
    return {
        "loop": cell.loop,
        "launch": str(cell.launch),
        "step µs": f"{cell.step_s * 1e6:,.1f}",
        "off µs": f"{cell.off_s * 1e6:+.1f} ± {cell.noise_s * 1e6:.1f}",
        "off %": f"{100 * cell.off_s / cell.step_s:+.1f}",
        "adds up": "yes" if cell.adds_up() else "within noise" if cell.adds_up(cell.noise_s) else "NO",
        "planted µs": "" if cell.planted_s is None else f"{cell.planted_s * 1e6:.1f}",
        "found": "" if cell.planted_s is None else "yes" if cell.is_found else "NO",
    }


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
    cells: list[Cell] = []
    lines: list[dict[str, str]] = []
    runs: list[tuple[float, float]] = []
    for name in given.only:
        size = LOOPS[name][1]
        for one in (name, f"{name}_planted"):
            source = measured(one, size, given.out, arguments)
            runs.append(published(source))
            found = list(cells_of(one, source))
            cells += found
            lines += map(_line, found)
        lines[-1]["restored"] = f"{BLOCKS} of {BLOCKS}" if restores(name, size) else "NO"
    planted = [cell for cell in cells if cell.planted_s is not None]
    near = [abs(phases - step) <= max(WITHIN_SHARE * step, WITHIN_S) for step, phases in runs]
    sys.stdout.write(
        f"{tabulate(lines, headers='keys', disable_numparse=True)}\n\n"
        f"phases as printed, less seams, add up to the step in {sum(near)} of {len(near)} runs\n"
        f"in neighbouring blocks they do in {sum(c.adds_up() for c in cells)} of {len(cells)} launches,"
        f" with two standard errors of each in {sum(c.adds_up(c.noise_s) for c in cells)}\n"
        f"planted part found within 5 %: {sum(c.is_found for c in planted)} of {len(planted)}\n"
    )
    print_loudness()


if __name__ == "__main__":
    main()
