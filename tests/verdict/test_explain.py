"""Differences explained: planned times and shares, with causes that follow by arithmetic."""

from dataclasses import replace

import pytest
from made_up_runs import CPU_CASE

from bench.records import (
    OUTSIDE,
    Account,
    CaseCounters,
    CaseProfile,
    OperatorCount,
    PhaseCounters,
    ProfiledOperator,
)
from bench.verdict.explain import NOT_COMPARABLE, OK, SUSPECT, Compared, Side, compared
from bench.verdict.rows import Row

MICRO = 1e-6
TIMES = {
    "zero_grad": 20.0,
    "forward": 130.0,
    "loss": 30.0,
    "backward": 190.0,
    "optimizer": 280.0,
    "step": 660.0,
}


def rows_of(times: dict[str, float], within: float = 0.01) -> dict[str, Row]:
    usual = {**CPU_CASE.parameters("step"), "dataset": "digits", "status": "ok", "reason": ""}
    return {
        phase: Row(**(usual | {"phase": phase}), time_s=t * MICRO, time_low_s=t * MICRO / (1 + within),  # type: ignore[arg-type]
                   time_high_s=t * MICRO * (1 + within))
        for phase, t in times.items()
    }  # fmt: skip


def counted(*uses: tuple[str, str, int]) -> CaseCounters:
    inventory = tuple(OperatorCount(phase, name, "4", "float32", calls, 0) for phase, name, calls in uses)
    return CaseCounters({"forward": PhaseCounters()}, inventory=inventory)


def profiled(phase: str, shares: dict[str, float]) -> CaseProfile:
    operators = tuple(
        ProfiledOperator(phase, name, "", "", "", "", 1.0, dispatched=True, host_s=share, share=share)
        for name, share in shares.items()
    )
    return CaseProfile(CPU_CASE, 1, 1.0, (Account("step", 0, 0, 0, 0, 1, 0),), operators)


def explained(base: Side, candidate: Side, *, same_machine: bool = True) -> Compared:
    return compared(CPU_CASE, base, candidate, same_machine=same_machine)


def test_equal_runs_are_ok_and_need_no_cause() -> None:
    """Two percent apart is within the margin."""
    result = explained(Side(rows_of(TIMES)), Side(rows_of({n: 1.02 * t for n, t in TIMES.items()})))
    assert (result.outcome, result.causes) == (OK, ())
    assert result.ratios["step"].value == pytest.approx(1.02)


def test_a_slower_step_is_suspect_only_where_it_is_surely_slower() -> None:
    """Ten percent with an interval of one percent is; with one of twenty it is not."""
    slower = {n: 1.1 * t for n, t in TIMES.items()}
    assert explained(Side(rows_of(TIMES)), Side(rows_of(slower))).outcome == SUSPECT
    assert explained(Side(rows_of(TIMES, 0.2)), Side(rows_of(slower, 0.2))).outcome == OK


def test_runs_of_two_machines_are_never_judged() -> None:
    """Whatever their ratio, which is shown all the same."""
    result = explained(
        Side(rows_of(TIMES)), Side(rows_of({n: 2 * t for n, t in TIMES.items()})), same_machine=False
    )
    assert result.outcome == NOT_COMPARABLE
    assert result.ratios["step"].value == pytest.approx(2.0)


def test_without_profiles_an_exact_change_has_the_difference_of_its_phase() -> None:
    """50 µs more in the forward phase, where a clone is new; nothing is left."""
    base = Side(rows_of(TIMES), counted(("forward", "aten::addmm", 2)))
    slower = TIMES | {"forward": 180.0, "step": 710.0}
    candidate = Side(rows_of(slower), counted(("forward", "aten::addmm", 2), ("forward", "aten::clone", 1)))
    result = explained(base, candidate)
    first = result.causes[0]
    assert (first.phase, first.what, first.exact) == ("forward", "aten::clone", True)
    assert first.seconds == pytest.approx(50 * MICRO)
    assert result.difference_s == pytest.approx(50 * MICRO)
    assert result.unexplained_s == pytest.approx(0, abs=1e-12)


def test_without_evidence_the_whole_difference_is_unexplained() -> None:
    """No counters and no profiles: 50 µs without a cause."""
    slower = rows_of(TIMES | {"forward": 180.0, "step": 710.0})
    result = explained(Side(rows_of(TIMES)), Side(slower))
    assert result.outcome == SUSPECT
    assert result.unexplained_s == pytest.approx(50 * MICRO)


def test_with_profiles_every_operator_has_its_part_and_the_parts_add_up() -> None:
    """Mm 65 to 130 µs, relu stays at 39, Python stays at 26: the forward phase of 130 takes 195."""
    base = Side(rows_of(TIMES), counted(("forward", "aten::mm", 1)),
                profiled("forward", {"aten::mm": 0.5, "aten::relu": 0.3, OUTSIDE: 0.2}))  # fmt: skip
    slower = rows_of(TIMES | {"forward": 195.0, "step": 725.0})
    shares = {"aten::mm": 130 / 195, "aten::relu": 39 / 195, OUTSIDE: 26 / 195}
    candidate = Side(slower, base.counters, profiled("forward", shares))
    result = explained(base, candidate)
    (cause,) = result.causes
    assert (cause.what, cause.change, cause.exact) == ("aten::mm", "slower calls", False)
    assert cause.seconds == pytest.approx(65 * MICRO)
    assert result.unexplained_s == pytest.approx(0, abs=1e-9)


def test_time_outside_of_operators_goes_to_the_collector_that_was_called() -> None:
    """Where a counter says what Python did; else it is told as such."""
    base = Side(rows_of(TIMES), msgs(0), profiled("forward", {"aten::mm": 0.5, OUTSIDE: 0.5}))
    slower = rows_of(TIMES | {"forward": 260.0, "step": 790.0})
    shares = {"aten::mm": 0.25, OUTSIDE: 0.75}
    (called,) = explained(base, Side(slower, msgs(1), profiled("forward", shares))).causes
    assert (called.what, called.seconds) == ("garbage collections", pytest.approx(130 * MICRO))
    (outside,) = explained(base, Side(slower, msgs(0), profiled("forward", shares))).causes
    assert (outside.what, outside.meaning) == (OUTSIDE, "Python between the operators")


def msgs(collections: int) -> CaseCounters:
    return CaseCounters({"forward": PhaseCounters(collections=collections)})


def test_a_loader_that_got_slower_is_suspect_by_itself() -> None:
    """The step is as before, and waiting for data is not."""
    base = Side(rows_of(TIMES | {"data": 40.0}), None, profiled("data", {OUTSIDE: 1.0}))
    candidate = Side(rows_of(TIMES | {"data": 2040.0}), None, profiled("data", {OUTSIDE: 1.0}))
    result = explained(base, candidate)
    assert result.suspects == ("data",)
    assert (result.causes[0].phase, result.causes[0].meaning) == ("data", "loading, Python or sleeping")
    assert result.causes[0].seconds == pytest.approx(2000 * MICRO)


def test_a_changed_counter_is_told_where_times_agree() -> None:
    """An operator more that costs nothing to speak of."""
    result = explained(
        Side(rows_of(TIMES), counted(("loss", "aten::mul", 1))),
        Side(rows_of(TIMES), counted(("loss", "aten::mul", 2))),
    )
    assert (result.outcome, result.causes[0].change) == (OK, "+1 aten::mul per step")


def test_threads_come_first_whatever_they_cost() -> None:
    """Of the whole case, before its phases."""
    base = Side(rows_of(TIMES), CaseCounters({}, threads=2))
    slower = rows_of({name: 1.5 * time for name, time in TIMES.items()})
    result = explained(base, Side(slower, CaseCounters({}, threads=1)))
    assert (result.causes[0].phase, result.causes[0].what) == ("case", "threads")


def test_a_phase_of_which_a_time_is_missing_is_left_out() -> None:
    """Not taken for nothing."""
    base = rows_of(TIMES)
    candidate = dict(rows_of(TIMES))
    candidate["forward"] = replace(candidate["forward"], time_s=None)
    assert "forward" not in explained(Side(base), Side(candidate)).ratios
