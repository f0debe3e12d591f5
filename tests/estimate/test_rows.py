"""Rows are what the laps say: closed forms for times, shares, intervals, overheads and devices."""

from dataclasses import replace
from math import exp

import numpy as np
import pytest
from made_up_runs import (
    CPU_CASE,
    CUDA_CASE,
    ITERATIONS,
    OTHER_LAPS,
    PHASES_NS,
    STEP_LAPS,
    STEP_NS,
    block_of,
    blocks_of,
    cuda_blocks_of,
    record_of,
    run_of,
)
from scipy import stats

from nncore_bench.cases import STEP_PHASES, UNATTRIBUTED, Case
from nncore_bench.estimate.estimates import BETWEEN_LAUNCHES, WITHIN_ONE_PROCESS
from nncore_bench.estimate.results import rows_of
from nncore_bench.estimate.rows import Row
from nncore_bench.runs import Block

NANO = 1e-9


def rows_by_phase(case: Case, blocks: list[Block]) -> dict[str, Row]:
    """Return the rows of one case."""
    return {row.phase: row for row in rows_of(run_of([record_of(case)]), blocks)}


@pytest.mark.parametrize("phase", [*STEP_PHASES, "data", "inference"])
def test_the_time_of_a_phase_is_its_lap(phase: str) -> None:
    """Laps that are all alike leave no choice of estimator."""
    row = rows_by_phase(CPU_CASE, blocks_of(launches=[1.0, 1.0]))[phase]
    expected = (STEP_LAPS | OTHER_LAPS)[phase] * NANO
    assert (row.time_s, row.median_s, row.mean_s) == pytest.approx((expected,) * 3)
    assert row.disturbance == pytest.approx(1)


def test_the_phases_of_a_step_add_up_to_it_however_they_are_disturbed() -> None:
    """No iteration is free of disturbances, each phase is once; an own step is timed without its seams."""
    blocks = blocks_of(launches=[1.0, 1.0])
    random = np.random.default_rng(0)
    for block in blocks:
        block.host[1:] += random.integers(1, 9, block.host[1:].shape) * 10_000
    for column in range(6):
        next(block for block in blocks if block.kind == "laps").host[1 + column % 4, column] -= 10_000
    rows = rows_by_phase(CPU_CASE, blocks)
    smallest = np.min([block.host[1:].min(axis=0) for block in blocks if block.kind == "laps"], axis=0)
    assert rows["step"].time_s == pytest.approx(smallest.sum() * NANO)
    assert sum(rows[phase].time_s or 0 for phase in STEP_PHASES) == pytest.approx(smallest[:-1].sum() * NANO)
    assert rows["backward"].share == pytest.approx(
        (rows["backward"].time_s or 0) / (rows["step"].time_s or 1)
    )


def test_a_comparison_inside_a_run_goes_by_how_its_ratio_differs_between_launches() -> None:
    """Launches that differ by half in both rows do not widen the interval of their ratio."""
    row = rows_by_phase(CPU_CASE, blocks_of(launches=[1.0, 1.5, 1.2]))["step"]
    longer = replace(
        row, time_s=2 * (row.time_s or 0), launch_times_s=tuple(2 * t for t in row.launch_times_s)
    )
    ratio = longer.over(row)
    assert ratio is not None
    assert (ratio.low, ratio.value, ratio.high) == pytest.approx((2.0, 2.0, 2.0))
    uneven = replace(
        longer,
        launch_times_s=tuple(t * f for t, f in zip(longer.launch_times_s, (1, 1.02, 0.98), strict=True)),
    )
    half = stats.t.ppf(0.975, 2) * np.log([1, 1.02, 0.98]).std(ddof=1)
    assert (uneven.over(row) or ratio).high == pytest.approx(2 * exp(half))
    unlike = replace(longer, launch_times_s=())
    assert unlike.over(row) == (unlike.time or ratio).over(row.time or ratio)
    assert replace(row, time_s=None).over(row) is None


def test_the_leading_iteration_is_never_counted() -> None:
    """It takes a second in these laps, and no time of any row comes near that."""
    rows = rows_by_phase(CPU_CASE, blocks_of(launches=[1.0, 1.1]))
    assert max(row.mean_s or 0 for row in rows.values()) < 0.001
    assert rows["step"].laps == 2 * 2 * (ITERATIONS - 1)


def test_shares_and_what_is_left_over_add_up_to_one() -> None:
    """Every share is a part of the same iterations."""
    rows = rows_by_phase(CPU_CASE, blocks_of(launches=[1.0, 1.3]))
    shares = {phase: rows[phase].share for phase in STEP_PHASES}
    assert shares == pytest.approx({phase: STEP_LAPS[phase] / STEP_NS for phase in STEP_PHASES}, rel=1e-3)
    left_over = STEP_LAPS[UNATTRIBUTED] / STEP_NS
    assert sum(share or 0 for share in shares.values()) + left_over == pytest.approx(1, rel=1e-4)


def test_blocks_of_one_iteration_in_two_launches_have_times_and_students_interval() -> None:
    """As of a step of 2 s: the lap is both smallest and median, and one degree of freedom is left."""
    whole = blocks_of(launches=[1.0, 1.1], rounds=1)
    blocks = [replace(block, host=block.host[:2], wall_ns=block.wall_ns // 4) for block in whole]
    row = rows_by_phase(CPU_CASE, blocks)["step"]
    deviation = np.log([660, 726]).std(ddof=1)
    high_s = 660e-6 * exp(stats.t.ppf(0.975, 1) * deviation)
    assert (row.time_s, row.median_s, row.mean_s) == pytest.approx((660e-6, 693e-6, 693e-6))
    assert (row.time_high_s, row.interval) == (pytest.approx(high_s), BETWEEN_LAUNCHES)
    assert (row.launches, row.rounds, row.laps) == (2, 2, 2)
    assert row.launch_times_s == pytest.approx((660e-6, 726e-6))
    assert row.between_launches == pytest.approx(deviation)
    assert row.phases_over_step == pytest.approx(650 / 660)


def test_feeding_has_its_share_of_the_feeding_loop() -> None:
    """Fetching a batch of 40 µs before a step of 660 µs is 40 of 700."""
    row = rows_by_phase(CPU_CASE, blocks_of())["data"]
    assert row.share == pytest.approx(40 / 700)


def test_samples_per_second_come_from_the_median_step() -> None:
    """32 samples every 660 µs."""
    assert rows_by_phase(CPU_CASE, blocks_of())["step"].samples_per_s == pytest.approx(32 / 660e-6)


def test_a_row_says_what_its_interval_is_made_of() -> None:
    """One launch says nothing of what another process would have measured."""
    launches = {count: rows_by_phase(CPU_CASE, blocks_of(launches=[1.0] * count))["step"] for count in (1, 2)}
    assert launches[1].interval == WITHIN_ONE_PROCESS
    assert launches[2].interval == BETWEEN_LAUNCHES


def test_disturbance_is_the_median_over_the_undisturbed_time() -> None:
    """Laps of 100, 100, 150, 150 and 150 µs: half as long again in the median."""
    laps = STEP_LAPS | OTHER_LAPS | {"step": 100_000}
    block = block_of("plain", laps=laps)
    block.host[2:, 0] = 150_000
    row = rows_by_phase(CPU_CASE, [block])["step"]
    assert row.time_s == pytest.approx(100e-6)
    assert row.median_s == pytest.approx(150e-6)
    assert row.disturbance == pytest.approx(1.5)


def test_the_sum_of_the_phases_is_held_against_the_plain_step() -> None:
    """650 of 660 µs; with plain steps of 660 µs the laps cost nothing."""
    row = rows_by_phase(CPU_CASE, blocks_of())["step"]
    assert row.phases_over_step == pytest.approx(PHASES_NS / STEP_NS)
    assert row.lap_overhead_s == pytest.approx(0, abs=1e-12)
    assert row.unattributed_s == pytest.approx(STEP_LAPS[UNATTRIBUTED] * NANO)


def test_what_the_laps_cost_is_the_difference_to_the_plain_step() -> None:
    """Plain steps of 640 µs beside lapped ones of 660 µs: 20 µs of overhead."""
    laps = STEP_LAPS | OTHER_LAPS | {"step": 640_000}
    row = rows_by_phase(CPU_CASE, [block_of("laps", laps=laps), block_of("plain", laps=laps)])["step"]
    assert row.lap_overhead_s == pytest.approx(20e-6)
    assert row.phases_over_step == pytest.approx(650 / 640)


def test_only_blocks_of_the_same_round_are_held_against_each_other() -> None:
    """A round without its plain block checks nothing."""
    laps = STEP_LAPS | OTHER_LAPS | {"step": 640_000}
    blocks = [block_of("laps", laps=laps, number=0), block_of("plain", laps=laps, number=1)]
    row = rows_by_phase(CPU_CASE, blocks)["step"]
    assert (row.time_s, row.median_s) == pytest.approx((660e-6, 640e-6))
    assert row.phases_over_step is None


@pytest.mark.parametrize("phase", STEP_PHASES)
def test_on_a_device_the_time_of_a_phase_is_its_span(phase: str) -> None:
    """The host only enqueues, here in half the time; both are in the row, under their names."""
    row = rows_by_phase(CUDA_CASE, cuda_blocks_of(launches=[1.0, 1.0]))[phase]
    assert row.time_s == pytest.approx(2 * STEP_LAPS[phase] * NANO)
    assert row.device_s == pytest.approx(2 * STEP_LAPS[phase] * NANO)
    assert row.host_s == pytest.approx(STEP_LAPS[phase] * NANO)


def test_on_a_device_the_step_is_wall_time() -> None:
    """Between two synchronisations, over the iterations, and not what the host took to enqueue."""
    row = rows_by_phase(CUDA_CASE, cuda_blocks_of(launches=[1.0, 1.0]))["step"]
    assert row.time_s == pytest.approx(2 * STEP_NS * NANO)
    assert row.wall_s == pytest.approx(2 * STEP_NS * NANO)
    assert row.host_s == pytest.approx(STEP_NS * NANO)
    assert row.device_s is None


def test_fetching_data_is_the_hosts_work_everywhere() -> None:
    """The device has no part in it."""
    row = rows_by_phase(CUDA_CASE, cuda_blocks_of())["data"]
    assert row.time_s == pytest.approx(OTHER_LAPS["data"] * NANO)


def test_the_cpu_has_one_time_only() -> None:
    """Host, device and wall are the three times of a device."""
    row = rows_by_phase(CPU_CASE, blocks_of())["step"]
    assert (row.host_s, row.device_s, row.wall_s) == (None, None, None)


def test_a_phase_that_was_not_chosen_has_no_row() -> None:
    """Missing is missing."""
    run = run_of([record_of(CPU_CASE, phases=("forward",))])
    assert [row.phase for row in rows_of(run, blocks_of())] == ["forward"]


def test_a_phase_without_blocks_is_a_row_that_says_so() -> None:
    """Times are unknown, not zero."""
    blocks = [block for block in blocks_of() if block.kind != "inference"]
    row = rows_by_phase(CPU_CASE, blocks)["inference"]
    assert (row.status, row.reason, row.time_s) == ("failed", "no round was finished", None)


def test_a_skipped_case_keeps_its_reason() -> None:
    """In every one of its rows."""
    run = run_of([record_of(CUDA_CASE, status="skipped", reason="no CUDA device was found")])
    rows = rows_of(run, [])
    assert {(row.status, row.reason, row.time_s) for row in rows} == {
        ("skipped", "no CUDA device was found", None)
    }
    assert [row.phase for row in rows] == list(CUDA_CASE.phases())


def test_rows_keep_the_order_of_cases_and_phases() -> None:
    """Whatever the order in which the blocks were measured."""
    other = replace(CPU_CASE, batch_size=128)
    blocks = [*blocks_of(1), *blocks_of(0)]
    rows = rows_of(run_of([record_of(CPU_CASE), record_of(other)]), reversed(blocks))
    assert [(row.case.batch_size, row.phase) for row in rows] == [
        *((32, phase) for phase in CPU_CASE.phases()),
        *((128, phase) for phase in other.phases()),
    ]


def test_what_bounds_a_device_is_unknown_without_its_busy_time() -> None:
    """A span between events holds launch gaps as well as kernels, and must not be taken for work."""
    rows = rows_of(run_of([record_of(CUDA_CASE)]), cuda_blocks_of())
    assert {row.bound for row in rows} == {"unknown"}


def test_cases_of_few_launches_lend_each_other_what_they_know() -> None:
    """Two launches of two cases: Student's t of two degrees of freedom, by the deviation of both."""
    other = replace(CPU_CASE, batch_size=128)
    blocks = [*blocks_of(0, launches=[1.0, 1.02]), *blocks_of(1, launches=[1.0, 1.04])]
    rows = rows_of(run_of([record_of(CPU_CASE), record_of(other)]), blocks)
    steps = [row for row in rows if row.phase == "step"]
    squares = [np.log([1, more]).var(ddof=1) for more in (1.02, 1.04)]
    for row, own in zip(steps, squares, strict=True):
        deviation = np.sqrt((own + np.mean(squares)) / 2)
        high = (row.time_s or 0) * exp(stats.t.ppf(0.975, 2) * deviation)
        assert row.time_high_s == pytest.approx(high, rel=1e-3)
    alone = rows_by_phase(CPU_CASE, blocks_of(0, launches=[1.0, 1.02]))["step"]
    assert (alone.time_high_s or 0) > (steps[0].time_high_s or 1)
