"""Exact changes between two cases' counters, and what they mean."""

from collections.abc import Iterable

import msgspec.structs
import pytest

from nncore_bench.compare.changes import Change, changes_of
from nncore_bench.records import CaseCounters, OperatorCount, PhaseCounters

LOOP, FOREACH, FUSED = "a loop over tensors", "_foreach_ operators", "a _fused_ operator"
KEPT = "gradients are kept and filled with zeros"


def counters(inventory: Iterable[OperatorCount] = (), **more: object) -> CaseCounters:
    phases = {"forward": PhaseCounters(collections=0, copies=0)}
    return msgspec.structs.replace(CaseCounters(phases, inventory=tuple(inventory)), **more)


def use(
    phase: str, operator: str, calls: int = 1, shapes: str = "32x128", dtypes: str = "float32"
) -> OperatorCount:
    return OperatorCount(phase, operator, shapes, dtypes, calls, 1_000 * calls)


def test_equal_counters_have_no_change() -> None:
    """Nor have counters that one side does not have."""
    one = counters([use("forward", "aten::addmm", 2)])
    assert changes_of(one, one) == []
    assert changes_of(None, one) == []
    assert changes_of(one, None) == []


def test_an_extra_operator_is_told_with_its_calls_and_bytes() -> None:
    """One clone more, of 1 kB."""
    base, candidate = (
        [use("forward", "aten::addmm", 2)],
        [use("forward", "aten::addmm", 2), use("forward", "aten::clone")],
    )
    (change,) = changes_of(counters(base), counters(candidate))
    assert change == Change(
        "forward", "aten::clone", "+1 aten::clone per step, +1 kB moved", "a tensor is copied",
        frozenset({"aten::clone"}),
    )  # fmt: skip


def test_other_shapes_and_other_types_are_told_as_such() -> None:
    """The same calls, 128 or 256 wide, in float32 or float64."""
    base = counters([use("forward", "aten::relu")])
    wider = counters([use("forward", "aten::relu", shapes="32x256")])
    double = counters([use("forward", "aten::relu", dtypes="float64")])
    (shapes,), (types,) = changes_of(base, wider), changes_of(base, double)
    assert (shapes.change, shapes.meaning) == ("32x128 → 32x256", "other shapes")
    assert (types.change, types.meaning) == ("float32 → float64", "other types")


@pytest.mark.parametrize(
    ("phase", "base", "candidate", "meaning"),
    [
        ("optimizer", ["aten::_foreach_add_"], ["aten::add_"], f"{LOOP} instead of {FOREACH}"),
        ("optimizer", ["aten::add_"], ["aten::_fused_adam_"], f"{FUSED} instead of {LOOP}"),
        ("zero_grad", [], ["aten::zero_"], f"{KEPT} instead of being set to None"),
        ("zero_grad", ["aten::_foreach_zero_"], [], "gradients are set to None"),
        ("loss", [], ["aten::_local_scalar_dense"], "a value is read, as .item() and print do"),
        ("forward", [], ["aten::_to_copy"], "a tensor is converted to another type or device"),
        ("backward", ["aten::detach"], ["aten::add_"], "gradients are added to those that were kept"),
        ("forward", [], ["aten::sin"], ""),
    ],
)  # fmt: skip
def test_what_changed_operators_mean(phase: str, base: list[str], candidate: list[str], meaning: str) -> None:
    """As far as their names tell it."""
    (change,) = changes_of(
        counters(use(phase, name) for name in base), counters(use(phase, name) for name in candidate)
    )
    assert change.meaning == meaning


def test_threads_parameters_and_state_come_first_and_once() -> None:
    """A wider network also has other bytes and other state, which follows."""
    base = counters(threads=2, parameters=100, parameter_bytes=400, state_bytes=800)
    wider = counters(
        [use("forward", "aten::sin")], threads=1, parameters=200, parameter_bytes=800, state_bytes=1600
    )
    first, second, third = changes_of(base, wider)
    assert (first.what, first.change) == ("threads", "2 → 1")
    assert (second.what, second.change) == ("parameters", "100 → 200")
    assert third.what == "aten::sin"
    (types,) = changes_of(base, msgspec.structs.replace(base, parameter_bytes=800))
    assert types.meaning == "the parameters are of another type"
    (state,) = changes_of(base, msgspec.structs.replace(base, state_bytes=0))
    assert state.what == "optimizer state bytes"


def test_counters_of_a_phase_are_told_with_the_line_that_waits() -> None:
    """The collector called once, and the device waited for twice at one line."""
    base = counters(phases={"forward": PhaseCounters(collections=0, synchronisations=0)})
    candidate = counters(
        phases={"forward": PhaseCounters(collections=1, synchronisations=2)},
        waits={"forward at step.py:41": 2},
    )
    collections, waits = changes_of(base, candidate)
    assert (collections.what, collections.change) == ("garbage collections", "0 → 1")
    assert (waits.what, waits.change) == ("waits at step.py:41", "0 → 2")


def test_counters_that_follow_from_operators_are_told_where_these_are_the_same() -> None:
    """A tensor kept alive doubles the peak; with an operator more the peak says nothing new."""
    base = counters([use("forward", "aten::mm")], phases={"forward": PhaseCounters(peak_bytes=4)})
    kept = counters([use("forward", "aten::mm")], phases={"forward": PhaseCounters(peak_bytes=8)})
    (change,) = changes_of(base, kept)
    assert (change.what, change.change) == ("peak bytes", "peak bytes 4 → 8")
    more = counters([use("forward", "aten::mm", 2)], phases={"forward": PhaseCounters(peak_bytes=8)})
    (change,) = changes_of(base, more)
    assert change.what == "aten::mm"


def test_calls_that_move_from_one_shape_to_another_are_told() -> None:
    """Two and one of them, or one and two: as many calls in all."""
    base = [use("forward", "aten::t", 2, shapes="4x4"), use("forward", "aten::t", 1, shapes="8x8")]
    other = [use("forward", "aten::t", 1, shapes="4x4"), use("forward", "aten::t", 2, shapes="8x8")]
    (change,) = changes_of(counters(base), counters(other))
    assert change.meaning == "other shapes"


def test_many_changed_operators_are_named_up_to_three() -> None:
    """Those with most calls more or less first."""
    candidate = [use("optimizer", f"aten::op{n}", calls=n) for n in range(1, 6)]
    (change,) = changes_of(counters(), counters(candidate))
    assert change.what == "aten::op5, aten::op4, aten::op3 and 2 more"


def test_steps_that_vary_are_compared_position_by_position() -> None:
    """The third of four does more, and the work of the others is as before."""
    base = counters(positions=((70, 100), (70, 100), (95, 140), (70, 100)))
    candidate = counters(positions=((70, 100), (70, 100), (97, 140), (70, 100)))
    (change,) = changes_of(base, candidate)
    assert change == Change("case", "the work of 1 of 4 steps of a block", "95 → 97", "first in step 3")
    assert changes_of(base, base) == []
