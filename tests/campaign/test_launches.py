"""The launches of a campaign: who fails when one does, devices, environments and memory."""

import re
from collections import Counter
from dataclasses import replace

import pytest
from made_up_campaign import Bench, FakeWorker, conduct, records

from nncore_bench.campaign.conductor import OVER, Conductor
from nncore_bench.campaign.launcher import refuse_old_torch
from nncore_bench.campaign.plan import Plan
from nncore_bench.campaign.recorder import cut_short, too_little_memory
from nncore_bench.cases import PHASES, Case
from nncore_bench.errors import UserError
from nncore_bench.records import CaseRecord
from nncore_bench.variants import DEFAULT_ALLOCATOR
from nncore_bench.worker import messages


@pytest.mark.parametrize("found", ["2.4.1+cu121", "2.10.0", "1.13"])
def test_a_torch_that_can_only_be_watched_is_refused_before_anything_starts(found: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"torch {found} is installed, and measuring needs 2.11")):
        refuse_old_torch(found)


@pytest.mark.parametrize("found", ["2.11.0", "2.14.1+cpu", "3.0rc1"])
def test_a_newer_torch_is_measured(found: str) -> None:
    refuse_old_torch(found)


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


def test_the_default_allocator_has_workers_of_its_own_in_the_same_rounds() -> None:
    """Its blocks lie among those of the cases, in every round, from a process with another environment."""
    bench = Bench()
    twin = replace(records()[0].case, variant=DEFAULT_ALLOCATOR)
    conduct(bench, Plan(2, 10.0, 0.01, least_rounds=4), [*records(1), CaseRecord(twin, ("step",))])
    assert [sorted(bench.started[at : at + 2]) for at in (0, 2)] == [["cpu", DEFAULT_ALLOCATOR]] * 2
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
        records(1), plan, bench.start, bench.save, bench.progress, now=bench.now, memory_left=left
    )
    conductor.run()
    rounds = Counter(
        block.launch for blocks in bench.rounds.values() for block in blocks if block.kind == "laps"
    )
    assert rounds == dict.fromkeys(range(4), 2)
    assert most == conductor.alongside == beside
    assert bench.alive == beside
    assert bool(too_little_memory(conductor)) == (beside < 4)


def test_two_launches_have_their_first_round_whatever_the_budget() -> None:
    """Intervals are made of launches, those that began late for want of memory as well."""
    bench = Bench()
    conductor = Conductor(
        records(1),
        Plan(4, 0.001, 0.5, least_rounds=40),
        bench.start,
        bench.save,
        bench.progress,
        now=bench.now,
        memory_left=lambda: (2 - bench.alive) * 10**9,
    )
    assert conductor.run().rounds_done == 2
    assert {block.launch for blocks in bench.rounds.values() for block in blocks} == {0, 1}


@pytest.mark.parametrize(
    ("step_s", "iterations", "launches", "said"),
    [
        # A round is of a laps, a plain, a feed and an inference block, each with a leading iteration more.
        (0.5, 4, 4, ""),  # 4 · 5 · 0.5 s = 10 s, and four rounds take 40 s
        (0.7, 4, 4, ""),  # 14 s, 56 s
        (1.0, 3, 3, "up to 1.0 s: its blocks have 3 iterations; a round of all cases takes 16.0 s: 3 of 4"),
        (1.5, 2, 3, "up to 1.5 s: its blocks have 2 iterations; a round of all cases takes 18.0 s: 3 of 4"),
        (1.8, 1, 4, "up to 1.8 s: its blocks have 1 iteration"),  # 4 · 2 · 1.8 s = 14.4 s
        (2.5, 1, 3, "up to 2.5 s: its blocks have 1 iteration; a round of all cases takes 20.0 s: 3 of 4"),
        (9.0, 1, 2, "up to 9.0 s: its blocks have 1 iteration; a round of all cases takes 72.0 s: 2 of 4"),
    ],
)
@pytest.mark.parametrize("alongside", [True, False])
def test_a_long_step_has_fewer_iterations_and_launches(
    step_s: float, iterations: int, launches: int, said: str, *, alongside: bool
) -> None:
    """A minute holds so many rounds, one for each launch; and the run says what was cut."""
    bench = Bench()
    bench.step_s = step_s
    conductor = Conductor(
        records(1),
        Plan(4, 60.0, 0.5, least_rounds=16),
        bench.start,
        bench.save,
        bench.progress,
        now=bench.now,
        memory_left=lambda: (16 if alongside else 2 - bench.alive) * 10**9,
    )
    campaign = conductor.run()
    assert {r.iterations for r in bench.requests if isinstance(r, messages.Measure)} == {iterations}
    assert {block.launch for blocks in bench.rounds.values() for block in blocks} == set(range(launches))
    assert campaign.wall_s <= 60.001 or launches == 2
    assert bool(too_little_memory(conductor)) is not alongside
    notices = cut_short(conductor)
    assert bool(notices) == bool(said)
    assert all(said in notice.cause for notice in notices)


@pytest.mark.parametrize(("step_s", "measured"), [(0.7, True), (0.9, False)])
def test_a_long_step_is_not_measured_under_the_default_allocator_as_well(
    step_s: float, *, measured: bool
) -> None:
    """Comparing it to the plain step and a round of it would take as long as all the rest."""
    for seed in range(4):
        bench = Bench()
        bench.step_s = step_s
        twin = replace(records()[0].case, variant=DEFAULT_ALLOCATOR)
        both = [*records(1), CaseRecord(twin, ("step",), role=DEFAULT_ALLOCATOR)]
        conduct(bench, Plan(2, 1000.0, 0.5, least_rounds=2, seed=seed), both)
        assert (DEFAULT_ALLOCATOR in bench.started) is measured
        assert ("a step takes 0.9 s, which leaves no time" in bench.saved_cases[1].reason) is not measured
        assert bench.saved_cases[0].status == "ok"


@pytest.mark.parametrize(("until", "launches"), [(60.0, 6), (30.0, 3), (19.0, 1)])
def test_of_a_campaign_with_an_end_as_many_launches_are_run_as_end_in_time(
    until: float, launches: int
) -> None:
    """Each prepares for 6 s and has a round of 0.25 s; counting afterwards is to have half as much again."""
    bench = Bench()
    bench.prepare_s = 2.0
    conductor = Conductor(
        records(3),
        Plan(6, 100.0, 0.01, least_rounds=6, until=until),
        bench.start,
        bench.save,
        bench.progress,
        now=bench.now,
    )
    assert conductor.run().rounds_done == 6
    assert {block.launch for blocks in bench.rounds.values() for block in blocks} == set(range(launches))
    assert bench.seconds <= until - 1.5 * 6.25


def test_no_round_is_begun_that_would_not_end_in_time() -> None:
    """Of 252 ms each, of which counting is to have one and a half."""
    bench = Bench()
    plan = Plan(1, 100.0, 0.01, least_rounds=1000, until=5.0)
    Conductor(records(3), plan, bench.start, bench.save, bench.progress, now=bench.now).run()
    assert 5.0 - 2.5 * 0.26 <= bench.seconds <= 5.0 - 1.5 * 0.25


@pytest.mark.parametrize("seed", range(6))
def test_cases_that_would_be_prepared_too_late_are_left_out_but_never_the_first(seed: int) -> None:
    """Half of three seconds is for preparing; each case takes two."""
    bench = Bench()
    bench.prepare_s = 2.0
    plan = Plan(4, 100.0, 0.01, seed=seed, until=3.0)
    conductor = Conductor(records(3), plan, bench.start, bench.save, bench.progress, now=bench.now)
    conductor.run()
    first, *others = conductor.cases
    assert first.status == "ok"
    assert [record.reason for record in others if record.status == "failed"] in ([OVER], [OVER, OVER])
    assert conductor.launches == 1
    assert 0 in {block.case for block in bench.rounds[0]}


def test_a_budget_that_holds_no_round_a_launch_is_told_with_one_that_does() -> None:
    """Of short steps too: 3 cases of 30, 30, 12 and 8 steps, each block with one more, take 252 ms."""
    for budget_s, launches in ((0.6, 2), (1.2, 4)):
        bench = Bench()
        plan = Plan(4, budget_s, 0.5, least_rounds=4)
        conductor = Conductor(records(3), plan, bench.start, bench.save, bench.progress, now=bench.now)
        conductor.run()
        assert conductor.launches == launches
    bench = Bench()
    conductor = Conductor(
        records(3), Plan(4, 0.6, 0.5), bench.start, bench.save, bench.progress, now=bench.now
    )
    conductor.run()
    (notice,) = cut_short(conductor)
    assert notice.cause.startswith(
        "a round of all cases takes 0.3 s: 2 of 4 launches fit the budget of 0.6 s"
    )
    assert "--step-budget=2 " in notice.next_step  # 4 · 0.252 s and a tenth more, rounded up


def test_a_single_launch_runs_a_second_round_rather_than_counting() -> None:
    """One round compares nothing: its launch takes 6 of 14 s, and counting would have what is left."""
    bench = Bench()
    bench.prepare_s = 2.0
    plan = Plan(3, 100.0, 0.01, least_rounds=3, until=14.0)
    conductor = Conductor(records(3), plan, bench.start, bench.save, bench.progress, now=bench.now)
    assert conductor.run().rounds_done == 2
    assert conductor.launches == 1


def test_only_the_first_launch_checks_the_results_of_a_case() -> None:
    """They are the same in every process."""
    bench = Bench()
    conduct(bench, Plan(3, 10.0, 0.01, least_rounds=3))
    prepared = [one for one in bench.requests if isinstance(one, messages.Prepare)]
    assert [one.checked for one in prepared] == [False] * 3 + [True] * 6
