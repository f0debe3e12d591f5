"""The campaign with workers that answer at once and a clock that only they advance."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from statistics import mean, stdev

import numpy as np
import pytest

from bench.cases import BLOCK_LAPS, DEFAULT_ALLOCATOR, PHASES, Case, kinds_for
from bench.measure import messages
from bench.measure.campaign import Conductor
from bench.measure.notices import thrown_out
from bench.measure.plan import Plan, rounds_for
from bench.measure.recorder import too_little_memory
from bench.measure.workers import WorkerError
from bench.records import CaseRecord
from bench.runs import Block, Campaign

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

    def now(self) -> float:
        return self.seconds

    def start(self, device: str) -> "FakeWorker":
        if device == self.cannot_start:
            raise WorkerError("the launcher of the workers killed by signal 9")
        self.started.append(device)
        self.alive += 1
        return FakeWorker(self)

    def save_round(self, number: int, blocks: Sequence[Block]) -> None:
        self.rounds[number] = list(blocks)

    def save_cases(self, cases: Sequence[CaseRecord], campaign: Campaign) -> None:
        assert campaign.rounds_done == len(self.rounds)
        self.saved_cases = tuple(cases)

    def progress(self, stage: str, done: int, total: int, seconds_left: float | None) -> None:
        self.lines.append((stage, done, total, seconds_left))


class FakeWorker:
    """Answer requests with steps of exactly one millisecond."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.held: set[int] = set()

    def close(self) -> None:
        self.bench.alive -= 1

    def ask(self, request: messages.Request, timeout: float = 0.0) -> messages.Reply:
        assert timeout > 0
        self.bench.requests.append(request)
        if isinstance(request, messages.Prepare):
            if request.number in self.bench.refuse:
                return messages.Refused("out of memory: 3 TB")
            self.held.add(request.number)
            return messages.Prepared(dict.fromkeys(BLOCK_LAPS, STEP_S), steady=True, correct={"loss": 2.3})
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
            self.bench.seconds += (request.iterations + 1) * STEP_S
            columns = len(BLOCK_LAPS[request.kind])
            laps = np.full((request.iterations + 1, columns), int(STEP_S * 1e9) // columns, np.int64)
            return messages.Measured(laps.tobytes(), None, int(request.iterations * STEP_S * 1e9))
        return messages.Done()


def records(count: int = 3) -> list[CaseRecord]:
    return [
        CaseRecord(Case("simplenn", "digits", "cpu", 1, "float32", "eager", 2**n, 32), PHASES)
        for n in range(count)
    ]


def conduct(bench: Bench, plan: Plan, cases: list[CaseRecord] | None = None) -> Campaign:
    cases = records() if cases is None else cases
    return Conductor(cases, plan, bench.start, bench, bench.progress, now=bench.now).run()


def test_every_round_holds_one_block_of_each_kind_of_every_case_from_one_launch() -> None:
    """A round is complete, and all its blocks come from the same process."""
    bench = Bench()
    conduct(bench, Plan(launches=2, budget_s=10.0, target=0.01, least_rounds=6))
    for number, blocks in bench.rounds.items():
        assert Counter((b.case, b.kind) for b in blocks) == Counter(
            (c, k) for c in range(3) for k in kinds_for(PHASES)
        )
        assert len({b.launch for b in blocks}) == 1
        assert {b.round for b in blocks} == {number}


def test_rounds_are_spread_evenly_over_the_launches() -> None:
    """Each launch runs its share of the rounds, within every cycle of launches."""
    bench = Bench()
    conduct(bench, Plan(launches=4, budget_s=100.0, target=0.01, least_rounds=12))
    launches = [bench.rounds[number][0].launch for number in sorted(bench.rounds)]
    for start in range(0, len(launches), 4):
        assert sorted(launches[start : start + 4]) == [0, 1, 2, 3]


def test_the_order_is_random_and_follows_the_seed() -> None:
    """Two seeds give two orders, and one seed always the same."""

    def order(seed: int) -> list[tuple[int, str]]:
        bench = Bench()
        conduct(bench, Plan(launches=2, budget_s=10.0, target=0.01, least_rounds=6, seed=seed))
        return [(r.number, r.kind) for r in bench.requests if isinstance(r, messages.Measure)]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_steady_laps_need_no_more_rounds_than_the_least() -> None:
    """Without any spread the pilot is precise enough, and the campaign does not use up its budget."""
    bench = Bench()
    campaign = conduct(bench, Plan(launches=2, budget_s=1000.0, target=0.01, least_rounds=8))
    assert campaign.rounds_done == campaign.rounds_planned == 8


def test_the_budget_bounds_the_campaign() -> None:
    """As many rounds as fit, and none begun that would not end in time."""
    bench = Bench()
    campaign = conduct(bench, Plan(launches=2, budget_s=2.0, target=0.01, least_rounds=10_000))
    per_round = campaign.wall_s / campaign.rounds_done
    assert 2.0 - per_round <= campaign.wall_s <= 2.0


def test_a_budget_too_small_for_one_round_a_launch_still_gives_every_launch_its_pilot() -> None:
    """Something is always measured, and the account says how long it took."""
    bench = Bench()
    campaign = conduct(bench, Plan(launches=3, budget_s=0.001, target=0.01))
    assert campaign.rounds_done == 3


def test_a_case_that_is_refused_fails_alone() -> None:
    """The reason is in its record, its memory is given back, and all others are measured."""
    bench = Bench()
    bench.refuse = {1}
    conduct(bench, Plan(launches=2, budget_s=10.0, target=0.01, least_rounds=4))
    assert [r.status for r in bench.saved_cases] == ["ok", "failed", "ok"]
    assert bench.saved_cases[1].reason == "out of memory: 3 TB"
    assert any(isinstance(r, messages.Forget) and r.number == 1 for r in bench.requests)
    assert {b.case for blocks in bench.rounds.values() for b in blocks} == {0, 2}


def test_a_worker_that_dies_costs_one_case_and_is_replaced() -> None:
    """The new worker gets all other cases again, and the rounds go on."""
    bench = Bench()
    bench.die_once_at, bench.die_after = 2, 2
    campaign = conduct(bench, Plan(launches=2, budget_s=10.0, target=0.01, least_rounds=6))
    assert [r.status for r in bench.saved_cases] == ["ok", "ok", "failed"]
    assert "killed by signal 9" in bench.saved_cases[2].reason
    assert len(bench.started) == 3
    assert campaign.rounds_done == 6
    assert {b.case for b in bench.rounds[5]} == {0, 1}
    assert messages.Forget(2) in bench.requests  # the other launches must not run into the same wall


def test_the_account_adds_up_to_the_time_the_workers_took() -> None:
    """With workers that cost nothing else, measured and leading iterations are the whole campaign."""
    bench = Bench()
    campaign = conduct(bench, Plan(launches=2, budget_s=10.0, target=0.01, least_rounds=4))
    assert campaign.measured_s + campaign.leading_s == pytest.approx(campaign.wall_s, rel=1e-3)
    assert campaign.leading_s > 0


def test_only_the_kinds_of_block_that_the_phases_need_are_run() -> None:
    """Asking for inference alone runs no training steps; asking for forward runs the whole step."""
    for phase, kinds in (("inference", {"inference"}), ("forward", {"laps", "plain"}), ("data", {"feed"})):
        bench = Bench()
        only = [CaseRecord(records(1)[0].case, (phase,))]
        conduct(bench, Plan(launches=1, budget_s=5.0, target=0.01), only)
        assert {b.kind for blocks in bench.rounds.values() for b in blocks} == kinds


def pilot(values: dict[int, list[float]]) -> list[Block]:
    return [
        Block(case, 0, number, "plain", np.array([[9_999], [round(v)]], np.int64), None, round(v))
        for case, lows in values.items()
        for number, v in enumerate(lows)
    ]


def test_rounds_follow_from_the_spread_of_the_pilot_by_the_textbook_formula() -> None:
    """The rounds are (1.96 · s / (target · mean))², rounded up."""
    lows = [1_000_000.0, 1_040_000.0, 980_000.0, 1_020_000.0]
    expected = ceil((1.959964 * stdev(lows) / mean(lows) / 0.01) ** 2)
    assert rounds_for(0.01, pilot({0: lows})) == expected
    assert rounds_for(0.02, pilot({0: lows})) == pytest.approx(expected / 4, abs=1)


def test_a_pilot_of_one_round_plans_nothing() -> None:
    """A spread needs two values."""
    assert rounds_for(0.01, pilot({0: [1_000_000.0]})) == 1
    assert rounds_for(0.01, []) == 1


def test_where_every_case_fails_the_campaign_ends_without_a_round() -> None:
    """Nothing to measure is an end, not an endless sweep."""
    bench = Bench()
    bench.refuse = {0, 1, 2}
    campaign = conduct(bench, Plan(launches=2, budget_s=10.0, target=0.01, least_rounds=6))
    assert campaign.rounds_done == campaign.rounds_planned == 0
    assert bench.rounds == {}


def test_cuda_cases_get_a_spin_up_before_each_of_their_rounds() -> None:
    """The clocks of a device rise under load; nothing spins for the CPU."""
    bench = Bench()
    cuda = [CaseRecord(Case("simplenn", "digits", "cuda", "-", "float32", "eager", 32, 32), PHASES)]
    campaign = conduct(bench, Plan(launches=2, budget_s=10.0, target=0.01, least_rounds=4), cuda + records(1))
    assert sum(isinstance(r, messages.SpinUp) for r in bench.requests) == campaign.rounds_done
    assert sorted(bench.started) == ["cpu", "cpu", "cuda", "cuda"]


def cuda_and_cpu() -> list[CaseRecord]:
    cuda = [
        CaseRecord(Case("simplenn", "digits", "cuda", "-", "float32", "eager", n, 32), PHASES)
        for n in (1, 32)
    ]
    return cuda + records(2)


def test_a_device_whose_workers_cannot_start_fails_and_the_other_goes_on() -> None:
    """With the reason in every case of it."""
    bench = Bench()
    bench.cannot_start = "cuda"
    conduct(bench, Plan(launches=2, budget_s=10.0, target=0.01, least_rounds=4), cuda_and_cpu())
    assert [r.status for r in bench.saved_cases] == ["failed", "failed", "ok", "ok"]
    assert all("launcher of the workers" in r.reason for r in bench.saved_cases[:2])
    assert {b.case for blocks in bench.rounds.values() for b in blocks} == {2, 3}


def test_a_spin_up_that_is_refused_fails_its_device_with_that_reason() -> None:
    """And no innocent case with a KeyError."""
    bench = Bench()
    bench.no_spin_up = True
    conduct(bench, Plan(launches=2, budget_s=10.0, target=0.01, least_rounds=4), cuda_and_cpu())
    assert [r.status for r in bench.saved_cases] == ["failed", "failed", "ok", "ok"]
    assert {r.reason for r in bench.saved_cases[:2]} == {"CUDA error: out of memory"}


def test_the_first_reason_of_a_failure_is_the_one_that_is_told() -> None:
    """A case that fails while another's worker is replaced is not measured afterwards."""
    for seed in range(8):
        bench = Bench()
        bench.die_once_at = 0

        def start_and_refuse(device: str, bench: Bench = bench) -> "FakeWorker":
            if len(bench.started) == 2:  # the replacement
                bench.refuse = {1}
            return Bench.start(bench, device)

        bench.start = start_and_refuse  # type: ignore[method-assign] # a worker that refuses later
        conduct(bench, Plan(launches=2, budget_s=10.0, target=0.01, least_rounds=4, seed=seed))
        assert "KeyError" not in bench.saved_cases[1].reason


def test_rounds_on_a_device_are_planned_from_the_wall_clock() -> None:
    """The host enqueues evenly while the device is anything but even."""
    blocks = pilot({0: [1_000_000.0] * 4})
    walls = [1_000_000, 1_040_000, 980_000, 1_020_000]
    uneven = [replace(block, wall_ns=wall) for block, wall in zip(blocks, walls, strict=True)]
    assert rounds_for(0.01, uneven) == 1
    assert rounds_for(0.01, uneven, {0}) == ceil((1.959964 * stdev(walls) / mean(walls) / 0.01) ** 2)


def test_the_default_allocator_has_workers_of_its_own_in_the_same_rounds() -> None:
    """Its blocks lie among those of the cases, in every round, from a process with another environment."""
    bench = Bench()
    twin = replace(records()[0].case, variant=DEFAULT_ALLOCATOR)
    conduct(bench, Plan(2, 10.0, 0.01, least_rounds=4), [*records(1), CaseRecord(twin, ("step",))])
    assert bench.started == ["cpu", DEFAULT_ALLOCATOR] * 2
    for blocks in bench.rounds.values():
        assert {(block.case, block.kind) for block in blocks if block.case == 1} == {
            (1, "laps"),
            (1, "plain"),
        }


def test_where_no_default_allocator_can_be_started_the_cases_go_on() -> None:
    """What is measured beside the cases fails alone."""
    bench = Bench()
    bench.cannot_start = DEFAULT_ALLOCATOR
    twin = replace(records()[0].case, variant=DEFAULT_ALLOCATOR)
    campaign = conduct(bench, Plan(2, 10.0, 0.01, least_rounds=4), [*records(1), CaseRecord(twin, ("step",))])
    assert campaign.rounds_done >= 4
    assert [record.status for record in bench.saved_cases] == ["ok", "failed"]


def test_a_companion_has_shorter_blocks() -> None:
    """A quarter of the usual 30 ms at a millisecond a step."""
    bench = Bench()
    conduct(bench, Plan(1, 10.0, 0.01), [CaseRecord(records()[0].case, ("step",), block_share=0.25)])
    assert bench.saved_cases[0].steps_per_block == {"laps": 8, "plain": 8}


def companion(**changes: str) -> CaseRecord:
    """Return the smallest network beside the cases."""
    case = replace(records()[0].case, batch_size=1, hidden=8)
    return CaseRecord(case, ("step",), role="smallest-network", **changes)


def test_companions_alone_are_not_worth_a_campaign() -> None:
    """Where every case of the user's is refused, nothing is measured beside them either."""
    bench = Bench()
    bench.refuse = {0}
    plan = Plan(2, 10.0, 0.01, least_rounds=40)
    cases = [*records(1), companion()]
    campaign = Conductor(cases, plan, bench.start, bench, bench.progress, own=1, now=bench.now).run()
    assert campaign.rounds_done == 0
    assert bench.rounds == {}


def test_rounds_are_planned_from_the_cases_of_the_user_alone() -> None:
    """A companion that varies asks for nothing: only its own blocks are slower every other round."""

    def planned(slow: int) -> int:
        bench = Bench()

        class Varying(FakeWorker):
            def ask(self, request: messages.Request, timeout: float = 0.0) -> messages.Reply:
                reply = super().ask(request, timeout)
                if isinstance(reply, messages.Measured) and request.number == slow:  # type: ignore[union-attr]
                    laps = np.frombuffer(reply.host, np.int64) * (1 + len(bench.rounds) % 2)
                    return messages.Measured(laps.tobytes(), None, reply.wall_ns)
                return reply

        plan = Plan(4, 1000.0, 0.05, least_rounds=4)
        cases = [CaseRecord(records()[0].case, ("step",)), companion()]
        return (
            Conductor(cases, plan, lambda _: Varying(bench), bench, bench.progress, own=1, now=bench.now)
            .run()
            .rounds_planned
        )

    assert planned(slow=1) == 4
    assert planned(slow=0) > 100


def test_blocks_that_were_thrown_out_are_counted_and_told() -> None:
    """A network that was compiled again is measured again, and the run says how often."""
    bench = Bench()

    class Compiling(FakeWorker):
        def ask(self, request: messages.Request, timeout: float = 0.0) -> messages.Reply:
            reply = super().ask(request, timeout)
            if isinstance(reply, messages.Measured) and request.kind == "plain":  # type: ignore[union-attr]
                return messages.Measured(reply.host, None, reply.wall_ns, thrown_out=1)
            return reply

    plan = Plan(2, 1000.0, 0.5, least_rounds=4)
    conductor = Conductor(records(1), plan, lambda _: Compiling(bench), bench, bench.progress, now=bench.now)
    campaign = conductor.run()
    assert bench.saved_cases[0].thrown_out == campaign.rounds_done == 4
    (notice,) = thrown_out(bench.saved_cases)
    assert f"within 4 timed blocks of {records(1)[0].case.key}" in notice.cause


def test_a_step_that_is_captured_whole_has_plain_blocks_alone() -> None:
    """A graph that is replayed has no boundaries between its phases: its worker knows no laps."""
    bench = Bench()
    captured = replace(records(1)[0].case, device="cuda", threads="-", variant="cudagraph")

    class Captured(FakeWorker):
        def ask(self, request: messages.Request, timeout: float = 0.0) -> messages.Reply:
            reply = super().ask(request, timeout)
            if isinstance(reply, messages.Prepared):
                assert request.kinds == ("plain",)  # type: ignore[union-attr]
                return messages.Prepared({"plain": STEP_S}, steady=True, correct={})
            return reply

    conductor = Conductor(
        [CaseRecord(captured, captured.phases())],
        Plan(2, 1000.0, 0.5, least_rounds=4),
        lambda _: Captured(bench),
        bench,
        bench.progress,
        now=bench.now,
    )
    assert conductor.run().rounds_done == 4
    assert {block.kind for blocks in bench.rounds.values() for block in blocks} == {"plain"}


@pytest.mark.parametrize(("gigabytes", "beside"), [(16, 4), (5, 4), (4, 3), (3, 2), (1, 1)])
def test_launches_for_which_there_is_no_memory_run_after_the_others(gigabytes: int, beside: int) -> None:
    """Each holds a gigabyte, and another one is begun beside it only while there are 1.2 left."""
    bench = Bench()
    plan = Plan(4, 1000.0, 0.5, least_rounds=8)
    most = 0

    def left() -> int:
        nonlocal most
        most = max(most, bench.alive)
        return (gigabytes - bench.alive) * 10**9

    conductor = Conductor(
        records(1), plan, bench.start, bench, bench.progress, now=bench.now, memory_left=left
    )
    conductor.run()
    rounds = Counter(
        block.launch for blocks in bench.rounds.values() for block in blocks if block.kind == "laps"
    )
    assert rounds == dict.fromkeys(range(4), 2)
    assert most == conductor.beside == beside
    assert bench.alive == beside
    assert bool(too_little_memory(conductor)) == (beside < 4)


def test_each_launch_has_its_first_round_whatever_the_budget() -> None:
    """Intervals are made of launches, those that began late for want of memory as well."""
    bench = Bench()
    conductor = Conductor(
        records(1),
        Plan(4, 0.001, 0.5, least_rounds=40),
        bench.start,
        bench,
        bench.progress,
        now=bench.now,
        memory_left=lambda: (2 - bench.alive) * 10**9,
    )
    assert conductor.run().rounds_done == 4
    assert {block.launch for blocks in bench.rounds.values() for block in blocks} == set(range(4))
