"""Estimates and their intervals, against scipy.stats and against simulated machines whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from nncore_bench.verdict.estimates import (
    BETWEEN_LAUNCHES,
    WITHIN_ONE_PROCESS,
    Spread,
    between_launches,
    half_width,
    lived_through,
    midmean,
    undisturbed,
)


def test_the_undisturbed_time_is_the_midmean_of_the_blocks_smallest_laps() -> None:
    """Eight blocks, whose smallest laps are 100 to 106 and once 900: the middle four count."""
    smallest = [100.0, 101.0, 102.0, 103.0, 104.0, 105.0, 106.0, 900.0]
    blocks = [np.array([low + 30, low]) for low in smallest]
    estimate = undisturbed([blocks[::2], blocks[1::2]])
    assert estimate.value == (102 + 103 + 104 + 105) / 4
    assert estimate.basis == BETWEEN_LAUNCHES


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 20])
def test_the_midmean_is_the_trimmed_mean_of_scipy(count: int) -> None:
    """A quarter is cut from each end, rounded down."""
    values = np.random.default_rng(count).exponential(size=count)
    assert midmean(values) == pytest.approx(stats.trim_mean(values, 0.25))


def test_what_the_user_lived_through_is_the_mean_of_the_launches_medians() -> None:
    """Medians 115 of all laps of the first launch and 120 of the second."""
    launches = [[np.array([100.0, 110.0]), np.array([120.0, 130.0])], [np.array([120.0, 10.0, 500.0])]]
    assert lived_through(launches).value == pytest.approx((115.0 + 120.0) / 2)


def test_launches_of_one_round_each_give_students_interval_over_launches() -> None:
    """With a single cycle the processes are all that differs."""
    lows = [100.0, 103.0, 101.0, 108.0]
    estimate = undisturbed([[np.array([low, low + 50])] for low in lows])
    half = stats.t.ppf(0.975, 3) * stats.sem(lows)
    assert estimate.value == 102.0
    assert (estimate.low, estimate.high) == pytest.approx((102.0 - half, 102.0 + half))


def test_one_launch_is_marked_as_one_process() -> None:
    """Its interval is Student's over its rounds."""
    estimate = undisturbed([[np.array([103.0, 100.0]), np.array([110.0]), np.array([104.0, 190.0])]])
    half = stats.t.ppf(0.975, 2) * stats.sem([100.0, 110.0, 104.0])
    assert estimate.basis == WITHIN_ONE_PROCESS
    assert estimate.value == pytest.approx((100.0 + 110.0 + 104.0) / 3)
    assert estimate.high == pytest.approx(estimate.value + half)


def test_a_single_block_has_no_interval() -> None:
    """Its spread is unknown, which is not zero."""
    estimate = undisturbed([[np.array([3.0, 4.0])]])
    assert (estimate.value, estimate.low, estimate.high) == (3.0, None, None)


def test_blocks_that_never_differ_have_an_interval_of_no_width() -> None:
    """A spread of zero is known."""
    estimate = undisturbed([[np.array([5.0]), np.array([5.0])], [np.array([5.0]), np.array([5.0])]])
    assert (estimate.low, estimate.value, estimate.high) == (5.0, 5.0, 5.0)


def test_a_launch_that_ran_a_round_more_costs_no_round_of_the_others() -> None:
    """The value uses every block, the interval the cycles that are whole."""
    whole = [[np.array([100.0]), np.array([104.0])], [np.array([101.0]), np.array([107.0])]]
    longer = [[*whole[0], np.array([90.0])], whole[1]]
    assert undisturbed(longer).value == pytest.approx((100.0 + 101.0 + 104.0) / 3)
    width = np.ptp([undisturbed(whole).low or 0.0, undisturbed(whole).high or 0.0])
    assert np.ptp([undisturbed(longer).low or 0.0, undisturbed(longer).high or 0.0]) == pytest.approx(width)


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


def test_what_processes_differ_by_is_found_beneath_the_noise_of_blocks() -> None:
    """Launches differ by 3 % (standard deviation), their blocks by 2 %, and the machine wanders by 5 %."""
    random = np.random.default_rng(7)
    found = []
    for _ in range(200):
        launch = random.normal(0, 3, (4, 1)) + random.normal(0, 5, (1, 8))
        grid = 100 + launch + random.normal(0, 2, (4, 8))
        found.append(between_launches([[np.array([value]) for value in row] for row in grid]) or 0.0)
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(0.03, rel=0.1)


def test_processes_that_differ_by_chance_alone_do_not_differ() -> None:
    """And one process, or one round, cannot tell."""
    steady = [[np.array([100.0]), np.array([102.0])], [np.array([100.0]), np.array([102.0])]]
    assert between_launches(steady) == 0.0
    assert between_launches(steady[:1]) is None
    assert between_launches([launch[:1] for launch in steady]) is None


def test_two_spreads_join_as_in_welchs_test_of_scipy() -> None:
    """Two samples of unlike size and scatter, whose t statistic and freedom scipy knows."""
    random = np.random.default_rng(3)
    a, b = random.normal(10, 1, 5), random.normal(11, 3, 9)
    joined = Spread(stats.sem(a), 4).joined(Spread(stats.sem(b), 8))
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert joined.half_width == pytest.approx((interval.high - interval.low) / 2)
    assert Spread(0.0, 3).joined(Spread(0.0, 3)).half_width == 0.0
