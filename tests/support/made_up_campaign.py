"""A campaign with workers that answer at once and a clock that only they advance."""

from collections.abc import Sequence

import numpy as np

from nncore_bench.campaign.conductor import Conductor
from nncore_bench.campaign.launcher import WorkerError
from nncore_bench.campaign.plan import Plan
from nncore_bench.cases import BLOCK_LAPS, PHASES, Case
from nncore_bench.records import CaseRecord
from nncore_bench.runs import Block, Campaign
from nncore_bench.worker import messages

STEP_S = 0.001


class Bench:
    """Everything a campaign needs, made up: a clock, a store, a progress line and its workers."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.rounds: dict[int, list[Block]] = {}
        self.saved_cases: Sequence[CaseRecord] = ()
        self.requests: list[messages.Request] = []
        self.started: list[str] = []
        self.alive = 0
        self.lines: list[tuple[str, int, int, float | None]] = []
        self.refuse: set[int] = set()
        self.die_once_at: int | None = None
        self.die_after = 0
        self.no_spin_up = False
        self.cannot_start: str | None = None
        self.step_s = STEP_S
        self.prepare_s = 0.0

    def now(self) -> float:
        return self.seconds

    def start(self, device: str) -> "FakeWorker":
        if device == self.cannot_start:
            raise WorkerError("the launcher of the workers killed by signal 9")
        self.started.append(device)
        self.alive += 1
        return FakeWorker(self)

    def save(self, blocks: Sequence[Block], cases: Sequence[CaseRecord], campaign: Campaign) -> None:
        if blocks:
            self.rounds[blocks[0].round] = list(blocks)
        assert campaign.rounds_done == len(self.rounds)
        self.saved_cases = tuple(cases)

    def progress(self, stage: str, done: int, total: int, seconds_left: float | None) -> None:
        self.lines.append((stage, done, total, seconds_left))


class FakeWorker:
    """Answer requests with steps of exactly one millisecond, or as long as the bench says."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.held: set[int] = set()

    def close(self) -> None:
        self.bench.alive -= 1

    def ask(self, request: messages.Request) -> messages.Reply:
        self.bench.requests.append(request)
        if isinstance(request, messages.Prepare):
            if request.number in self.bench.refuse:
                return messages.Refused("out of memory: 3 TB")
            self.held.add(request.number)
            self.bench.seconds += self.bench.prepare_s
            return messages.Prepared(
                dict.fromkeys(BLOCK_LAPS, self.bench.step_s), steady=True, correct={"loss": 2.3}
            )
        if isinstance(request, messages.Forget):
            self.held.discard(request.number)
        if isinstance(request, messages.SpinUp) and self.bench.no_spin_up:
            return messages.Refused("CUDA error: out of memory")
        if isinstance(request, messages.Measure):
            if request.number not in self.held:
                return messages.Refused(f"KeyError: {request.number}")
            if self.bench.die_once_at == request.number and len(self.bench.rounds) >= self.bench.die_after:
                self.bench.die_once_at = None
                raise WorkerError("killed by signal 9")
            step_s = self.bench.step_s
            self.bench.seconds += (request.iterations + 1) * step_s
            columns = len(BLOCK_LAPS[request.kind])
            laps = np.full((request.iterations + 1, columns), int(step_s * 1e9) // columns, np.int64)
            return messages.Measured(laps.tobytes(), None, int(request.iterations * step_s * 1e9))
        return messages.Done()


def records(count: int = 3) -> list[CaseRecord]:
    return [
        CaseRecord(Case("simplenn", "digits", "cpu", 1, "float32", "eager", 2**n, 32), PHASES)
        for n in range(count)
    ]


def conduct(bench: Bench, plan: Plan, cases: list[CaseRecord] | None = None) -> Campaign:
    cases = records() if cases is None else cases
    return Conductor(cases, plan, bench.start, bench.save, bench.progress, now=bench.now).run()
