"""Estimates and their intervals, against scipy.stats and against simulated machines whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from nncore_bench.estimate.estimates import (
    OF_RATIOS,
    Estimate,
    Lows,
    Spread,
    block_time,
    half_width,
    launch_spread,
    median_time,
    midmean,
    moderated,
)


def test_the_undisturbed_time_is_the_midmean_of_the_blocks_smallest_laps() -> None:
    """Eight blocks, whose smallest laps are 100 to 106 and once 900: the middle four count."""
    smallest = [100.0, 101.0, 102.0, 103.0, 104.0, 105.0, 106.0, 900.0]
    blocks = [np.array([low + 30, low]) for low in smallest]
    estimate = block_time([blocks[::2], blocks[1::2]])
    assert estimate.value == (102 + 103 + 104 + 105) / 4


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 20])
def test_the_midmean_is_the_trimmed_mean_of_scipy(count: int) -> None:
    """A quarter is cut from each end, rounded down."""
    values = np.random.default_rng(count).exponential(size=count)
    assert midmean(values) == pytest.approx(stats.trim_mean(values, 0.25))


def test_what_the_user_lived_through_is_the_mean_of_the_launches_medians() -> None:
    """Medians 115 of all laps of the first launch and 120 of the second."""
    launches = [[np.array([100.0, 110.0]), np.array([120.0, 130.0])], [np.array([120.0, 10.0, 500.0])]]
    assert median_time(launches).value == pytest.approx((115.0 + 120.0) / 2)


def test_launches_of_one_round_each_give_students_interval_over_launches() -> None:
    """With a single cycle the processes are all that differs."""
    lows = [100.0, 103.0, 101.0, 108.0]
    estimate = block_time([[np.array([low, low + 50])] for low in lows])
    half = stats.t.ppf(0.975, 3) * stats.sem(lows)
    assert estimate.value == 102.0
    assert (estimate.low, estimate.high) == pytest.approx((102.0 - half, 102.0 + half))


def test_the_interval_of_one_launch_is_students_over_its_rounds() -> None:
    """Whose smallest laps are 100, 110 and 104."""
    estimate = block_time([[np.array([103.0, 100.0]), np.array([110.0]), np.array([104.0, 190.0])]])
    half = stats.t.ppf(0.975, 2) * stats.sem([100.0, 110.0, 104.0])
    assert estimate.value == pytest.approx((100.0 + 110.0 + 104.0) / 3)
    assert estimate.high == pytest.approx(estimate.value + half)


def test_an_interval_too_wide_for_a_number_has_no_upper_bound() -> None:
    """Two launches of which one was a thousand times as slow leave a ratio of which nothing is known."""
    wide = Estimate.around_ratio(1.0, 100.0)
    ratio = wide.over(wide)
    assert (ratio.value, ratio.low, ratio.high) == (1.0, 0.0, None)
    assert ratio.exceeds(2.0) is None


def test_a_single_block_has_no_interval() -> None:
    """Its spread is unknown, which is not zero."""
    estimate = block_time([[np.array([3.0, 4.0])]])
    assert (estimate.value, estimate.low, estimate.high) == (3.0, None, None)


def test_blocks_that_never_differ_have_an_interval_of_no_width() -> None:
    """A spread of zero is known."""
    estimate = block_time([[np.array([5.0]), np.array([5.0])], [np.array([5.0]), np.array([5.0])]])
    assert (estimate.low, estimate.value, estimate.high) == (5.0, 5.0, 5.0)


def test_a_launch_that_ran_a_round_more_costs_no_round_of_the_others() -> None:
    """The value uses every block, the interval the cycles that are whole."""
    whole = [[np.array([100.0]), np.array([104.0])], [np.array([101.0]), np.array([107.0])]]
    longer = [[*whole[0], np.array([90.0])], whole[1]]
    assert block_time(longer).value == pytest.approx((100.0 + 101.0 + 104.0) / 3)
    width = np.ptp([block_time(whole).low or 0.0, block_time(whole).high or 0.0])
    assert np.ptp([block_time(longer).low or 0.0, block_time(longer).high or 0.0]) == pytest.approx(width)


@pytest.mark.parametrize(
    ("launch_sd", "cycle_sd", "rest_sd"),
    [(1.0, 2.5, 1.0), (2.0, 0.0, 1.0), (0.0, 3.0, 0.5), (1.5, 1.5, 0.0), (1.0, 1.0, 1.0)],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(
    launch_sd: float, cycle_sd: float, rest_sd: float
) -> None:
    """Simulated machines: processes differ, the machine's speed wanders, and each block has its own noise.

    Of 2,000 runs the interval of at least 93 % holds the true mean; an interval over launches alone would
    hold it in half of them where the machine wanders.
    """
    random = np.random.default_rng(20)
    launches, cycles, runs = 4, 6, 2000
    held = 0
    for _ in range(runs):
        grid = (
            100
            + random.normal(0, launch_sd, (launches, 1))
            + random.normal(0, cycle_sd, (1, cycles))
            + random.normal(0, rest_sd, (launches, cycles))
        )
        half = half_width(grid)
        assert half is not None
        held += bool(abs(grid.mean() - 100) <= half)
    assert held / runs >= 0.93


def test_the_smallest_laps_are_summed_over_their_parts_for_the_run_and_for_each_launch() -> None:
    """Parts of 10 and 20 in one launch, whose disturbances never hit both, of 12 and 15 in the other."""
    first = [np.array([[10.0, 90.0], [80.0, 20.0]]), np.array([[11.0, 21.0]])]
    found = Lows.of({0: first, 4: [np.array([[12.0, 15.0]])]})
    assert found == Lows(10.0 + 15.0, {0: 30.0, 4: 27.0})


def test_blocks_of_means_are_averaged_over_their_launch() -> None:
    """And by their midmean over the run."""
    found = Lows.averaged({0: [np.array([[100.0]]), np.array([[104.0]])], 1: [np.array([[101.0]])]})
    assert found == Lows(pytest.approx((100 + 101 + 104) / 3), {0: 102.0, 1: 101.0})


def test_a_run_varies_by_what_its_launches_do() -> None:
    """By their standard deviation or a share of it; as a mean of them, by its standard error."""
    logs = np.log([100.0, 103.0, 101.0, 108.0])
    assert launch_spread(logs) == Spread(pytest.approx(logs.std(ddof=1)), 3.0)
    assert launch_spread(logs, OF_RATIOS) == Spread(pytest.approx(OF_RATIOS * logs.std(ddof=1)), 3.0)
    assert launch_spread(logs, averaged=True) == Spread(pytest.approx(stats.sem(logs)), 3.0)
    assert launch_spread(logs[:1]) is None


def test_deviations_measured_together_lend_each_other_freedom() -> None:
    """Of three with 3 degrees of freedom each the two others lend 6; an unknown one has no part in it."""
    found = moderated([Spread(1.0, 3.0), None, Spread(2.0, 3.0), Spread(3.0, 3.0)])
    common = (1 + 4 + 9) / 3
    squares = [(3 * own**2 + 6 * common) / 9 for own in (1, 2, 3)]
    first, second, third = (Spread(pytest.approx(np.sqrt(square)), 9.0) for square in squares)
    assert found == [first, None, second, third]
    assert moderated([Spread(1.0, 3.0)]) == [Spread(1.0, 3.0)]


def test_intervals_of_lent_freedom_hold_together_as_often_as_they_say() -> None:
    """Twelve means of four launches, by Bonferroni's bound: in 95 % of 1,000 runs or more all hold zero.

    They are half as wide as each launch's own would be.
    """
    random, held = np.random.default_rng(3), 0
    for logs in random.normal(0, 0.03, (1000, 12, 4)):
        spreads = [one.scaled(0.5) for one in moderated([launch_spread(of) for of in logs]) if one]
        halves = [spread.half_width_of(1 - 0.05 / 12) for spread in spreads]
        held += bool((abs(logs.mean(axis=1)) <= halves).all())
    assert held >= 950
    assert spreads[0].freedom == 9
    assert stats.t.ppf(1 - 0.05 / 24, 9) < stats.t.ppf(1 - 0.05 / 24, 3) / 2


def test_the_interval_of_a_smallest_time_holds_another_runs_where_runs_differ_as_launches_do() -> None:
    """Of 2,000 pairs of runs of six launches 93 to 97 % agree; where only launches differ, more do."""
    random = np.random.default_rng(11)

    def agree(run_sd: float) -> float:
        runs = random.normal(0, 0.03, (2, 2000, 6)) + random.normal(0, run_sd, (2, 2000, 1))
        values = runs.min(axis=2)
        halves = np.array(
            [[(launch_spread(run) or Spread(0, 1)).half_width for run in side] for side in runs]
        )
        return float(np.mean(abs(values[0] - values[1]) <= np.hypot(*halves)))

    assert 0.93 <= agree(0.03) <= 0.97
    assert agree(0.0) > 0.97


def test_two_spreads_join_as_in_welchs_test_of_scipy() -> None:
    """Two samples of unlike size and scatter, whose t statistic and freedom scipy knows."""
    random = np.random.default_rng(3)
    a, b = random.normal(10, 1, 5), random.normal(11, 3, 9)
    joined = Spread(stats.sem(a), 4).joined(Spread(stats.sem(b), 8))
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert joined.half_width == pytest.approx((interval.high - interval.low) / 2)
    assert Spread(0.0, 3).joined(Spread(0.0, 3)).half_width == 0.0


def test_the_ratio_of_two_equal_times_has_their_width_times_the_root_of_two() -> None:
    """Even on the logarithmic scale, so one bound is the inverse of the other."""
    time = Estimate(3.0, 2.7, 3.3)
    half = np.sqrt(2) * 0.1
    ratio = time.over(time)
    assert (ratio.low, ratio.value, ratio.high) == pytest.approx((np.exp(-half), 1.0, np.exp(half)))


def test_the_interval_of_a_ratio_joins_both_intervals() -> None:
    """Relative half-widths of 3 and 4 % make one of 5 %; of exact times there is none to join."""
    ratio = Estimate(2e-3, 1.94e-3, 2.06e-3).over(Estimate(1e-3, 0.96e-3, 1.04e-3))
    assert ratio.value == pytest.approx(2)
    assert ratio.high == pytest.approx(2 * np.exp(0.05))
    assert Estimate(3.0, 3.0, 3.0).over(Estimate(2.0, 2.0, 2.0)) == Estimate(1.5, 1.5, 1.5)


def test_a_ratio_to_what_has_no_interval_has_none() -> None:
    """On whichever side it stands; its value is known all the same."""
    known, unknown = Estimate(3.0, 2.7, 3.3), Estimate(2.0)
    assert known.over(unknown) == Estimate(1.5)
    assert unknown.over(known) == Estimate(2 / 3)


def test_the_inverse_of_an_inverse_is_the_estimate() -> None:
    """Three times as long is a third as fast; an end that is open, or at zero, opens the other."""
    estimate = Estimate(4.0, 2.0, 8.0)
    assert estimate.inverse() == Estimate(0.25, 0.125, 0.5)
    assert estimate.inverse().inverse() == estimate
    assert Estimate(4.0, 0.0, None).inverse() == Estimate(0.25)


def test_a_ratio_the_other_way_round_is_its_inverse() -> None:
    """The formula prefers neither side."""
    a, b = Estimate(3.0, 2.5, 3.6), Estimate(2.0, 1.9, 2.1)
    there, back = a.over(b), b.over(a).inverse()
    assert (there.value, there.low, there.high) == pytest.approx((back.value, back.low, back.high))


def test_half_widths_of_a_sum_add_as_squares() -> None:
    """3 and 4 make 5; a sum with a part whose interval is unknown has none."""
    assert Estimate.around(10.0, 3.0).plus(Estimate.around(20.0, 4.0)) == Estimate(30.0, 25.0, 35.0)
    assert Estimate(10.0).plus(Estimate.around(20.0, 4.0)) == Estimate(30.0)
    assert Estimate.around(30.0, 5.0).scaled(2.0) == Estimate(60.0, 50.0, 70.0)


@pytest.mark.parametrize(
    ("bounds", "answer"),
    [
        ((1.1, 1.3), True),
        ((0.7, 0.9), False),
        ((0.9, 1.1), None),
        ((None, None), None),
        ((1.0, 1.2), None),
        ((1.1, None), True),
    ],
)
def test_an_estimate_exceeds_what_its_whole_interval_does(
    bounds: tuple[float | None, float | None], *, answer: bool | None
) -> None:
    """It is above 1, below it, or that is not known; an interval that ends at 1 holds it."""
    assert Estimate(1.2, *bounds).exceeds(1) is answer


@pytest.mark.parametrize(
    ("errors", "least", "most"), [((0.01, 0.02), 0.945, 0.955), ((0.1, 0.1), 0.945, 0.965)]
)
def test_the_interval_of_a_ratio_holds_the_truth_as_often_as_it_says(
    errors: tuple[float, float], least: float, most: float
) -> None:
    """Of 20,000 pairs of times off at random by 1 and 2 %, and by 10 % each."""
    random, trials = np.random.default_rng(11), 20_000
    first, second = (
        [Estimate.around(value, 1.96 * error) for value in random.normal(1.0, error, trials).tolist()]
        for error in errors
    )
    held = sum(a.over(b).exceeds(1) is None for a, b in zip(first, second, strict=True))
    assert least <= held / trials <= most
