"""What the gate plans: the smallest detectable change, and the pairs it needs; against scipy's quantiles."""

from dataclasses import replace
from math import exp, inf, log, sqrt

import numpy as np
import pytest
from made_up_columns import RULE, column, confirmed, pairs_of
from scipy import stats

from nncore_bench.gate.columns import Column
from nncore_bench.gate.decide import confirm, pairs_needed, screen, smallest_detectable


@pytest.mark.parametrize(("deviation", "columns"), [(0.001, 1), (0.02, 12), (0.02, 100), (0.05, 3)])
def test_the_smallest_detectable_change_is_its_closed_form(deviation: float, columns: int) -> None:
    """With scipy's quantiles; the margin decides where pairs scatter little, the test where they scatter."""
    error = deviation / sqrt(16)
    by_chance = exp((stats.t.ppf(1 - 0.005 / columns, 15) + stats.t.ppf(0.9, 15)) * error) - 1
    by_margin = exp(log(1 + 0.05 / 2) + stats.t.ppf(0.9, 15) * error) - 1
    expected = max(by_chance, by_margin)
    assert smallest_detectable(deviation, 16, columns, 0.05, 0.005) == pytest.approx(expected)


def test_what_cannot_be_detected_at_all_is_infinite() -> None:
    """Two pairs that are far apart, with a rate divided among a thousand columns."""
    assert smallest_detectable(0.5, 2, 1000, 0.05, 0.005) == inf


def test_detectable_counts_the_columns_of_the_second_stage_and_its_pairs() -> None:
    """In stage 1 all columns and the pairs planned, in stage 2 those that are there."""
    first = [column(1.0, 0.02, pairs=8, name=name) for name in "abc"]
    second = [column(1.0, 0.02, pairs=20, name=name) for name in "ab"]
    screened, decided = screen(first, RULE)["a"], confirmed(*second)[0]
    assert screened.detectable == pytest.approx(smallest_detectable(0.02, 16, 6, 0.05, 0.005))
    assert decided.detectable == pytest.approx(smallest_detectable(0.02, 20, 4, 0.05, 0.005))


@pytest.mark.parametrize(("columns", "deviation", "share"), [(1, 0.02, 0.9), (12, 0.05, 0.86)])
def test_a_change_of_the_smallest_detectable_size_is_found_about_nine_times_in_ten(
    columns: int, deviation: float, share: float
) -> None:
    """120 runs of 16 pairs: the share that a longer simulation found, less three standard errors."""
    random = np.random.default_rng(21)
    shift = log(1 + smallest_detectable(deviation, 16, columns, 0.05, 0.005))
    found = 0
    for _ in range(120):
        values = random.normal(0, deviation, (columns, 16))
        values[0] += shift
        named = [Column(str(number), "case", y, y, 0.05) for number, y in enumerate(values)]
        found += confirm(named, RULE, random)["0"].verdict == "slower"
    assert found / 120 >= share - 3 * sqrt(share * (1 - share) / 120)


@pytest.mark.parametrize("deviation", [0.01, 0.03, 0.04, 0.05])
def test_the_pairs_needed_detect_the_margin_and_prove_what_is_the_same(deviation: float) -> None:
    """The fewest that do both, by scipy's quantiles; never fewer than the rule's."""
    columns = [column(1.0, deviation, name="a"), column(1.0, 0.001, name="b")]
    found = pairs_needed(columns, RULE, 64)

    def enough(pairs: int) -> bool:
        error, t = deviation / sqrt(pairs), stats.t(pairs - 1)
        same = (t.ppf(0.975) + t.ppf(0.99)) * error <= log(1.05) and t.ppf(0.99) * error <= log(1.025)
        larger = max(t.ppf(1 - 0.005 / 4) * error, log(1.025))
        return bool(same and larger + t.ppf(0.99) * error <= log(1.05))

    assert enough(found)
    assert found == RULE.second_pairs or not enough(found - 1)


def test_no_more_pairs_than_allowed_are_needed() -> None:
    """A tail that is too wide needs more, as low estimates do."""
    calm = column(1.0, 0.001, name="a")
    wide = column(1.0, 0.001, mean=(1.0, 0.06), name="b")
    assert pairs_needed([calm], RULE, 64) == 16
    assert 16 < pairs_needed([wide], RULE, 64) < 64
    assert pairs_needed([column(1.0, 0.5)], RULE, 64) == 64


def test_what_is_surely_beyond_its_margin_is_not_to_be_proven_the_same() -> None:
    """A mean that grew by 20 % and scatters by 6 % takes no more pairs, one that may be the same does."""
    scattered = Column("a", "case", pairs_of(1.0, 0.001, 8), pairs_of(1.2, 0.06, 8), 0.05)
    assert pairs_needed([scattered], RULE, 64) == 16
    assert pairs_needed([replace(scattered, mean=pairs_of(1.01, 0.06, 8))], RULE, 64) > 16
