"""The self-test's workloads and checks on a fake clock, where every figure is exact."""

from dataclasses import replace

import pytest
from fake_host import FakeHost
from made_up_runs import record_of, run_of

from nncore_bench.cases import DOES_NOT_APPLY, STEP_PHASES, BlockKind, Case
from nncore_bench.estimate.results import rows_of
from nncore_bench.runs import Block, Run
from nncore_bench.selftest import checks as truth
from nncore_bench.selftest.campaign import (
    FULL,
    PLANTED_CASE,
    PLANTED_S,
    QUICK,
    WAITS_US,
    campaign_checks,
    cases_of,
    known_times,
)
from nncore_bench.worker.blocks import run_block
from nncore_bench.worker.catalog import CaseWorkload
from nncore_bench.worker.clock import HostClock
from nncore_bench.worker.references.known_answers import DELAY_NS, BusyWait, DelayedPhase

LAUNCHES, ROUNDS, ITERATIONS = 2, 3, 12


def wait_case(microseconds: int) -> Case:
    return replace(
        PLANTED_CASE,
        subject=f"busy-wait:{microseconds}",
        dataset=DOES_NOT_APPLY,
        batch_size=1,
        hidden=DOES_NOT_APPLY,
    )


def blocks_of(work: CaseWorkload, host: FakeHost, number: int = 0) -> list[Block]:
    kinds: tuple[BlockKind, ...] = ("laps", "plain")
    return [
        replace(laps, case=number, launch=launch, round=round_)
        for launch in range(LAUNCHES)
        for round_ in range(ROUNDS)
        for kind in kinds
        for laps in [run_block(work, HostClock(host.now), kind, ITERATIONS)]
    ]


def waited(host: FakeHost, *, off_by: float = 1.0) -> tuple[Run, list[Block]]:
    records = [record_of(wait_case(wait), phases=(*STEP_PHASES, "step")) for wait in WAITS_US]
    blocks = [
        block
        for number, wait in enumerate(WAITS_US)
        for block in blocks_of(BusyWait(round(1_000 * wait * off_by), host.wait), host, number)
    ]
    return run_of(records), blocks


def test_known_times_come_out_exactly_in_table_json_and_csv() -> None:
    """On a clock that costs nothing, 20 µs to 20 ms are what every output says."""
    run, blocks = waited(FakeHost())
    checks = list(known_times(run, rows_of(run, blocks)))
    assert [check.passed for check in checks] == [True] * 4
    assert [check.figures["table_us"] for check in checks] == pytest.approx([20, 200, 2_000, 20_000])
    assert [check.figures["JSON_error"] for check in checks] == pytest.approx([0] * 4)


def test_a_clock_that_runs_three_percent_fast_fails_every_known_time() -> None:
    """The smallest wait has 1 µs of room, and 20.6 µs are within it; the others have 2 %."""
    run, blocks = waited(FakeHost(), off_by=1.03)
    passed = [check.passed for check in known_times(run, rows_of(run, blocks))]
    assert passed == [True, False, False, False]


def test_one_output_that_says_something_else_fails_a_known_time() -> None:
    """As pytest-codspeed 5.0.4 did, which printed 412 ns for 20 µs."""
    told = {"table": 412e-9, "JSON": 20e-6, "CSV": 20e-6}
    assert not truth.known_time(20e-6, told).passed
    assert not truth.known_time(20e-6, {"table": float("nan")}).passed


def planted_blocks(phase: str, host: FakeHost) -> list[Block]:
    work = DelayedPhase(replace(PLANTED_CASE, batch_size=4, hidden=4), phase, host.wait)
    return [block for block in blocks_of(work, host) if block.kind == "laps"]


@pytest.mark.parametrize("phase", STEP_PHASES)
def test_a_planted_delay_lands_in_its_phase_and_no_other(phase: str) -> None:
    """A real step that takes no time on the fake clock, and 300 µs in one phase of every third iteration."""
    blocks = planted_blocks(phase, FakeHost(reading_ns=40))
    check = truth.planted_delay(phase, PLANTED_S, blocks)
    assert check.passed
    assert check.figures == {
        **dict.fromkeys(("planted_us", "found_us", "least_us", "most_us"), pytest.approx(300)),
        **dict.fromkeys(("elsewhere_us", "most_elsewhere_us"), pytest.approx(0)),
        "limit_us": pytest.approx(15),
        "launches": 2,
    }


def test_a_delay_that_lands_elsewhere_fails_for_both_phases() -> None:
    """What was planted in forward is not to be found in backward."""
    blocks = planted_blocks("forward", FakeHost())
    assert not truth.planted_delay("backward", PLANTED_S, blocks).passed
    assert not truth.planted_delay("forward", PLANTED_S * 1.06, blocks).passed
    assert not truth.planted_delay("forward", PLANTED_S, []).passed


def test_a_delay_missed_in_one_launch_fails() -> None:
    """Every launch is held to it: the median of the other three is right."""
    blocks = [
        replace(block, launch=launch) for launch in range(4) for block in planted_blocks("loss", FakeHost())
    ]
    assert truth.planted_delay("loss", PLANTED_S, blocks).passed
    missed = [replace(block, host=block.host * (block.launch != 1)) for block in blocks]
    check = truth.planted_delay("loss", PLANTED_S, missed)
    assert not check.passed
    assert (check.figures["least_us"], check.figures["launches"]) == (pytest.approx(0), 4)


def test_plain_blocks_hold_no_planted_delay() -> None:
    """The step beside it is what training takes by itself."""
    host = FakeHost()
    work = DelayedPhase(replace(PLANTED_CASE, batch_size=4, hidden=4), "forward", host.wait)
    laps = run_block(work, HostClock(host.now), "plain", ITERATIONS)
    assert laps.host.sum() == 0
    assert DELAY_NS == PLANTED_S * 1e9


def test_a_whole_campaign_of_known_answers_passes_every_check() -> None:
    """Busy-waits, planted delays and twins, run by the same blocks and judged as for real."""
    host = FakeHost(reading_ns=40)
    cases = [
        case for case in cases_of(QUICK) if case.batch_size <= 32 and case.hidden in (DOES_NOT_APPLY, 32)
    ]
    run = run_of([record_of(case, phases=(*STEP_PHASES, "step")) for case in cases])
    blocks = [
        block
        for number, case in enumerate(cases)
        for block in blocks_of(fake_workload(case, host), host, number)
    ]
    checks = list(campaign_checks(run, blocks))
    assert [check.name for check in checks if not check.passed] == []
    assert len(checks) == 4 + 5 + 3


def fake_workload(case: Case, host: FakeHost) -> CaseWorkload:
    """Return the workload of a case; networks, which take no time here, wait 80 µs in backward instead."""
    name, _, detail = case.subject.partition(":")
    if name == "busy-wait":
        return BusyWait(1_000 * int(detail), host.wait)
    if name == "planted":
        return DelayedPhase(case, detail, host.wait)
    return BusyWait(80_000, host.wait)


def test_a_case_that_failed_fails_the_selftest() -> None:
    """Nothing is left out silently."""
    case = wait_case(20)
    run = run_of([record_of(case, status="failed", reason="it broke")])
    first, *_ = campaign_checks(run, [])
    assert (first.passed, first.figure) == (False, "it broke")


def test_the_selftest_measures_the_grid_it_promises() -> None:
    """Four waits, a delay in each phase, and every twin beside its twin."""
    for effort in (FULL, QUICK):
        cases = cases_of(effort)
        assert len(set(cases)) == len(cases) == 4 + 5 + 2 * len(effort.twins)
