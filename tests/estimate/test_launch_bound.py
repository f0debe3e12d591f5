"""Launch-bound: told of profiles and times that are made up, and never of what nobody looked into."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from made_up_runs import CPU_CASE, CUDA_CASE, cuda_blocks_of, record_of, run_of, told

from nncore_bench.cases import Case
from nncore_bench.estimate.launches import device_alone_s, launch_bound
from nncore_bench.estimate.results import rows_of
from nncore_bench.estimate.rows import Row
from nncore_bench.records import Account, CaseProfile, DeviceActivity
from nncore_bench.report.report import Report

MICRO = 1e-6
SIZES = (1, 32, 128, 1024)
STEP_US = 1320.0  # of a made-up CUDA case, which takes twice as long as a step of the CPU
ACTIVITY = DeviceActivity(0.5, 0.0, 40.0, 39.0, 1e-4, 2e-6, 9e-6, 0.4)


def profile(case: Case, kernel_us: float, copy_us: float = 0.0, memset_us: float = 0.0) -> CaseProfile:
    """Return a profile whose step is slowed to 3000 µs, of which the device takes so many."""
    rest = 3000 - kernel_us - copy_us - memset_us
    seconds = [us * MICRO for us in (kernel_us, copy_us, memset_us, 100, 900, rest - 1000)]
    return CaseProfile(case, 8, 3e-3, (Account("step", *seconds),), (), device=ACTIVITY)


def sized(batch_size: int) -> Case:
    return replace(CUDA_CASE, batch_size=batch_size)


def reported(factors: Mapping[Case, float], profiles: Iterable[CaseProfile]) -> tuple[Report, list[Row]]:
    """Return the report and the steps of CUDA cases, each so many times as long as STEP_US."""
    blocks = [
        block
        for number, factor in enumerate(factors.values())
        for block in cuda_blocks_of(number, launches=[factor, factor])
    ]
    run = run_of(map(record_of, factors), profiles=tuple(profiles))
    return told(run, blocks), [row for row in rows_of(run, blocks) if row.phase == "step"]


def found(factors: Mapping[Case, float], *profiles: CaseProfile) -> list[tuple[Case, float]]:
    _, steps = reported(factors, profiles)
    groups = launch_bound({row.case: row for row in steps}, profiles)
    return [(group.example, group.device_s) for group in groups]


FLAT = {sized(size): factor for size, factor in zip(SIZES, (1.0, 1.02, 1.01, 1.05), strict=True)}


def test_a_device_alone_takes_kernels_copies_and_fills() -> None:
    """Of the step's account; of a CPU, or where no kernel was seen, nothing is known."""
    assert device_alone_s(profile(CUDA_CASE, 30, 20, 10)) == pytest.approx(60 * MICRO)
    assert device_alone_s(profile(CUDA_CASE, 0)) is None
    bare = CaseProfile(CPU_CASE, 8, 3e-3, profile(CPU_CASE, 30).accounts, ())
    assert device_alone_s(bare) is None


def test_where_one_was_profiled_and_all_take_as_long_all_are_launch_bound() -> None:
    """The sentence says so, how alike they are, and what the device alone would take."""
    assert found(FLAT, profile(sized(128), 60)) == [(sized(128), pytest.approx(60 * MICRO))]
    report, _ = reported(FLAT, [profile(sized(128), 60)])
    assert report.sentences[2].endswith(
        "On cuda the step is launch-bound at all 4 sizes measured, whose steps lie within 5.0 %: the GPU"
        " waits for the host, and alone would take 60.0 of 1,330 µs at batch 128, hidden 128."
    )


def test_of_several_profiles_the_one_with_most_to_do_is_told() -> None:
    """Its step is no evidence for one that takes longer; its own profile is."""
    factors = FLAT | {sized(1024): 1.3}
    assert found(factors, profile(sized(128), 60)) == []
    told_of = found(factors, profile(sized(128), 60), profile(sized(1024), 900))
    assert told_of == [(sized(1024), pytest.approx(900 * MICRO))]


@pytest.mark.parametrize("busy", [0.8, 0.9])
def test_a_device_that_is_busy_for_four_fifths_of_a_step_is_not_waiting(busy: float) -> None:
    """Of the step that was timed, not of the one that the profiler slowed."""
    assert found(FLAT, profile(sized(128), 1.01 * STEP_US * busy + 1)) == []
    assert found(FLAT, profile(sized(128), 1.01 * STEP_US * 0.79)) != []


def test_where_nothing_is_known_nothing_is_said() -> None:
    """Without a profile a flat line may be a device that moves weights; a larger step may be its own."""
    assert found(FLAT) == []
    report, _ = reported(FLAT, [])
    assert "launch-bound" not in "".join(report.sentences)
    assert found(FLAT | {sized(65536): 20.0}, profile(sized(128), 60)) == []
    companion = CaseProfile(sized(128), 8, 3e-3, profile(sized(128), 60).accounts, (), ACTIVITY, role="other")
    assert found(FLAT, companion) == []


def test_each_variant_is_told_by_profiles_of_its_own() -> None:
    """A fused step enqueues other operators than an eager one."""
    fused = {replace(case, variant="fused"): factor / 2 for case, factor in FLAT.items()}
    report, _ = reported(FLAT | fused, [profile(sized(128), 60)])
    assert "On cuda the step is launch-bound at all 4 sizes" in report.sentences[2]
    assert "fused" not in report.sentences[2]
    own = profile(replace(sized(128), variant="fused"), 50)
    report, _ = reported(FLAT | fused, [own])
    assert "On cuda, fused the step is launch-bound at all 4 sizes" in report.sentences[2]
