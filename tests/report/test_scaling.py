"""The line through step times finds what was put in, and its intervals hold it as often as they say."""

from math import isclose, isnan

import numpy as np
import pytest

from nncore_bench.report.scaling import Scaling, scaling_of

SIZES = [1, 8, 32, 128, 512, 1024]
FIXED, PER_SAMPLE = 200e-6, 3e-6


def line(batch: float) -> float:
    return FIXED + PER_SAMPLE * batch


def fitted(sizes: list[int], times: list[float]) -> Scaling:
    fit = scaling_of(sizes, times)
    assert fit is not None
    return fit


def test_an_exact_line_is_found() -> None:
    """Nine tenths of the plateau are reached where the samples take nine times as long as the fixed cost."""
    fit = fitted(SIZES, [line(batch) for batch in SIZES])
    assert fit.fixed.value == pytest.approx(FIXED, rel=1e-9)
    assert fit.per_sample.value == pytest.approx(PER_SAMPLE, rel=1e-9)
    assert fit.plateau_batch is not None
    assert fit.plateau_batch.value == pytest.approx(9 * FIXED / PER_SAMPLE, rel=1e-9)
    assert fit.r_squared == pytest.approx(1)
    assert fit.worst_miss < 1e-9


def test_the_plateau_batch_has_nine_tenths_of_the_samples_per_second_of_an_endless_batch() -> None:
    """Checked through the definition and not through the formula."""
    fit = fitted(SIZES, [line(batch) for batch in SIZES])
    assert fit.plateau_batch is not None
    batch = fit.plateau_batch.value
    assert batch / line(batch) == pytest.approx(0.9 * 1e12 / line(1e12))


def test_intervals_hold_the_truth_in_95_of_100_noisy_series() -> None:
    """Noise of 2 % of each time; of 2000 series 95 ± 1.5 % must hold each of the three figures."""
    random = np.random.default_rng(1)
    hits = np.zeros(3)
    for _ in range(2000):
        fit = fitted(SIZES, [line(batch) * (1 + 0.02 * random.standard_normal()) for batch in SIZES])
        truths = (FIXED, PER_SAMPLE, 9 * FIXED / PER_SAMPLE)
        for number, (found, truth) in enumerate(
            zip((fit.fixed, fit.per_sample, fit.plateau_batch), truths, strict=True)
        ):
            assert found is not None
            assert found.low is not None
            assert found.high is not None
            hits[number] += found.low <= truth <= found.high
    assert hits / 2000 == pytest.approx(0.95, abs=0.015)


def test_a_percent_counts_as_much_at_a_small_batch_as_at_a_large_one() -> None:
    """Ten percent too long at one end or at the other: the line is equally far off at most."""
    bent = [line(batch) * (1.1 if batch in {1, 8} else 1.0) for batch in SIZES]
    assert fitted(SIZES, bent).worst_miss < 0.1


def test_a_step_that_takes_no_longer_with_more_samples_has_no_plateau_in_sight() -> None:
    """All fixed cost: the interval has no upper end, or there is no plateau at all."""
    random = np.random.default_rng(2)
    for _ in range(20):
        fit = fitted(SIZES, [FIXED * (1 + 0.02 * random.standard_normal()) for _ in SIZES])
        assert fit.plateau_batch is None or fit.plateau_batch.high is None or fit.plateau_batch.high > 1024
    constant = fitted(SIZES, [FIXED] * len(SIZES))
    assert isnan(constant.r_squared)
    assert isclose(constant.fixed.value, FIXED)


def test_a_flat_line_has_no_plateau_and_a_rising_one_is_not_flat() -> None:
    """Of 400 series of each with 2 % of noise: flat in all but some 2.5 % whose slope seems above zero."""
    random = np.random.default_rng(3)
    sizes, trials = [1, 32, 128, 1024], 400
    noise = 1 + 0.02 * random.standard_normal((trials, len(sizes)))
    flat = [fitted(sizes, list(FIXED * one)) for one in noise]
    assert sum(fit.flat for fit in flat) >= 0.95 * trials
    assert all(fit.plateau_batch is None for fit in flat if fit.flat)
    steep = [
        fitted(sizes, [line(batch) * off for batch, off in zip(sizes, one, strict=True)]) for one in noise
    ]
    assert not any(fit.flat for fit in steep)


def test_no_plateau_is_claimed_beyond_ten_times_the_largest_batch_measured() -> None:
    """Of exact lines to batch 1024 with the plateau planted just within 10,240, and just beyond."""
    for plateau, reached in ((10_000, True), (10_500, False), (1_000_000, False)):
        per_sample = 9 * FIXED / plateau
        fit = fitted(SIZES, [FIXED + per_sample * batch for batch in SIZES])
        assert fit.per_sample.value == pytest.approx(per_sample, rel=1e-6)
        assert fit.largest_batch == 1024
        assert not fit.flat
        assert (fit.plateau_batch is not None) == reached
        if fit.plateau_batch is not None:
            assert fit.plateau_batch.value == pytest.approx(plateau, rel=1e-6)


def test_the_upper_end_of_a_plateau_is_unknown_beyond_the_same_reach() -> None:
    """Planted at 8,000 with noise of 2 %, so that intervals end on both sides of 10,240."""
    random = np.random.default_rng(4)
    per_sample, known = 9 * FIXED / 8_000, []
    for _ in range(200):
        fit = fitted(SIZES, [(FIXED + per_sample * b) * (1 + 0.02 * random.standard_normal()) for b in SIZES])
        if fit.plateau_batch is not None:
            assert fit.plateau_batch.value <= 10_240
            known.append(fit.plateau_batch.high is not None)
            assert fit.plateau_batch.high is None or fit.plateau_batch.high <= 10_240
    assert 0 < sum(known) < len(known)


def test_a_bent_curve_that_rises_is_not_called_flat() -> None:
    """Its slope may be anything by the interval, and its times are not alike."""
    fit = fitted([1, 32, 128], [1e-4, 1.1e-4, 4e-4])
    assert fit.per_sample.low is not None
    assert fit.per_sample.low < 0
    assert not fit.flat
    assert fit.plateau_batch is None


def test_a_step_without_fixed_cost_has_no_plateau_batch() -> None:
    """It is as fast at batch 1 as ever."""
    assert fitted(SIZES, [PER_SAMPLE * batch * (1 + batch / 1024) for batch in SIZES]).plateau_batch is None


@pytest.mark.parametrize("sizes", [[], [32], [32, 128], [32, 32, 128]])
def test_fewer_than_three_batch_sizes_are_no_line(sizes: list[int]) -> None:
    """Two points always lie on one."""
    assert scaling_of(sizes, [line(batch) for batch in sizes]) is None
