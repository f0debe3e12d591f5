"""The campaign: rounds of blocks over all cases and launches, in random order, saved as they finish.

A round holds one block of each kind of every case and is run by one launch; the rounds go to the launches
in random order, so that each launch sees the machine over the whole campaign. The number of rounds is set
once, from a pilot of one round a launch, and never by watching an interval shrink. Where the budget does not
hold one round a launch there are fewer launches.
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec.structs

from nncore_bench.campaign.launcher import Asked, WorkerError, memory_left
from nncore_bench.campaign.plan import FEWEST_ROUNDS, Plan, phases_had, rounds_for, steps_per_block
from nncore_bench.cases import Case
from nncore_bench.records import CaseRecord
from nncore_bench.runs import NANO, Block, Campaign
from nncore_bench.variants import DEFAULT_ALLOCATOR, words_of
from nncore_bench.worker import messages
from nncore_bench.worker.blocks import LEAST_ITERATIONS, least_iterations

FEWEST_LAUNCHES = 2
"""Run so many whatever the budget says: intervals are made of how launches differ."""

SHARE_OF_FIRST_WARM_UP = 0.5
"""Share of the time in which the cases of the first launch have to be ready, if the plan has an end."""

COUNTING_LAUNCHES = 1.5
"""Counting takes about as long as so many launches with their first round."""

OVER = "the time was over"
"""The reason why a case was left out."""

SPIN_UP_S = 0.2
CUDA = "cuda"
MEMORY, GPU_MEMORY, COMPUTE_MODE = "memory", "the GPU's memory", "the GPU's compute mode"
"""The possible reasons why launches cannot run at the same time."""

MEMORY_TO_SPARE = 1.2
"""Start another worker only if free memory exceeds this multiple of what one takes."""


Progress: TypeAlias = Callable[[str, int, int, float | None], None]
"""Shows a stage, how many of it are done, of how many, and the seconds left."""


Save: TypeAlias = Callable[[Sequence[Block], Sequence[CaseRecord], Campaign], None]
"""Keeps the blocks of a round, if it has any, the records of the cases, and the account so far."""

StartWorker: TypeAlias = Callable[[str], Asked]
"""Starts a worker of a pool."""


def pool_of(case: Case) -> str:
    """Return the pool of worker processes that a case runs in: its device, or the default allocator's."""
    return DEFAULT_ALLOCATOR if DEFAULT_ALLOCATOR in words_of(case.variant) else case.device


@dataclass
class Conductor:
    """Conduct a campaign: prepare every case in every launch, then run rounds within the budget."""

    cases: list[CaseRecord]
    """The user's cases, which alone decide how long the campaign takes, and their companions.

    Blocks name them by their number here.
    """

    plan: Plan
    start_worker: StartWorker
    save: Save
    progress: Progress
    now: Callable[[], float] = time.monotonic
    memory_left: Callable[[], int | None] = memory_left
    one_at_a_time: bool = False
    """Whether the GPU lets one process in at a time, so that launches have to come one after another."""

    workers: dict[tuple[str, int], Asked] = field(default_factory=dict)
    measured_s: float = 0.0
    leading_s: float = 0.0
    warm_up_s: float = 0.0
    started: float = 0.0
    rounds_done: int = 0
    rounds_planned: int = 0
    kept_apart_by: str = ""
    launch_s: float = 0.0
    """The seconds that the last launch took for its warm-up and first round."""

    longest_s: float = 0.0
    """The longest iteration of the user's cases."""

    def __post_init__(self) -> None:
        self.alongside, self.launches = 0, self.plan.launches
        self.random = random.Random(self.plan.seed)  # noqa: S311 - the order of blocks is no secret

    def run(self) -> Campaign:
        """Run the whole campaign and return its account."""
        self.started = self.now()
        self._length_s = self.plan.until - self.started
        pilot = self._pilot()
        self.rounds_planned = self._planned(pilot)
        each = self.rounds_planned / self.launches
        self._rounds(range(self.alongside), math.ceil(each * self.alongside) - self.rounds_done)
        for launch in range(self.alongside, self.launches):
            for key in [key for key in self.workers if key[1] == launch - 1]:
                self.workers.pop(key).close()  # the next launch needs their memory
            self._first_round(launch)
            self._rounds(range(launch, launch + 1), math.ceil(each) - 1)
        return self.accounted()

    def _pilot(self) -> list[Block]:
        """Run the first round of every launch, or of as many as fit side by side; each holds every case.

        Sets how many launches there will be: those whose first rounds fit the budget.
        """
        blocks: list[Block] = []
        before = self.memory_left()
        while self.alongside < self.launches and not self.kept_apart_by:
            launch, begin = self.alongside, self.now()
            blocks += self._first_round(launch)
            self.alongside += 1
            self.launch_s = self.now() - begin
            self.launches = min(self.plan.launches, max(self._fitting(), self.alongside))
            self.kept_apart_by = self._kept_apart_by(before, launch)
        return blocks

    def _fitting(self) -> int:
        """Return how many launches fit the budget and the time there is, if all take as long as the last."""
        fitting = max(FEWEST_LAUNCHES, self.plan.budget_s / max(self.seconds_per_round(), NANO))
        more = self._seconds_to_end() / max(self.launch_s, NANO)
        return int(min(fitting, self.alongside + more, self.plan.launches))

    def _seconds_to_end(self) -> float:
        """Return the seconds left until the end of the plan, without those for counting."""
        return self.plan.until - self.now() - COUNTING_LAUNCHES * self.launch_s

    def _kept_apart_by(self, before: int | None, launch: int) -> str:
        """Return the reason why another launch cannot run at the same time, or nothing."""
        if self.one_at_a_time:
            return COMPUTE_MODE
        left = self.memory_left()
        if before is not None and left is not None:
            taken_by_each = (before - left) / (launch + 1)
            if left < MEMORY_TO_SPARE * taken_by_each:
                return MEMORY
        worker = self.workers.get((CUDA, launch))
        with suppress(WorkerError):  # its next request will say so
            seen = worker.ask(messages.Look()) if worker else None
            if isinstance(seen, messages.Seen) and seen.free_bytes < MEMORY_TO_SPARE * seen.held_bytes:
                return GPU_MEMORY
        return ""

    def _rounds(self, launches: range, rounds: int) -> None:
        """Run more rounds within the budget: each launch once a cycle, in fresh random order.

        Launches still to come keep the time for their first round.
        """
        cycles = math.ceil(rounds / len(launches))
        order = [launch for _ in range(cycles) for launch in self.random.sample(launches, len(launches))]
        for launch in order[: max(rounds, 0)]:
            to_come_s = (1 + self.launches - launches.stop) * self.seconds_per_round()
            to_end_s = self._seconds_to_end()
            if self.rounds_done < FEWEST_ROUNDS:
                # One round alone compares nothing, which is worse than to count nothing.
                to_end_s = self.plan.until - self.now()
            if to_come_s > min(self.plan.budget_s - self._seconds_spent(), to_end_s):
                break
            self._round(launch)

    def accounted(self) -> Campaign:
        """Return the account of the campaign so far."""
        return Campaign(
            wall_s=self._seconds_spent(),
            measured_s=self.measured_s,
            leading_s=self.leading_s,
            warm_up_s=self.warm_up_s,
            rounds_planned=self.rounds_planned,
            rounds_done=self.rounds_done,
            target=self.plan.target,
            seed=self.plan.seed,
        )

    def _first_round(self, launch: int) -> list[Block]:
        """Warm a launch up and run its pilot round at once, so that a run killed early has results."""
        begin = self.now()
        for device in self._devices():
            self._prepare_all(device, launch)
        self.warm_up_s += self.now() - begin
        self.save([], self.cases, self.accounted())  # blocks are read by the parts that their cases have
        return self._round(launch)

    def _devices(self) -> list[str]:
        return list(dict.fromkeys(r.case.device for r in self.cases if r.status == "ok" and not r.role))

    def _numbers(self, device: str) -> list[int]:
        """Return the cases to measure on a device, in random order; companions only of cases left.

        Those that are compared with each other come one after the other, so that they see the same machine.
        """
        ok = {number: record for number, record in enumerate(self.cases) if record.status == "ok"}
        places = {record.case.place for record in ok.values() if not record.role}
        groups: dict[Case, list[int]] = {}
        for number, record in ok.items():
            if record.case.device == device and record.case.place in places:
                groups.setdefault(record.case.alike, []).append(number)
        shuffled = self.random.sample(list(groups.values()), len(groups))
        return [number for group in shuffled for number in self.random.sample(group, len(group))]

    def _prepare_all(self, device: str, launch: int) -> None:
        """Prepare a device's cases in a launch, in random order since set-up leaves traces in memory."""
        numbers = self._numbers(device)
        # Last, and in processes of its own: by then it is known how long a step takes.
        numbers.sort(key=lambda number: self.cases[number].role == DEFAULT_ALLOCATOR)
        for done, number in enumerate(numbers):
            self.progress("warm-up", launch * len(numbers) + done, self.launches * len(numbers), None)
            if not launch and (reason := self._no_time_for(number)):
                self._fail(number, reason)
            else:
                self._prepare(launch, number)

    def _no_time_for(self, number: int) -> str:
        """Return why there is no time for a case, or nothing; there always is for the first one."""
        long = least_iterations(self.longest_s) < LEAST_ITERATIONS
        if long and self.cases[number].role == DEFAULT_ALLOCATOR:
            return f"a step takes {self.longest_s:.1f} s, which leaves no time for it"
        late = self.now() > self.started + SHARE_OF_FIRST_WARM_UP * self._length_s
        return OVER if number and late else ""

    def _prepare(self, launch: int, number: int) -> None:
        record = self.cases[number]
        checked = bool(record.correct)
        request = messages.Prepare(number, record.case, warm_up=True, kinds=record.kinds, checked=checked)
        reply = self._ask(launch, number, request)
        if not isinstance(reply, messages.Prepared):
            return
        if not record.role:
            self.longest_s = max(self.longest_s, *reply.seconds.values())
        # The first launch decides for all, so that the blocks of all launches are of one length.
        per_block = record.steps_per_block or steps_per_block(record, reply)
        if not record.steps_per_block:
            self._update(number, parts=reply.parts, phases=phases_had(record, reply))
        self._update(
            number,
            steps_per_block=per_block,
            steady=record.steady and reply.steady,
            correct=record.correct or reply.correct,
            assumed=record.assumed if checked else reply.assumed,
            optimizer_code=reply.optimizer_code,
        )

    def _ask(self, launch: int, number: int, request: messages.Request) -> messages.Reply | None:
        """Ask the launch's worker about a case; a refusal or the worker's death fails that case alone."""
        pool = pool_of(self.cases[number].case)
        worker = self._worker(pool, launch)
        if worker is None or self.cases[number].status != "ok":
            return None
        try:
            reply = worker.ask(request)
        except WorkerError as error:
            self._fail(number, f"its worker process {error}")
            self._replace_worker(pool, launch, number)
            return None
        if isinstance(reply, messages.Refused):
            self._fail(number, reply.reason)
            self._forget(pool, number)
            return None
        return reply

    def _worker(self, pool: str, launch: int) -> Asked | None:
        """Return the worker of a launch, started when first asked for; without one its pool fails."""
        if (pool, launch) not in self.workers:
            try:
                self.workers[pool, launch] = self.start_worker(pool)
            except WorkerError as error:
                self._fail_pool(pool, str(error))
        return self.workers.get((pool, launch))

    def _update(self, number: int, **changes: Any) -> None:  # noqa: ANN401 - fields of the record
        self.cases[number] = msgspec.structs.replace(self.cases[number], **changes)

    def _fail(self, number: int, reason: str) -> None:
        self._update(number, status="failed", reason=reason)

    def _fail_pool(self, pool: str, reason: str) -> None:
        for number, record in enumerate(self.cases):
            if pool_of(record.case) == pool and record.status == "ok":
                self._fail(number, reason)

    def _forget(self, pool: str, number: int) -> None:
        """Have every worker of a pool give back the memory of a case."""
        for (other, _), worker in list(self.workers.items()):
            if other == pool:
                with suppress(WorkerError):  # its own next request will say so
                    worker.ask(messages.Forget(number))

    def _replace_worker(self, pool: str, launch: int, culprit: int) -> None:
        """Replace a worker that is gone; prepare its cases again, except the culprit."""
        self.workers.pop((pool, launch), None)
        self._forget(pool, culprit)
        for number, record in enumerate(self.cases):
            if record.steps_per_block and record.status == "ok" and pool_of(record.case) == pool:
                self._prepare(launch, number)

    def _spin_up(self, launch: int) -> None:
        """Raise the clocks of the GPU before its cases are timed."""
        worker = self._worker(CUDA, launch)
        try:
            reply = None if worker is None else worker.ask(messages.SpinUp(SPIN_UP_S))
        except WorkerError as error:
            reply = messages.Refused(f"its worker process {error}")
        if isinstance(reply, messages.Refused):
            self._fail_pool(CUDA, reply.reason)

    def _round(self, launch: int) -> list[Block]:
        """Run a block of each kind of every case, and save them when all are there."""
        blocks: list[Block] = []
        for device in self._devices():
            if device == CUDA:
                self._spin_up(launch)
            for number in self._numbers(device):
                blocks += self._blocks(launch, number)
        self.rounds_done += bool(blocks)
        self.save(blocks, self.cases, self.accounted())
        self.progress("campaign", self.rounds_done, self.rounds_planned, self._seconds_left())
        return blocks

    def _blocks(self, launch: int, number: int) -> list[Block]:
        record, blocks = self.cases[number], []
        kinds = list(record.kinds)
        self.random.shuffle(kinds)
        for kind in kinds:
            reply = self._ask(launch, number, messages.Measure(number, kind, record.steps_per_block[kind]))
            if not isinstance(reply, messages.Measured):
                break
            block = reply.block(kind, case=number, launch=launch, round=self.rounds_done)
            blocks.append(block.with_parts(record.parts))
            # By the wall clock, since on a device the host runs ahead.
            self.measured_s += blocks[-1].wall_ns * NANO
            self.leading_s += float(blocks[-1].host[0].sum()) * NANO
            if reply.thrown_out:
                self._update(number, thrown_out=self.cases[number].thrown_out + reply.thrown_out)
        return blocks

    def _planned(self, pilot: list[Block]) -> int:
        """Return the rounds that the target asks for, within what the budget allows."""
        pilot = [block for block in pilot if not self.cases[block.case].role]
        if not pilot or not self._devices():
            return self.rounds_done
        affordable = int(self.plan.budget_s / self.seconds_per_round())
        cases = [record.case for record in self.cases]
        wanted = max(rounds_for(self.plan.target, pilot, cases), self.plan.least_rounds)
        whole_cycles = math.ceil(wanted / self.launches) * self.launches
        return max(self.launches, min(whole_cycles, affordable))

    def _seconds_spent(self) -> float:
        """Return the seconds of the campaign so far, without warming up."""
        return self.now() - self.started - self.warm_up_s

    def seconds_per_round(self) -> float:
        """Return the mean seconds of a round so far, without warming up."""
        return self._seconds_spent() / max(self.rounds_done, 1)

    def _seconds_left(self) -> float | None:
        if not self.rounds_planned:
            return None
        return max(self.rounds_planned - self.rounds_done, 0) * self.seconds_per_round()
