"""Columns: cases and the means over them, pair by pair."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from made_up_columns import case_of, measured

from nncore_bench.cases import Case
from nncore_bench.gate.columns import Column, columns_of
from nncore_bench.gate.rule import SUITE, Kind, Rule

RULE = Rule()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"low": np.zeros(15)}, r"shapes \(15,\) and \(16,\)"),
        ({"low": np.zeros(1), "mean": np.zeros(1)}, "two pairs or more"),
        ({"mean": np.full(16, np.nan)}, "not finite"),
    ],
)
def test_a_column_that_cannot_be_judged_is_refused(wrong: Mapping[str, Any], message: str) -> None:
    """Its name is in the sentence."""
    with pytest.raises(ValueError, match=f"a: .*{message}"):
        replace(Column("a", "case", np.zeros(16), np.zeros(16), 0.05), **wrong)


def constant(**low: float) -> dict[str, list[float]]:
    """Return two pairs of constant low log-ratios by phase."""
    return {phase: [value, value] for phase, value in low.items()}


ONE, TWO, GRAPH = case_of("one"), case_of("two"), case_of("graph", "cuda")
GRID = {
    ONE: constant(forward=0.01, step=0.04),
    TWO: constant(forward=0.03, step=0.08),
    GRAPH: constant(step=0.30),
}


def columns(low: Mapping[Case, Mapping[str, Sequence[float]]]) -> list[Column]:
    """Return the columns of cases by their low log-ratios; their block means are twice those."""
    return columns_of({case: measured(one, mean_factor=2.0) for case, one in low.items()}, low, RULE)


def test_cases_come_first_by_their_steps() -> None:
    """Under each case's own name."""
    assert [(one.name, one.kind, one.low[0]) for one in columns(GRID)[:3]] == [
        (ONE.key, "case", 0.04),
        (TWO.key, "case", 0.08),
        (GRAPH.key, "case", 0.30),
    ]


def test_groups_are_the_means_over_their_cases() -> None:
    """A phase over those that have it, a device and the suite over whole steps, each with its margin."""
    found = {one.name: (one.kind, one.low[0], one.mean[1], one.margin) for one in columns(GRID)[3:]}
    assert found == {
        "forward": ("phase", pytest.approx(0.02), pytest.approx(0.04), 0.05),
        "cpu": ("device", pytest.approx(0.06), pytest.approx(0.12), 0.05),
        "cuda": ("device", pytest.approx(0.30), pytest.approx(0.60), 0.05),
        "suite": ("suite", pytest.approx(0.14), pytest.approx(0.28), 0.015),
    }


def test_groups_are_means_pair_by_pair() -> None:
    """A pair stays a pair."""
    found = columns({ONE: {"step": [0.0, 0.1, 0.2]}, TWO: {"step": [0.2, 0.1, 0.0]}})
    assert found[-1].low.tolist() == pytest.approx([0.1, 0.1, 0.1])


def test_one_device_is_no_column_and_one_case_is_no_suite() -> None:
    """They would be what they are made of, the latter at a narrower margin."""
    alone = {ONE: GRID[ONE]}
    assert [one.name for one in columns(alone | {TWO: GRID[TWO]})] == [ONE.key, TWO.key, "forward", SUITE]
    assert [one.name for one in columns(alone)] == [ONE.key, "forward"]
    assert columns({}) == []


def test_a_phase_that_is_not_judged_is_no_column() -> None:
    """Though it was measured."""
    shown = {ONE: measured(GRID[ONE])}
    assert [one.name for one in columns_of(shown, {ONE: ["step"]}, RULE)] == [ONE.key]


def test_every_kind_has_a_margin() -> None:
    """The suite has its own."""
    assert {kind: RULE.margin_of(kind) for kind in get_args(Kind)} == {
        "case": 0.05,
        "phase": 0.05,
        "device": 0.05,
        "suite": 0.015,
    }


def test_block_means_have_a_wider_margin_where_the_machine_lengthens_them_on_both_sides() -> None:
    """By half of what it adds beyond 15 %, from 5 to at most 10 %; one side alone widens nothing."""

    def margin(*excesses: tuple[float, float], rule: Rule = RULE) -> float:
        pairs = [
            replace(pair, low_ns=[(100.0, 200.0)] * 2, mean_ns=[(100 * (1 + a), 200 * (1 + b))] * 2)
            for pair, (a, b) in zip(measured(GRID[GRAPH]), excesses, strict=True)
        ]
        return columns_of({ONE: pairs}, {ONE: ["step"]}, rule)[0].mean_margin

    assert margin((0.0, 0.0), (0.1, 0.1)) == 0.05
    assert margin((0.2, 0.19), (0.23, 0.3)) == pytest.approx(0.05 + (0.21 - 0.15) / 2)
    assert margin((0.3, 0.9), (0.9, 0.3)) == 0.10
    assert margin((0.3, 0.02), (0.02, 0.3)) == 0.05
    assert margin((0.0, 0.0), (0.0, 0.0), rule=Rule(margin=0.2)) == 0.2


def test_what_both_sides_share_stays_as_it_is_when_they_are_exchanged() -> None:
    """The test by coins is exact only then."""
    pair = replace(measured(GRID[GRAPH])[0], low_ns=[(100, 90), (120, 100)], mean_ns=[(130, 99), (130, 150)])
    other = replace(
        pair, low_ns=[one[::-1] for one in pair.low_ns], mean_ns=[one[::-1] for one in pair.mean_ns]
    )
    assert pair.shared_excess == other.shared_excess == pytest.approx(260 / 220 - 1)
