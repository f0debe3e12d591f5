"""Columns: cases and the means over them, pair by pair."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from nncore_bench.gate.columns import CaseRatios, Column, case_columns, group_columns
from nncore_bench.gate.rule import SUITE, Kind, Rule

RULE = Rule()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "casing"}, "'casing' is no kind of column"),
        ({"margin": 5.0}, "margin 5.0 is not a share"),
        ({"low": np.zeros(15)}, r"shapes \(15,\) and \(16,\)"),
        ({"low": np.zeros(1), "mean": np.zeros(1)}, "two pairs or more"),
        ({"mean": np.full(16, np.nan)}, "not finite"),
    ],
)
def test_a_column_that_cannot_be_judged_is_refused(wrong: Mapping[str, Any], message: str) -> None:
    """Its name is in the sentence."""
    with pytest.raises(ValueError, match=f"a: .*{message}"):
        replace(Column("a", "case", np.zeros(16), np.zeros(16), 0.05), **wrong)


def case(name: str, device: str, **low: float) -> CaseRatios:
    """Return a case whose low log-ratios are constant, per phase, and whose block means are twice those."""
    return CaseRatios(
        name,
        device,
        {phase: np.array([value, value]) for phase, value in low.items()},
        {phase: np.array([2 * value, 2 * value]) for phase, value in low.items()},
    )


GRID = (
    case("one", "cpu", forward=0.01, step=0.04),
    case("two", "cpu", forward=0.03, step=0.08),
    case("graph", "cuda", step=0.30),
)


def test_groups_are_the_means_over_their_cases() -> None:
    """A phase over those that have it, a device and the suite over whole steps, each with its margin."""
    found = {one.name: (one.kind, one.low[0], one.mean[1], one.margin) for one in group_columns(GRID, RULE)}
    assert found == {
        "forward": ("phase", pytest.approx(0.02), pytest.approx(0.04), 0.05),
        "cpu": ("device", pytest.approx(0.06), pytest.approx(0.12), 0.05),
        "cuda": ("device", pytest.approx(0.30), pytest.approx(0.60), 0.05),
        "suite": ("suite", pytest.approx(0.14), pytest.approx(0.28), 0.015),
    }


def test_groups_are_means_pair_by_pair() -> None:
    """A pair stays a pair."""
    ones, twos = np.array([0.0, 0.1, 0.2]), np.array([0.2, 0.1, 0.0])
    cases = [CaseRatios(name, "cpu", {"step": y}, {"step": y}) for name, y in (("one", ones), ("two", twos))]
    assert group_columns(cases, RULE)[-1].low.tolist() == pytest.approx([0.1, 0.1, 0.1])


def test_one_device_is_no_column_and_one_case_is_no_suite() -> None:
    """They would be what they are made of, the latter at a narrower margin."""
    assert [one.name for one in group_columns(GRID[:2], RULE)] == ["forward", SUITE]
    assert [one.name for one in group_columns(GRID[:1], RULE)] == ["forward"]
    assert group_columns([], RULE) == []


def test_the_column_of_a_case_is_its_step() -> None:
    """Under the case's own name."""
    columns = case_columns(GRID, RULE)
    assert [(one.name, one.kind, one.low[0]) for one in columns] == [
        ("one", "case", 0.04),
        ("two", "case", 0.08),
        ("graph", "case", 0.30),
    ]


def test_cases_of_unlike_pairs_make_no_group() -> None:
    """The sentence says which group."""
    odd = CaseRatios("odd", "cpu", {"step": np.zeros(3)}, {"step": np.zeros(3)})
    with pytest.raises(ValueError, match="suite: cases of 2 and 3 pairs"):
        group_columns([case("one", "cpu", step=0.0), odd], RULE)


def test_a_case_without_its_step_is_refused() -> None:
    """And so is one whose block means are of other phases."""
    with pytest.raises(ValueError, match=r"case one: .*the step among them"):
        case("one", "cpu", forward=0.0)
    with pytest.raises(ValueError, match="block means of nothing"):
        CaseRatios("one", "cpu", {"step": np.zeros(2)}, {})


def test_every_kind_has_a_margin() -> None:
    """The suite has its own."""
    assert {kind: RULE.margin_of(kind) for kind in get_args(Kind)} == {
        "case": 0.05,
        "phase": 0.05,
        "device": 0.05,
        "suite": 0.015,
    }
