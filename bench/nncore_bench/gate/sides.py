"""The processes of both revisions: counted and profiled one by one, and measured in pairs."""

import os
import random
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from nncore_bench.campaign.conductor import Progress
from nncore_bench.campaign.launcher import Asked, WorkerError
from nncore_bench.campaign.passes import PROFILED_STEPS
from nncore_bench.cases import Case
from nncore_bench.gate.pairs import Pairing, SideError
from nncore_bench.gate.ratios import PairRatios
from nncore_bench.gate.revisions import Layout
from nncore_bench.gate.templates import Templates
from nncore_bench.records import CaseCounters, CaseProfile
from nncore_bench.worker import messages

SIDES = ("base", "candidate")
Counters = dict[Case, CaseCounters | str | None]
"""The counters of each case; the reason if it cannot run; None if it runs and cannot be counted."""


@dataclass
class Sides:
    """Base and candidate: either answers in a fresh worker for each device, both are measured in pairs."""

    cases: Sequence[Case]
    layout: Layout
    templates: Templates
    progress: Progress
    coins: random.Random

    def __post_init__(self) -> None:
        self._pairing = Pairing(self.cases, self.templates.launch, cores(), self.coins)

    def counted(self, side: int) -> Counters:
        """Return the counters of each case, or why it cannot run; raises SideError where the worker dies."""
        found: Counters = {}
        busy_with = None
        try:
            for worker, number, case in self._each(side, self.cases, "counters"):
                busy_with = case
                prepare = messages.Prepare(number, case, warm_up=False)
                reply = worker.ask(prepare)
                if isinstance(reply, messages.Refused):
                    found[case] = reply.reason
                    continue
                counted = worker.ask(messages.Count(number))
                found[case] = counted.counters if isinstance(counted, messages.Counted) else None
        except WorkerError as error:
            raise SideError(side, busy_with, f"its worker process {error}") from None
        return found

    def profiled(self, side: int, cases: Sequence[Case]) -> dict[Case, CaseProfile]:
        """Return the profiles of cases; those that cannot be profiled are left out."""
        found = {}
        with suppress(WorkerError, OSError), tempfile.TemporaryDirectory(prefix="traces-") as folder:
            trace = str(Path(folder) / "trace.json.gz")
            for worker, number, case in self._each(side, cases, "profile"):
                prepare = messages.Prepare(number, case, warm_up=True)
                worker.ask(prepare)
                request = messages.Profile(number, case, PROFILED_STEPS, trace)
                reply = worker.ask(request)
                if isinstance(reply, messages.Profiled):
                    found[case] = reply.profile
        return found

    def pair(self, cases: Collection[Case]) -> dict[Case, PairRatios]:
        """Measure some cases in a fresh launch pair; a coin decides which folder a side sits in."""
        paths = self.layout.paths(swapped=self.coins.random() < 0.5)  # noqa: PLR2004 - a fair coin
        numbers = sorted(map(self.cases.index, cases))
        return {self.cases[number]: shown for number, shown in self._pairing.measure(paths, numbers).items()}

    def close(self) -> None:
        """End the template processes and every worker of them."""
        self.templates.close()

    def _each(self, side: int, cases: Sequence[Case], what: str) -> Iterator[tuple[Asked, int, Case]]:
        """Yield each case with its number and a worker of its device."""
        done, path = 0, self.layout.paths(swapped=False)[side]
        for device in dict.fromkeys(case.device for case in cases):
            with closing(self.templates.launch(side, device, path, ())) as worker:
                for case in (case for case in cases if case.device == device):
                    self.progress(f"{what} of {SIDES[side]}", done, len(cases), None)
                    yield worker, self.cases.index(case), case
                    done += 1


def cores() -> Sequence[int]:
    """Return the cores that this process may use; none if the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
