"""Differences explained: planned times and shares, with causes that follow by arithmetic."""

import msgspec.structs
import pytest
from made_up_runs import CPU_CASE, CUDA_CASE

from nncore_bench.compare.explain import NOT_COMPARABLE, OK, SUSPECT, Compared, Side, compared
from nncore_bench.estimate.estimates import Estimate
from nncore_bench.records import (
    OUTSIDE,
    Account,
    CaseCounters,
    CaseProfile,
    OperatorCount,
    PhaseCounters,
    ProfiledOperator,
)

MICRO = 1e-6
TIMES = {
    "zero_grad": 20.0,
    "forward": 130.0,
    "loss": 30.0,
    "backward": 190.0,
    "optimizer": 280.0,
    "step": 660.0,
}


def known(times: dict[str, float], within: float = 0.01) -> dict[str, Estimate]:
    return {phase: Estimate.around(t * MICRO, t * MICRO * within) for phase, t in times.items()}


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
    return compared(CPU_CASE, base, candidate, {}, same_machine=same_machine)


def test_equal_runs_are_ok_and_need_no_cause() -> None:
    """Two percent apart is within the margin."""
    result = explained(Side(known(TIMES)), Side(known({n: 1.02 * t for n, t in TIMES.items()})))
    assert (result.outcome, result.causes) == (OK, ())
    assert result.ratios["step"].value == pytest.approx(1.02)


def test_a_slower_step_is_suspect_only_where_it_is_surely_slower() -> None:
    """Ten percent with an interval of one percent is; with one of twenty it is not."""
    slower = {n: 1.1 * t for n, t in TIMES.items()}
    assert explained(Side(known(TIMES)), Side(known(slower))).outcome == SUSPECT
    assert explained(Side(known(TIMES, 0.2)), Side(known(slower, 0.2))).outcome == OK


def test_runs_of_two_machines_are_never_judged() -> None:
    """Whatever their ratio, which is shown all the same."""
    result = explained(
        Side(known(TIMES)), Side(known({n: 2 * t for n, t in TIMES.items()})), same_machine=False
    )
    assert result.outcome == NOT_COMPARABLE
    assert result.ratios["step"].value == pytest.approx(2.0)


def test_without_profiles_an_exact_change_is_told_and_its_cost_is_not() -> None:
    """50 µs more in the forward phase, where a clone is new: what the clone costs nobody has seen."""
    base = Side(known(TIMES), counted(("forward", "aten::addmm", 2)))
    slower = TIMES | {"forward": 180.0, "step": 710.0}
    candidate = Side(known(slower), counted(("forward", "aten::addmm", 2), ("forward", "aten::clone", 1)))
    result = explained(base, candidate)
    first = result.causes[0]
    assert (first.phase, first.what, first.exact) == ("forward", "aten::clone", True)
    assert first.seconds is None
    assert result.differences_s["step"] == pytest.approx(50 * MICRO)
    assert result.unexplained_s["step"] == pytest.approx(50 * MICRO)


def test_without_evidence_the_whole_difference_is_unexplained() -> None:
    """No counters and no profiles: 50 µs without a cause."""
    slower = known(TIMES | {"forward": 180.0, "step": 710.0})
    result = explained(Side(known(TIMES)), Side(slower))
    assert result.outcome == SUSPECT
    assert result.unexplained_s["step"] == pytest.approx(50 * MICRO)


def test_with_profiles_every_operator_has_its_part_and_the_parts_add_up() -> None:
    """Mm 65 to 130 µs, relu stays at 39, Python stays at 26: the forward phase of 130 takes 195."""
    base = Side(known(TIMES), counted(("forward", "aten::mm", 1)),
                profiled("forward", {"aten::mm": 0.5, "aten::relu": 0.3, OUTSIDE: 0.2}))  # fmt: skip
    slower = known(TIMES | {"forward": 195.0, "step": 725.0})
    shares = {"aten::mm": 130 / 195, "aten::relu": 39 / 195, OUTSIDE: 26 / 195}
    candidate = Side(slower, base.counters, profiled("forward", shares))
    result = explained(base, candidate)
    (cause,) = result.causes
    assert (cause.what, cause.change, cause.exact) == ("aten::mm", "slower calls", False)
    assert cause.seconds == pytest.approx(65 * MICRO)
    assert result.unexplained_s["step"] == pytest.approx(0, abs=1e-9)
    assert result.share(cause) == pytest.approx(1.0)


def test_time_outside_of_operators_goes_to_the_collector_that_was_called() -> None:
    """Where a counter says what Python did; else it is told as such."""
    base = Side(known(TIMES), msgs(0), profiled("forward", {"aten::mm": 0.5, OUTSIDE: 0.5}))
    slower = known(TIMES | {"forward": 260.0, "step": 790.0})
    shares = {"aten::mm": 0.25, OUTSIDE: 0.75}
    (called,) = explained(base, Side(slower, msgs(1), profiled("forward", shares))).causes
    assert (called.what, called.seconds) == ("garbage collections", pytest.approx(130 * MICRO))
    (outside,) = explained(base, Side(slower, msgs(0), profiled("forward", shares))).causes
    assert (outside.what, outside.meaning) == (OUTSIDE, "Python between the operators")


def msgs(collections: int) -> CaseCounters:
    return CaseCounters({"forward": PhaseCounters(collections=collections)})


def test_a_loader_that_got_slower_is_suspect_by_itself() -> None:
    """The step is as before, and waiting for data is not."""
    base = Side(known(TIMES | {"data": 40.0}), None, profiled("data", {OUTSIDE: 1.0}))
    candidate = Side(known(TIMES | {"data": 2040.0}), None, profiled("data", {OUTSIDE: 1.0}))
    result = explained(base, candidate)
    assert result.suspects == ("data",)
    assert (result.causes[0].phase, result.causes[0].meaning) == ("data", "loading, Python or sleeping")
    assert result.causes[0].seconds == pytest.approx(2000 * MICRO)


def test_a_changed_counter_is_told_where_times_agree() -> None:
    """An operator more that costs nothing to speak of."""
    result = explained(
        Side(known(TIMES), counted(("loss", "aten::mul", 1))),
        Side(known(TIMES), counted(("loss", "aten::mul", 2))),
    )
    assert (result.outcome, result.causes[0].change) == (OK, "+1 aten::mul per step")


def test_threads_come_first_whatever_they_cost() -> None:
    """Of the whole case, before its phases."""
    base = Side(known(TIMES), CaseCounters({}, threads=2))
    slower = known({name: 1.5 * time for name, time in TIMES.items()})
    result = explained(base, Side(slower, CaseCounters({}, threads=1)))
    assert (result.causes[0].phase, result.causes[0].what) == ("case", "threads")


def test_a_phase_of_which_a_time_is_missing_is_left_out() -> None:
    """Not taken for nothing."""
    candidate = known(TIMES)
    del candidate["forward"]
    assert "forward" not in explained(Side(known(TIMES)), Side(candidate)).ratios


def test_time_outside_of_operators_explains_no_phase_of_the_step() -> None:
    """Its place is known and its cause is not: 130 µs are left, where a loader's would be explained."""
    base = Side(known(TIMES), msgs(0), profiled("forward", {"aten::mm": 0.5, OUTSIDE: 0.5}))
    slower = known(TIMES | {"forward": 260.0, "step": 790.0})
    result = explained(base, Side(slower, msgs(0), profiled("forward", {"aten::mm": 0.25, OUTSIDE: 0.75})))
    assert result.unexplained_s["step"] == pytest.approx(130 * MICRO)


def test_a_cheap_exact_change_does_not_hide_a_costly_estimate() -> None:
    """0.5 µs of a new clone, and 100 µs of slower products."""
    names = {"aten::mm": 0.5, OUTSIDE: 0.5}
    base = Side(known(TIMES), counted(("forward", "aten::mm", 1)), profiled("forward", names))
    counters = counted(("forward", "aten::mm", 1), ("forward", "aten::clone", 1))
    shares = {"aten::mm": 165 / 230.5, "aten::clone": 0.5 / 230.5, OUTSIDE: 65 / 230.5}
    slower = known(TIMES | {"forward": 230.5, "step": 760.5})
    causes = explained(base, Side(slower, counters, profiled("forward", shares))).causes
    assert [cause.what for cause in causes] == ["aten::mm", "aten::clone"]
    assert causes[0].seconds == pytest.approx(100 * MICRO)


def test_a_slower_inference_has_a_part_of_its_own() -> None:
    """And is unexplained, since nothing of it is profiled."""
    times = TIMES | {"inference": 100.0}
    result = explained(Side(known(times)), Side(known(times | {"inference": 300.0})))
    assert result.suspects == ("inference",)
    assert result.unexplained_s["inference"] == pytest.approx(200 * MICRO)


def test_parts_that_cancel_each_other_are_told_apart() -> None:
    """Data takes 100 µs more and the step 100 less: 100 in each, and not 0."""
    base = Side(known(TIMES | {"data": 100.0}))
    result = explained(base, Side(known(TIMES | {"data": 200.0, "optimizer": 180.0, "step": 560.0})))
    assert result.differences_s["data"] == pytest.approx(100 * MICRO)
    assert result.differences_s["step"] == pytest.approx(-100 * MICRO)


def test_without_a_whole_step_its_phases_are_judged() -> None:
    """Three times as long a forward phase is suspect by itself."""
    only = {"forward": 130.0}
    result = explained(Side(known(only)), Side(known({"forward": 390.0})))
    assert (result.outcome, result.suspects) == (SUSPECT, ("forward",))


def test_a_step_that_only_one_run_timed_is_not_comparable() -> None:
    """Rather than ok for want of anything to judge."""
    result = explained(Side(known(TIMES)), Side(known({"inference": 100.0})))
    assert result.outcome == NOT_COMPARABLE


def test_a_ratio_without_an_interval_is_never_suspect() -> None:
    """However large: it is not known how sure it is."""
    base, slower = known(TIMES), known({n: 2 * t for n, t in TIMES.items()})
    blank = {phase: Estimate(time.value) for phase, time in slower.items()}
    assert explained(Side(base), Side(blank)).outcome == OK


def test_on_a_device_the_kernels_have_their_own_time_and_the_rest_is_outside() -> None:
    """A kernel that takes 1,000 µs more, on a host that is as it was."""
    slower = known(TIMES | {"forward": 1130.0, "step": 1660.0})

    def on_device(mm_us: float) -> CaseProfile:
        profile = profiled("forward", {"aten::mm": 0.2, "aten::relu": 0.2, OUTSIDE: 0.6})
        times = {"aten::mm": mm_us, "aten::relu": 20.0, OUTSIDE: 0.0}
        operators = tuple(
            msgspec.structs.replace(one, device_s=times[one.operator] * MICRO) for one in profile.operators
        )
        return msgspec.structs.replace(profile, case=CUDA_CASE, operators=operators)

    (cause,) = explained(Side(known(TIMES), None, on_device(80)), Side(slower, None, on_device(1080))).causes
    assert (cause.what, cause.seconds) == ("aten::mm", pytest.approx(1000 * MICRO))


def test_a_part_that_only_one_run_has_is_a_cause_as_well() -> None:
    """A phase that an own step has gained: its operators are counted changes, and their cost is unknown."""
    longer = {name: (1.5 if name == "step" else 1.0) * time for name, time in TIMES.items()}
    base = Side(known(TIMES), counted(("forward", "aten::addmm", 2)))
    candidate = Side(
        known(longer | {"penalty": 0.5 * TIMES["step"]}),
        counted(("forward", "aten::addmm", 2), ("penalty", "aten::norm", 3)),
    )
    for sides, change in ((base, candidate), "+3 aten::norm"), ((candidate, base), "-3 aten::norm"):
        causes = [cause for cause in explained(*sides).causes if cause.phase == "penalty"]
        assert [(cause.exact, cause.seconds) for cause in causes] == [(True, None)]
        assert change in causes[0].change
