"""Arms by themselves: what the code of a revision does, counted and profiled in a process of its own."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from nncore_bench.campaign.conductor import Progress
from nncore_bench.campaign.launcher import REQUEST_TIMEOUT_S, WorkerError, patience
from nncore_bench.campaign.passes import PROFILED_STEPS
from nncore_bench.cases import Case
from nncore_bench.gate.pairs import Arm, ArmError
from nncore_bench.gate.revisions import Layout
from nncore_bench.gate.templates import Parents
from nncore_bench.records import CaseCounters, CaseProfile
from nncore_bench.worker import messages

ARMS = ("base", "candidate")
Counters = dict[Case, CaseCounters | str | None]
"""What was counted of each case, why it cannot run, or nothing: it runs and cannot be counted."""


class Arms:
    """Ask either arm about cases, in a fresh worker for each device."""

    def __init__(self, cases: Sequence[Case], layout: Layout, parents: Parents, progress: Progress) -> None:
        self.cases = cases
        self.layout = layout
        self.parents = parents
        self.progress = progress

    def counted(self, arm: int) -> Counters:
        """Return the counters of each case, or why it cannot run; raises ArmError where the worker dies."""
        found: Counters = {}
        busy_with = None
        try:
            for worker, number, case in self._each(arm, self.cases, "counters"):
                busy_with = case
                prepare = messages.Prepare(number, case, warm_up=False)
                reply = worker.ask(prepare, patience(prepare))
                if isinstance(reply, messages.Refused):
                    found[case] = reply.reason
                    continue
                counted = worker.ask(messages.Count(number), REQUEST_TIMEOUT_S)
                found[case] = counted.counters if isinstance(counted, messages.Counted) else None
        except WorkerError as error:
            raise ArmError(arm, busy_with, f"its worker process {error}") from None
        return found

    def profiled(self, arm: int, cases: Sequence[Case]) -> dict[Case, CaseProfile]:
        """Return the profiles of cases; those that cannot be profiled are left out."""
        found = {}
        with suppress(WorkerError, OSError), tempfile.TemporaryDirectory(prefix="traces-") as folder:
            trace = str(Path(folder) / "trace.json.gz")
            for worker, number, case in self._each(arm, cases, "profile"):
                prepare = messages.Prepare(number, case, warm_up=True)
                worker.ask(prepare, patience(prepare))
                request = messages.Profile(number, case, PROFILED_STEPS, trace)
                reply = worker.ask(request, REQUEST_TIMEOUT_S)
                if isinstance(reply, messages.Profiled):
                    found[case] = reply.profile
        return found

    def _each(self, arm: int, cases: Sequence[Case], what: str) -> Iterator[tuple[Arm, int, Case]]:
        """Yield each case with its number and a worker of its device."""
        done = 0
        for device in dict.fromkeys(case.device for case in cases):
            with self._worker(arm, device) as worker:
                for case in (case for case in cases if case.device == device):
                    self.progress(f"{what} of {ARMS[arm]}", done, len(cases), None)
                    yield worker, self.cases.index(case), case
                    done += 1

    @contextmanager
    def _worker(self, arm: int, device: str) -> Iterator[Arm]:
        worker = self.parents.launch(arm, device, self.layout.paths(swapped=False)[arm], ())
        try:
            yield worker
        finally:
            worker.close()
