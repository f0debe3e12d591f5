"""The sign-flip test, against an enumeration written out, closed forms, and simulated machines."""

from itertools import product
from math import copysign, inf, sqrt
from time import perf_counter

import numpy as np
import pytest
from scipy import stats

from nncore_bench.gate.signflip import DRAWS, Floats, sign_flips, smallest_p


def statistic(values: list[float], signs: tuple[int, ...]) -> float:
    """Return T_j(s) as its formula reads."""
    pairs = len(values)
    mean = sum(s * v for s, v in zip(signs, values, strict=True)) / pairs
    variance = sum(v * v for v in values) / pairs - mean**2
    return mean / sqrt(variance / (pairs - 1)) if variance > 1e-15 else copysign(inf, mean)


def enumerated(log_ratios: Floats) -> list[float]:
    """Return the adjusted p of every column: all sign vectors, one at a time, one column after another."""
    rows = log_ratios.tolist()
    vectors = list(product((1, -1), repeat=len(rows[0])))
    observed = [statistic(row, vectors[0]) for row in rows]
    adjusted, before = [0.0] * len(rows), 0.0
    left = set(range(len(rows)))
    while left:
        first = max(left, key=lambda j: observed[j])
        reached = sum(max(statistic(rows[j], s) for j in left) >= observed[first] - 1e-9 for s in vectors)
        before = adjusted[first] = max(before, reached / len(vectors))
        left.remove(first)
    return adjusted


def correlated(random: np.random.Generator, columns: int, pairs: int) -> Floats:
    """Return noise of 2 %, half of whose variance all columns share, and rare pairs five times as noisy."""
    burst = np.where(random.random(pairs) < 0.1, 5.0, 1.0)
    shared = random.normal(size=pairs)
    return 0.02 * burst * (shared + random.normal(size=(columns, pairs))) / sqrt(2)


@pytest.mark.parametrize(
    ("columns", "pairs", "shift"), [(1, 5, 0.0), (4, 6, 0.02), (5, 8, 0.015), (3, 2, 0.0)]
)
def test_the_adjusted_p_is_that_of_an_enumeration_written_out(columns: int, pairs: int, shift: float) -> None:
    """Of the statistics and of all columns, some of which are shifted."""
    log_ratios = correlated(np.random.default_rng(columns), columns, pairs)
    log_ratios[::2] += shift
    found = sign_flips(log_ratios, np.random.default_rng(0))
    assert found.adjusted == pytest.approx(enumerated(log_ratios))
    assert found.statistics == pytest.approx([statistic(row, (1,) * pairs) for row in log_ratios.tolist()])


def test_the_statistic_is_students() -> None:
    """With the signs as measured, T is the t statistic of scipy."""
    log_ratios = correlated(np.random.default_rng(1), 3, 9) + 0.01
    found = sign_flips(log_ratios, np.random.default_rng(0))
    assert found.statistics == pytest.approx(stats.ttest_1samp(log_ratios, 0.0, axis=1).statistic)


@pytest.mark.parametrize("pairs", [2, 5, 8, 12])
def test_one_column_slower_in_every_pair_has_the_smallest_p_there_is(pairs: int) -> None:
    """Of all 2^B sign vectors only the identity gives a mean as large."""
    log_ratios = np.random.default_rng(pairs).uniform(0.01, 0.05, (1, pairs))
    found = sign_flips(log_ratios, np.random.default_rng(0))
    assert found.adjusted.tolist() == [2.0**-pairs]
    assert smallest_p(pairs) == 2.0**-pairs


def test_one_column_faster_in_every_pair_has_p_of_one() -> None:
    """The test asks for slower only."""
    log_ratios = -np.random.default_rng(3).uniform(0.01, 0.05, (1, 8))
    assert sign_flips(log_ratios, np.random.default_rng(0)).adjusted.tolist() == [1.0]


def test_drawn_sign_vectors_hold_the_identity() -> None:
    """Of 40 pairs no drawn vector is it by chance: p is 1 in 10,000 and never 0."""
    log_ratios = np.random.default_rng(3).uniform(0.01, 0.05, (1, 40))
    found = sign_flips(log_ratios, np.random.default_rng(0))
    assert found.adjusted.tolist() == [1 / DRAWS]
    assert smallest_p(40) == 1 / DRAWS


def test_drawn_sign_vectors_come_near_to_all_of_them() -> None:
    """Of 13 pairs, 10,000 drawn against 8,192 enumerated: within 4 standard errors of a share."""
    log_ratios = correlated(np.random.default_rng(4), 3, 13) + 0.005
    drawn = sign_flips(log_ratios, np.random.default_rng(0)).adjusted
    exact = np.array(enumerated(log_ratios))
    assert (np.abs(drawn - exact) <= 4 * np.sqrt(exact * (1 - exact) / DRAWS) + 1 / DRAWS).all()


def test_one_seed_gives_one_answer() -> None:
    """The generator is passed in."""
    log_ratios = correlated(np.random.default_rng(5), 4, 16) + 0.01
    first, second = (sign_flips(log_ratios, np.random.default_rng(9)).adjusted for _ in range(2))
    assert first.tolist() == second.tolist()


def test_a_larger_statistic_never_has_a_larger_p() -> None:
    """In 50 simulated runs of 15 columns, some shifted."""
    random = np.random.default_rng(6)
    for _ in range(50):
        log_ratios = correlated(random, 15, 10) + random.choice([0.0, 0.01], (15, 1))
        found = sign_flips(log_ratios, random)
        assert (np.diff(found.adjusted[np.argsort(-found.statistics)]) >= 0).all()


def test_a_slower_column_does_not_hide_a_second_one() -> None:
    """Stepping down, the second is judged among the columns that are left: by itself, it has the same p."""
    second = np.array([0.01, 0.03, -0.001, 0.02, 0.015, 0.02, -0.002, 0.02])
    first = np.linspace(0.1, 0.11, 8)
    both = sign_flips(np.stack([second, first]), np.random.default_rng(0)).adjusted
    alone = sign_flips(second[np.newaxis], np.random.default_rng(0)).adjusted
    assert both[0] == alone[0]
    assert both[1] == 2.0**-8


def test_the_order_of_columns_does_not_matter() -> None:
    """Nor does their scale, since T has no unit."""
    log_ratios = correlated(np.random.default_rng(8), 6, 10) + 0.01
    expected = sign_flips(log_ratios, np.random.default_rng(0)).adjusted
    turned = sign_flips(7.0 * log_ratios[::-1], np.random.default_rng(0)).adjusted
    assert turned[::-1].tolist() == expected.tolist()


@pytest.mark.parametrize("pairs", [8, 40])
def test_a_column_that_is_constant_above_zero_is_surely_slower(pairs: int) -> None:
    """Its statistic is infinite, and only sign vectors that leave it constant reach that."""
    log_ratios = np.vstack([np.full(pairs, 0.03), correlated(np.random.default_rng(1), 2, pairs)])
    found = sign_flips(log_ratios, np.random.default_rng(2))
    assert found.statistics[0] == inf
    assert found.adjusted[0] == smallest_p(pairs)


def test_a_column_that_is_constant_below_zero_is_not_slower() -> None:
    """Its statistic is minus infinity."""
    found = sign_flips(np.full((1, 8), -0.03), np.random.default_rng(0))
    assert found.statistics.tolist() == [-inf]
    assert found.adjusted.tolist() == [1.0]


def test_a_column_of_zeros_is_not_slower_and_costs_the_others_nothing() -> None:
    """Its statistic is 0 under every sign vector, and 0 exceeds no statistic of a column that is slower."""
    slower = np.linspace(0.01, 0.03, 8)
    found = sign_flips(np.stack([np.zeros(8), slower]), np.random.default_rng(0))
    assert found.statistics[0] == 0.0
    assert found.adjusted.tolist() == [1.0, 2.0**-8]
    assert sign_flips(np.zeros((3, 16)), np.random.default_rng(0)).adjusted.tolist() == [1.0] * 3


def test_pairs_of_exactly_zero_are_ties_whatever_the_rounding() -> None:
    """Three of eight pairs are zero: flipping them changes nothing, so 8 of 256 vectors reach the mean."""
    log_ratios = np.array([[0.0, 0.1, 0.0, 0.3, 0.7, 0.0, 1 / 3, 0.2]])
    assert sign_flips(log_ratios, np.random.default_rng(0)).adjusted.tolist() == [8 / 256]


def test_no_columns_give_no_answer() -> None:
    """Rather than an error: nothing was left open."""
    assert sign_flips(np.empty((0, 16)), np.random.default_rng(0)).adjusted.shape == (0,)


def test_identical_arms_are_called_slower_as_seldom_as_promised() -> None:
    """Of 400 runs of 20 correlated columns, 5 % have any false alarm, within the binomial 99.9 % interval."""
    random = np.random.default_rng(11)
    alarms = sum(
        bool((sign_flips(correlated(random, 20, 10), random).adjusted <= 0.05).any()) for _ in range(400)
    )
    low, high = stats.binom.interval(0.999, 400, 0.05)
    assert low <= alarms <= high


def test_columns_without_change_beside_slower_ones_are_called_slower_as_seldom_as_promised() -> None:
    """Of 400 runs in which 5 of 20 columns are 10 % slower: the control is strong, not only of the whole."""
    random = np.random.default_rng(12)
    alarms = 0
    for _ in range(400):
        log_ratios = correlated(random, 20, 10)
        log_ratios[:5] += 0.1
        alarms += bool((sign_flips(log_ratios, random).adjusted[5:] <= 0.05).any())
    assert alarms <= stats.binom.ppf(0.9995, 400, 0.05)


@pytest.mark.machine
def test_a_hundred_columns_take_less_than_three_seconds() -> None:
    """Of 48 pairs, on a machine that is busy."""
    log_ratios = correlated(np.random.default_rng(13), 100, 48)
    started = perf_counter()
    sign_flips(log_ratios, np.random.default_rng(0))
    assert perf_counter() - started < 3
