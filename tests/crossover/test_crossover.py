"""The crossover on curves whose answer is known."""

from math import exp, log

import numpy as np
import pytest

from nncore_bench.crossover.crossing import Crossover, crossover
from nncore_bench.estimate.estimates import Estimate

SIZES = [1, 4, 16, 64, 256]


def exact(value: float) -> Estimate:
    return Estimate(value, value, value)


def within(value: float, share: float) -> Estimate:
    return Estimate(value, value / (1 + share), value * (1 + share))


def of_values(*values: float, worth: float = 1.0) -> Crossover:
    return crossover(dict(zip(SIZES, map(exact, values), strict=False)), worth=worth)


def test_a_power_law_crosses_where_it_equals_one() -> None:
    """A speed-up of (b / 20) ** 0.7 is a straight line on logarithmic axes: nothing is lost between sizes."""
    found = of_values(*((size / 20) ** 0.7 for size in SIZES))
    (crossing,) = found.crossings
    assert crossing.batch_size.value == pytest.approx(20)
    assert crossing.batch_size.low == pytest.approx(20)
    assert crossing.batch_size.high == pytest.approx(20)
    assert crossing.upward
    assert found.faster is None


def test_fixed_costs_cross_near_where_the_lines_do() -> None:
    """Two steps of fixed cost and cost per sample, 100 + 10 b and 500 + b, are equal at 400 / 9."""
    ratios = [(100 + 10 * size) / (500 + size) for size in SIZES]
    (crossing,) = of_values(*ratios).crossings
    assert crossing.batch_size.value == pytest.approx(400 / 9, rel=0.05)


@pytest.mark.parametrize(("values", "first"), [((0.2, 0.5, 0.9), False), ((1.1, 2.0, 9.0), True)])
def test_what_never_crosses_says_which_is_faster(values: tuple[float, ...], first: bool) -> None:  # noqa: FBT001
    """On all of the range that was measured, and nothing is said beyond."""
    found = of_values(*values)
    assert found.crossings == ()
    assert found.faster is first


def test_what_crosses_twice_has_two_crossings() -> None:
    """Up and down again."""
    found = of_values(0.5, 2.0, 2.0, 0.5)
    assert [crossing.upward for crossing in found.crossings] == [True, False]
    assert [crossing.batch_size.value for crossing in found.crossings] == pytest.approx([2, 32])


def test_what_touches_is_no_crossing() -> None:
    """Equal at one size, and slower on both sides of it."""
    assert of_values(0.5, 1.0, 0.5).crossings == ()


def test_what_is_equal_for_a_while_crosses_in_the_middle_of_it() -> None:
    """Slower before, faster after, and equal at 4 and 16."""
    (crossing,) = of_values(0.5, 1.0, 1.0, 2.0).crossings
    assert crossing.batch_size.value == pytest.approx(8)


def test_the_interval_is_where_the_bounds_cross() -> None:
    """Of a power law known to ± 20 %: (b / 20) ** 0.7 is 1 / 1.2 and 1.2 there."""
    found = crossover({size: within((size / 20) ** 0.7, 0.2) for size in SIZES})
    (crossing,) = found.crossings
    assert crossing.batch_size.low == pytest.approx(20 * 1.2 ** (-1 / 0.7))
    assert crossing.batch_size.high == pytest.approx(20 * 1.2 ** (1 / 0.7))


def test_an_interval_may_reach_beyond_what_was_measured() -> None:
    """At the smallest size it may be faster already, at the largest still slower."""
    found = crossover({16: within(0.9, 0.5), 64: within(1.1, 0.5)})
    (crossing,) = found.crossings
    assert (crossing.batch_size.low, crossing.batch_size.high) == (None, None)
    assert found.faster is None


def test_a_price_moves_the_crossover() -> None:
    """Of a device that costs four times as much the speed-up has to be four."""
    (crossing,) = of_values(*((size / 20) for size in SIZES), worth=4.0).crossings
    assert crossing.batch_size.value == pytest.approx(80)


def test_missing_sizes_are_bridged() -> None:
    """A line through 1 and 256 alone crosses where that line does."""
    found = crossover({1: exact(0.5), 256: exact(2.0)})
    assert found.batch_sizes == (1, 256)
    assert found.crossings[0].batch_size.value == pytest.approx(16)


def test_unknown_bounds_may_be_anything() -> None:
    """The crossing is known and its interval is not, nor which is surely faster; what is known bounds it."""
    found = crossover({1: Estimate(0.5), 256: Estimate(2.0)})
    (crossing,) = found.crossings
    assert crossing.batch_size.value == pytest.approx(16)
    assert (crossing.batch_size.low, crossing.batch_size.high) == (None, None)
    assert found.faster is None
    known = {1: Estimate(0.5, 0.4, 0.6), 16: Estimate(1.5), 256: Estimate(4.0, 3.0, 5.0)}
    (crossing,) = crossover(known).crossings
    assert (crossing.batch_size.low, crossing.batch_size.high) == pytest.approx((1, 256))


def test_the_interval_holds_the_truth_in_95_of_100_noisy_curves() -> None:
    """Each speed-up off by 3 % at random, with its own 95 % interval, of a power law that crosses at 20."""
    random = np.random.default_rng(7)
    hits, trials, half = 0, 2000, 1.96 * 0.03
    for _ in range(trials):
        seen = [(size / 20) ** 0.7 * exp(0.03 * random.standard_normal()) for size in SIZES]
        curve = [Estimate(value, value * exp(-half), value * exp(half)) for value in seen]
        (crossing,) = crossover(dict(zip(SIZES, curve, strict=True))).crossings
        assert crossing.batch_size.low is not None
        assert crossing.batch_size.high is not None
        hits += log(crossing.batch_size.low) <= log(20) <= log(crossing.batch_size.high)
    assert hits / trials >= 0.94
