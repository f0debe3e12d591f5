"""Arms whose difference is known: nncore, and after each of its phases time that is planted.

It is made by running on after a phase for a share of what it took, from the end of the phase before it, so
that it is as exact as the clock and takes its part in all noise. Both arms carry the same code for it, which
does the same in both, the base with nothing to add.
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
        # From now on, lest the time hide what the lines above take, which the other arm pays as well.
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
    """Hold what is added to phases: a share of each call, nanoseconds, or every so many steps times as long.

    `case` is the batch size and the hidden width in which alone it is; None is every case.
    """

    share: float = 0.0
    extra_ns: int = 0
    phases: tuple[str, ...] = STEP_PHASES
    case: tuple[int, int] | None = None
    every: int = 0
    times: int = 1


def code_of(planted: Planted) -> str:
    """Return what is added to nncore/step.py."""
    return PLANTED.format(planted=asdict(planted), phases=STEP_PHASES)


class PlantedCode:
    """Lay out nncore with what is planted, as a repository does its revisions."""

    def __init__(self, planted: Mapping[str, Planted]) -> None:
        self.planted = planted

    def lay_out(self, revision: Revision, folder: Path) -> None:
        """Put nncore into a folder, with what has the name of the revision."""
        shutil.copytree(INSTALLED, folder / "nncore", ignore=shutil.ignore_patterns("__pycache__"))
        with (folder / "nncore" / "step.py").open("a") as step:
            step.write(code_of(self.planted[revision.name]))
