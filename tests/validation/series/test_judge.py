"""What is said of repeated runs, against closed forms, simulated instruments and a made-up series."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from columns import Estimate, matrices, plain_estimates
from judge import JudgeError, aim_sentence, judge, variation, variation_table
from loudness import Loudness, Probe, Stretches
from made_up_runs import CPU_CASE, blocks_of, record_of, run_of
from scipy import stats
from series import PLAIN_FILE, RECORD_FILE, Settings, go_on
from slices import LOUDNESS_FILE, settle
from spread import Coverage, Floats, binomial_band, coefficient_of_variation, coverage

from nncore_bench.runs import RunFolder

RUNS, CASES, SD = 10, 2000, 2.0


@pytest.fixture
def measured() -> Floats:
    """Return what a perfect instrument says of many cases in ten runs."""
    return np.random.default_rng(3).normal(100.0, SD, (RUNS, CASES))


def halves(width: float) -> Floats:
    """Return the half-widths of intervals that are so many times as wide as they should be."""
    return np.full((RUNS, CASES), 1.96 * SD * width)


def test_variation_is_the_standard_deviation_over_the_mean() -> None:
    """Of 1, 2, 3 it is 1/2, of a constant zero, and units do not matter."""
    values = np.array([[1.0, 7.0, 1e-6], [2.0, 7.0, 2e-6], [3.0, 7.0, 3e-6]])
    assert coefficient_of_variation(values) == pytest.approx([0.5, 0.0, 0.5])
    assert coefficient_of_variation(values) == pytest.approx(stats.variation(values, ddof=1))


def test_variation_leaves_out_what_is_unknown() -> None:
    """A run without the case does not count; a single run has no spread, which is not zero."""
    values = np.array([[1.0, 5.0], [np.nan, np.nan], [3.0, np.nan]])
    assert coefficient_of_variation(values) == pytest.approx([2**0.5 / 2, np.nan], nan_ok=True)


def test_right_intervals_hold_as_often_as_they_say(measured: Floats) -> None:
    """95 of 100, over all pairs and over neighbours."""
    assert 0.93 < coverage(measured, halves(1.0)).share < 0.97
    assert 0.93 < coverage(measured, halves(1.0), neighbours=True).share < 0.97


def test_intervals_of_half_the_width_are_found_out(measured: Floats) -> None:
    """A normal variable is within 0.98 standard deviations in 67 of 100."""
    expected = 2 * stats.norm.cdf(0.98) - 1
    assert coverage(measured, halves(0.5)).share == pytest.approx(expected, abs=0.02)


def test_students_intervals_of_three_degrees_hold_in_98_of_100(measured: Floats) -> None:
    """The difference has more degrees of freedom than its parts, which their quantiles do not know."""
    spread = SD * np.sqrt(np.random.default_rng(4).chisquare(3, measured.shape) / 3)
    assert coverage(measured, stats.t.ppf(0.975, 3) * spread).share == pytest.approx(0.98, abs=0.01)


def test_drift_between_runs_costs_coverage_of_all_pairs_more_than_of_neighbours(measured: Floats) -> None:
    """The interval of one run knows nothing of the next hour."""
    drifting = measured + np.arange(RUNS)[:, None]
    every = coverage(drifting, halves(1.0)).share
    assert every < coverage(drifting, halves(1.0), neighbours=True).share < 0.95


def test_pairs_are_counted_once_and_only_where_both_are_known() -> None:
    """Five runs of three cases: 30 pairs and 12 of neighbours; without one value, 26 and 10."""
    values, half = np.ones((5, 3)), np.zeros((5, 3))
    assert coverage(values, half) == Coverage(30, 30)
    assert coverage(values, half, neighbours=True) == Coverage(12, 12)
    half[2, 0] = np.nan
    assert coverage(values, half) == Coverage(26, 26)
    assert coverage(values, half, neighbours=True) == Coverage(10, 10)


def test_the_difference_is_held_against_the_root_of_the_sum_of_squares() -> None:
    """3 and 4 make 5."""
    half = np.array([[3.0, 3.0], [4.0, 4.0]])
    assert coverage(np.array([[0.0, 0.0], [5.0, 5.01]]), half) == Coverage(1, 2)


def test_intervals_join_as_welchs_where_their_freedom_is_known() -> None:
    """Half-widths 3.18 and 2.45 times a standard error of 1, at 3 and 6 degrees of freedom."""
    freedoms = np.array([[3.0], [6.0]])
    halves = stats.t.ppf(0.975, freedoms)
    expected = stats.t.ppf(0.975, 4 / (1 / 3 + 1 / 6)) * np.sqrt(2)
    for off, held in ((-0.001, 1), (0.001, 0)):
        values = np.array([[0.0], [expected + off]])
        assert coverage(values, halves, freedoms) == Coverage(held, 1)


def test_the_band_is_that_of_a_binomial_share() -> None:
    """Of 540 independent pairs, 93.2 to 96.8 %."""
    assert binomial_band(540) == pytest.approx((0.932, 0.968), abs=0.0005)


def test_an_interval_that_stops_at_zero_keeps_its_half_width() -> None:
    """1 with an interval of 0 to 3 is 1 ± 2."""
    values, half, freedom = matrices([{CPU_CASE: Estimate(1.0, 0.0, 3.0)}, {}], [CPU_CASE])
    assert np.isnan(freedom).all()
    assert values == pytest.approx(np.array([[1.0], [np.nan]]), nan_ok=True)
    assert half == pytest.approx(np.array([[2.0], [np.nan]]), nan_ok=True)


def test_the_aim_is_of_the_median_case_and_of_the_worst() -> None:
    """A worst case of 5 % is too much when idle, and not beside a burner."""
    runs = [{CPU_CASE: Estimate(value)} for value in (1.0, 1.02)]
    found = variation({"ours": runs}, [CPU_CASE])
    assert variation_table(found).count("1.40") == 3  # the case, the median and the worst
    assert "it is 1.40 % and 1.40 %: not reached." in aim_sentence("none", found["ours"])
    assert aim_sentence("bursty", found["ours"]).endswith(": reached.")


def made_up_session(_number: int, command: Sequence[str], log: Path) -> int:
    """Leave what a session leaves: runs that take turns in being 2 % slower, and plain means of 1 and 2 s."""
    slow = int(log.parent.parent.name) % 2
    if "bench/" in command:
        folder = RunFolder(log.parent / "id")
        (folder.path / "rounds").mkdir(parents=True)
        folder.save(run_of([record_of(CPU_CASE)]))
        folder.save_round(0, blocks_of(launches=(1.0, 1.01), rounds=1, scale=1 + 0.02 * slow))
    else:
        figures = {"mean": 1.0 + slow, "median": 1.0, "min": 1.0}
        test = {"params": {"batch_size": 32, "hidden": 128}, "stats": figures}
        (log.parent / PLAIN_FILE).write_text(json.dumps({"benchmarks": [test]}))
    return 0


def test_a_series_is_judged_from_its_folder(tmp_path: Path) -> None:
    """Four runs, two of them 2 % slower: the same case is found in both, each with its variation."""
    settle(tmp_path, Settings())
    go_on(tmp_path, Settings(), 4, made_up_session)
    text = "\n".join(judge(tmp_path))
    assert "load none, 4 runs of ours and 4 of pytest-benchmark" in text
    line = next(line for line in text.splitlines() if line.startswith("| 32 "))
    ours = 100 * stats.variation([1.0, 1.0, 1.02, 1.02], ddof=1)
    plain = 100 * stats.variation([1.0, 1.0, 2.0, 2.0], ddof=1)
    assert [cell.strip() for cell in line.split("|")[3:-1]] == [
        "n/a",  # these made-up runs have no reference kernels
        f"{ours:.2f}",
        f"{ours:.2f}",
        f"{plain:.2f}",
        "0.00",
        "0.00",
    ]
    lines = [re.sub(r" +", " ", line) for line in text.splitlines()]
    assert any(line.startswith("| ours time_s | all | 6 | 6 | 100.0 | 95 ") for line in lines)
    assert any(line.startswith("| ours time_s | neighbours | 3 ") for line in lines)
    assert (tmp_path / "001/ours" / RECORD_FILE).exists()
    assert text.endswith("How loud the machine was: not recorded")


def test_a_series_says_how_loud_the_machine_was(tmp_path: Path) -> None:
    """Two slices of it, one of them slow for half of the time."""
    settle(tmp_path, Settings())
    go_on(tmp_path, Settings(), 2, made_up_session)
    probes = [
        Probe("", (Loudness(0, 1e-3, share, 1.4, Stretches(2e-3, 0.5), Stretches(3e-3, 0.1)),))
        for share in (0.1, 0.5)
    ]
    (tmp_path / LOUDNESS_FILE).write_bytes(msgspec.json.encode(probes))
    line = next(one for one in "\n".join(judge(tmp_path)).splitlines() if one.startswith("| 0 "))
    assert [cell.strip() for cell in line.split("|")[1:4]] == ["0", "2", "30 (10 to 50)"]


def test_plain_benchmarks_are_read_as_cases_of_the_suite(tmp_path: Path) -> None:
    """By batch size and width, in seconds."""
    folder = tmp_path / "002/plain"
    folder.mkdir(parents=True)
    made_up_session(2, ["plain"], folder / "log")
    assert plain_estimates(folder / PLAIN_FILE, "mean") == {CPU_CASE: Estimate(1.0)}


def test_a_series_of_one_run_is_refused(tmp_path: Path) -> None:
    """One run has no spread."""
    settle(tmp_path, Settings())
    go_on(tmp_path, Settings(), 1, made_up_session)
    with pytest.raises(JudgeError, match="no two finished runs"):
        list(judge(tmp_path))
