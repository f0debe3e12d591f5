"""The rounds of a campaign: what they hold, their order, and how many are planned."""

from collections import Counter
from dataclasses import replace
from itertools import groupby
from math import ceil
from statistics import mean, stdev

import numpy as np
import pytest
from made_up_campaign import STEP_S, Bench, FakeWorker, conduct, records
from made_up_runs import CPU_CASE, CUDA_CASE

from nncore_bench.campaign.conductor import Conductor
from nncore_bench.campaign.plan import Plan, rounds_for
from nncore_bench.machine.notices import thrown_out
from nncore_bench.records import CaseRecord
from nncore_bench.runs import Block
from nncore_bench.worker import messages


def test_every_round_holds_one_block_of_each_kind_of_every_case_from_one_launch() -> None:
    """A round is complete, and all its blocks come from the same process."""
    bench = Bench()
    conduct(bench, Plan(launches=2, budget_s=10.0, target=0.01, least_rounds=6))
    for number, blocks in bench.rounds.items():
        assert Counter((b.case, b.kind) for b in blocks) == Counter(
            (c, k) for c in range(3) for k in records()[0].kinds
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


def test_cases_that_are_compared_are_measured_one_after_the_other() -> None:
    """The variants and threads of one batch size and width, in random order, as the cells are."""
    cells = [record.case for record in records(4)]
    cases = [replace(cell, variant=variant) for cell in cells for variant in ("eager", "fused", "foreach")]
    bench = Bench()
    conduct(bench, Plan(2, 100.0, 0.01, least_rounds=12), [CaseRecord(case, ("step",)) for case in cases])
    orders = []
    for number in bench.rounds:
        asked = [block.case // 3 for block in bench.rounds[number] if block.kind == "plain"]
        assert len(list(groupby(asked))) == len(cells)
        orders.append([block.case for block in bench.rounds[number] if block.kind == "plain"])
    assert len({tuple(order) for order in orders}) > 1
    assert len({tuple(key for key, _ in groupby(n // 3 for n in order)) for order in orders}) > 1


@pytest.mark.parametrize(("step_s", "steps"), [(0.001, 32), (0.0013, 32), (0.0015, 32), (0.1, 4), (3.0, 1)])
def test_a_block_has_a_number_of_steps_that_noise_does_not_change(step_s: float, steps: int) -> None:
    """The power of 2 nearest to 40 ms; a block of long steps has as few as its shortest rule says."""
    bench = Bench()
    bench.step_s = step_s
    conduct(bench, Plan(1, 10.0, 0.01), [CaseRecord(records()[0].case, ("step",))])
    assert bench.saved_cases[0].steps_per_block == {"laps": steps, "plain": steps}


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


def test_a_budget_too_small_for_any_round_still_gives_two_launches_theirs() -> None:
    """Something is always measured, with an interval, and the account says how long it took."""
    bench = Bench()
    campaign = conduct(bench, Plan(launches=3, budget_s=0.001, target=0.01))
    assert campaign.rounds_done == campaign.rounds_planned == 2
    assert len(bench.started) == 2


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
        Block("plain", np.array([[9_999], [round(v)]], np.int64), None, round(v), case=case, round=number)
        for case, lows in values.items()
        for number, v in enumerate(lows)
    ]


def test_rounds_follow_from_the_spread_of_the_pilot_by_the_textbook_formula() -> None:
    """The rounds are (1.96 · s / (target · mean))², rounded up."""
    lows = [1_000_000.0, 1_040_000.0, 980_000.0, 1_020_000.0]
    expected = ceil((1.959964 * stdev(lows) / mean(lows) / 0.01) ** 2)
    assert rounds_for(0.01, pilot({0: lows}), [CPU_CASE]) == expected
    assert rounds_for(0.02, pilot({0: lows}), [CPU_CASE]) == pytest.approx(expected / 4, abs=1)


def test_a_pilot_of_one_round_plans_nothing() -> None:
    """A spread needs two values."""
    assert rounds_for(0.01, pilot({0: [1_000_000.0]}), [CPU_CASE]) == 1
    assert rounds_for(0.01, [], []) == 1


def test_rounds_on_a_device_are_planned_from_the_wall_clock() -> None:
    """The host enqueues evenly while the device is anything but even."""
    blocks = pilot({0: [1_000_000.0] * 4})
    walls = [1_000_000, 1_040_000, 980_000, 1_020_000]
    uneven = [replace(block, wall_ns=wall) for block, wall in zip(blocks, walls, strict=True)]
    assert rounds_for(0.01, uneven, [CPU_CASE]) == 1
    assert rounds_for(0.01, uneven, [CUDA_CASE]) == ceil((1.959964 * stdev(walls) / mean(walls) / 0.01) ** 2)


def test_a_companion_has_shorter_blocks() -> None:
    """A quarter of the usual 40 ms at a millisecond a step."""
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
    campaign = Conductor(cases, plan, bench.start, bench.save, bench.progress, now=bench.now).run()
    assert campaign.rounds_done == 0
    assert bench.rounds == {}


def test_rounds_are_planned_from_the_cases_of_the_user_alone() -> None:
    """A companion that varies asks for nothing: only its own blocks are slower every other round."""

    def planned(slow: int) -> int:
        bench = Bench()

        class Varying(FakeWorker):
            def ask(self, request: messages.Request) -> messages.Reply:
                reply = super().ask(request)
                if isinstance(reply, messages.Measured) and request.number == slow:  # type: ignore[union-attr]
                    laps = np.frombuffer(reply.host, np.int64) * (1 + len(bench.rounds) % 2)
                    return messages.Measured(laps.tobytes(), None, reply.wall_ns)
                return reply

        plan = Plan(4, 1000.0, 0.05, least_rounds=4)
        cases = [CaseRecord(records()[0].case, ("step",)), companion()]
        return (
            Conductor(cases, plan, lambda _: Varying(bench), bench.save, bench.progress, now=bench.now)
            .run()
            .rounds_planned
        )

    assert planned(slow=1) == 4
    assert planned(slow=0) > 100


def test_blocks_that_were_thrown_out_are_counted_and_told() -> None:
    """A network that was compiled again is measured again, and the run says how often."""
    bench = Bench()

    class Compiling(FakeWorker):
        def ask(self, request: messages.Request) -> messages.Reply:
            reply = super().ask(request)
            if isinstance(reply, messages.Measured) and request.kind == "plain":  # type: ignore[union-attr]
                return messages.Measured(reply.host, None, reply.wall_ns, thrown_out=1)
            return reply

    plan = Plan(2, 1000.0, 0.5, least_rounds=4)
    conductor = Conductor(
        records(1), plan, lambda _: Compiling(bench), bench.save, bench.progress, now=bench.now
    )
    campaign = conductor.run()
    assert bench.saved_cases[0].thrown_out == campaign.rounds_done == 4
    (notice,) = thrown_out(bench.saved_cases)
    assert f"within 4 timed blocks of {records(1)[0].case.key}" in notice.cause


def test_a_step_that_is_captured_whole_has_plain_blocks_alone() -> None:
    """A graph that is replayed has no boundaries between its phases: its worker knows no laps."""
    bench = Bench()
    captured = replace(records(1)[0].case, device="cuda", threads="-", variant="cudagraph")

    class Captured(FakeWorker):
        def ask(self, request: messages.Request) -> messages.Reply:
            reply = super().ask(request)
            if isinstance(reply, messages.Prepared):
                assert request.kinds == ("plain",)  # type: ignore[union-attr]
                return messages.Prepared({"plain": STEP_S}, steady=True, correct={})
            return reply

    conductor = Conductor(
        [CaseRecord(captured, captured.phases())],
        Plan(2, 1000.0, 0.5, least_rounds=4),
        lambda _: Captured(bench),
        bench.save,
        bench.progress,
        now=bench.now,
    )
    assert conductor.run().rounds_done == 4
    assert {block.kind for blocks in bench.rounds.values() for block in blocks} == {"plain"}
