"""Code whose slowdown is known: nncore with time planted after each of its phases.

A phase runs on for a share of the time it took, counted from the end of the phase before it, so that the
slowdown is as exact as the clock and shares in all noise. Base and candidate carry the same code, which does
the same in both; in the base it adds nothing.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from nncore_bench.cases import STEP_PHASES
from nncore_bench.gate.revisions import Revision

INSTALLED = next(folder / "nncore" for folder in Path(__file__).parents[2:] if (folder / "nncore").is_dir())
"""Beside the package, or beside `bench` in a checkout."""

PLANTED = """

from time import perf_counter_ns

PLANTED, FIRST = {planted!r}, {phases[0]!r}
TrainStep.held_up, TrainStep.number, TrainStep.ended = False, 0, 0


def held_up(phase, run):
    here = phase in PLANTED["phases"]
    share, extra_ns = (PLANTED["share"], PLANTED["extra_ns"]) if here else (0.0, 0)
    case, every, times = PLANTED["case"], PLANTED["every"], PLANTED["times"]

    def phase_and_more(self, *given):
        begin = perf_counter_ns() if phase == FIRST else self.ended
        if phase == "forward":
            if not self.number:
                self.width = len(next(self.model.parameters()))
            self.number += 1
            self.held_up = case in (None, (len(given[0]), self.width))
        result = run(self, *given)
        took = perf_counter_ns() - begin
        more = (share * took + extra_ns) * self.held_up
        if every and not self.number % every:
            more += (times - 1) * took
        # Starting now: the other side, too, pays for the lines above.
        until = perf_counter_ns() + more
        while perf_counter_ns() < until:
            pass
        self.ended = perf_counter_ns()
        return result

    return phase_and_more


for name in {phases!r}:
    setattr(TrainStep, name, held_up(name, getattr(TrainStep, name)))
"""


@dataclass(frozen=True)
class Planted:
    """The time added to phases: a share of each call, nanoseconds, and one call in `every` `times` as long.

    `case` is the batch size and hidden width of the only case that is slower; None is every case.
    """

    share: float = 0.0
    extra_ns: int = 0
    phases: tuple[str, ...] = STEP_PHASES
    case: tuple[int, int] | None = None
    every: int = 0
    times: int = 1


def code_of(planted: Planted) -> str:
    """Return the lines to append to nncore/step.py."""
    return PLANTED.format(planted=asdict(planted), phases=STEP_PHASES)


def lay_out_planted(planted: Mapping[str, Planted], revision: Revision, folder: Path) -> None:
    """Put nncore into a folder, changed by what is planted in the revision of this name."""
    shutil.copytree(INSTALLED, folder / "nncore", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "nncore" / "step.py").open("a") as step:
        step.write(code_of(planted[revision.name]))
