"""Is the GPU worth it: curves and crossovers of made-up rows whose answer is known."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from math import exp

import pytest
from made_up_runs import CPU_CASE, CUDA_CASE, run_of

from nncore_bench.cases import Case
from nncore_bench.crossover import devices
from nncore_bench.crossover.devices import device_table
from nncore_bench.crossover.table import crossover_table, curves, in_words, price_table
from nncore_bench.estimate.cells import cells_of
from nncore_bench.estimate.rows import Row
from nncore_bench.estimate.source import Source
from nncore_bench.page.figures import memory_figure, speed_up_figure, throughput_figures
from nncore_bench.page.page import Material, page
from nncore_bench.records import PhaseCounters

SIZES = (1, 16, 256)
WITHIN = 0.05


def row(case: Case, phase: str, median_s: float, **more: float) -> Row:
    return Row(
        phase=phase,
        case=case,
        status="ok",
        reason="",
        time_s=median_s,
        median_s=median_s,
        median_low_s=median_s * (1 - WITHIN),
        median_high_s=median_s * (1 + WITHIN),
        **more,
    )


def of_sizes(case: Case, fixed_s: float, per_sample_s: float, **outside: float) -> Iterable[Row]:
    """Return the step of each batch size, and phases outside of it that always take the same."""
    for size in SIZES:
        here = replace(case, batch_size=size)
        yield row(here, "step", fixed_s + per_sample_s * size)
        for phase, seconds in outside.items():
            yield row(here, phase, seconds)


CPU = list(of_sizes(CPU_CASE, 0.0, 16e-6, data=100e-6))
CUDA = list(of_sizes(CUDA_CASE, 256e-6, 0.0, copy=20e-6, data=50e-6))


def test_a_step_that_grows_with_the_batch_meets_one_that_does_not() -> None:
    """16 µs a sample against 256 µs a step: equal at 16, and within 5 % of either at 14.9 to 17.1."""
    resident = next(curve for curve in curves(cells_of([*CPU, *CUDA])) if curve.mode == "resident")
    (crossing,) = resident.faster.crossings
    assert crossing.batch_size.value == pytest.approx(16)
    half = 2**0.5 * WITHIN
    assert crossing.batch_size.low == pytest.approx(16 * exp(-half), rel=1e-3)
    assert crossing.batch_size.high == pytest.approx(16 * exp(half), rel=1e-3)
    assert in_words(resident.faster) == "from batch 16 on (14 to 18)"


def test_feeding_moves_the_crossover() -> None:
    """The copy costs CUDA 20 µs more; loaded, the CPU pays 100 µs and CUDA 70."""
    found = {curve.mode: curve for curve in curves(cells_of([*CPU, *CUDA]))}
    assert list(found) == ["resident", "copied", "loaded"]
    assert found["copied"].speed_ups[256].value == pytest.approx(16 * 256 / 276)
    assert found["loaded"].speed_ups[256].value == pytest.approx((16 * 256 + 100) / 326)


def test_a_loop_that_fetches_ahead_is_taken_by_the_clock_on_the_wall() -> None:
    """Where the device works while the host fetches, its parts add up to more than it takes."""
    ahead = [replace(one, wall_s=260e-6) if one.phase == "data" else one for one in CUDA]
    loaded = next(curve for curve in curves(cells_of([*CPU, *ahead])) if curve.mode == "loaded")
    assert loaded.points[256]["cuda"].time.value == pytest.approx(260e-6)


def test_the_best_thread_count_meets_the_best_variant() -> None:
    """Each is named."""
    threads = [
        replace(one, case=replace(one.case, threads=2), median_s=one.median_s / 2)
        for one in CPU
        if one.median_s
    ]
    captured = [
        replace(one, case=replace(one.case, variant="cudagraph"), median_s=one.median_s / 4)
        for one in CUDA
        if one.median_s
    ]
    resident = curves(cells_of([*CPU, *threads, *CUDA, *captured]))[0]
    cpu, cuda = resident.points[256]["cpu"].step, resident.points[256]["cuda"].step
    assert (cpu.threads, cuda.variant) == (2, "cudagraph")
    assert resident.speed_ups[256].value == pytest.approx(16 * 256 / 2 / 64)


def test_pinned_memory_counts_where_it_was_measured() -> None:
    """Its copy takes a tenth of 20 µs, and it has no step of its own; which of them it was is told."""
    pinned = [
        replace(
            one,
            case=replace(one.case, variant="pinned"),
            median_s=2e-6 if one.phase == "copy" else one.median_s,
        )
        for one in CUDA
        if one.phase != "step"
    ]
    found = {curve.mode: curve for curve in curves(cells_of([*CPU, *CUDA, *pinned]))}
    assert found["copied"].speed_ups[256].value == pytest.approx(16 * 256 / 258)
    assert found["loaded"].speed_ups[256].value == pytest.approx((16 * 256 + 100) / 308)
    assert found["copied"].points[256]["cuda"].step.variant == "eager"
    assert found["copied"].points[256]["cuda"].fed.variant == "pinned"


def test_what_is_resident_is_no_loader_and_processes_that_fetch_are_not_free() -> None:
    """A variant that fetches in 1 µs, alone or with a fused step; what a fused step fetches itself counts."""
    fed = [one for one in CPU if one.phase == "data"]
    resident = [replace(one, case=replace(one.case, variant="resident"), median_s=1e-6) for one in fed]
    workers = [replace(one, case=replace(one.case, variant="workers-2"), median_s=1e-6) for one in fed]
    both = [
        replace(one, case=replace(one.case, variant="fused+resident"), median_s=1e-6)
        for one in [*CPU, *CUDA]
        if one.phase != "step"
    ]
    both += [
        replace(one, case=replace(one.case, variant="fused+resident"))
        for one in [*CPU, *CUDA]
        if one.phase == "step"
    ]
    fused = [
        replace(one, case=replace(one.case, variant="fused"), median_s=(one.median_s or 0.0) / 2)
        for one in CPU
    ]
    for more, cpu_us in (
        (resident, 16 * 256 + 100),
        (workers, 16 * 256 + 100),
        (both, 16 * 256 + 100),
        ([*workers, *fused], 8 * 256 + 50),
    ):
        found = {curve.mode: curve for curve in curves(cells_of([*CPU, *more, *CUDA]))}
        assert found["loaded"].points[256]["cpu"].time.value == pytest.approx(cpu_us * 1e-6)
        assert found["copied"].points[256]["cuda"].time.value == pytest.approx(276e-6)


def test_what_one_device_alone_has_is_in_no_comparison() -> None:
    """CUDA at batch 65,536 and at width 2,048: curves, prices and table end where the CPU's sizes do."""
    more = [row(replace(CUDA_CASE, batch_size=65536), "step", 256e-6)]
    more += [row(replace(CUDA_CASE, batch_size=size, hidden=2048), "step", 300e-6) for size in SIZES]
    cells, usual = cells_of([*CPU, *CUDA, *more]), cells_of([*CPU, *CUDA])
    assert [asdict(curve.faster) for curve in curves(cells)] == [asdict(c.faster) for c in curves(usual)]
    table = crossover_table(curves(cells))
    assert table is not None
    assert set(table.raw["hidden"]) == {128}
    assert table.raw["batch_size"].max() == 256
    assert "measured on one device alone are left out" in table.caption
    compared = device_table(cells)
    assert compared is not None
    assert len(compared.raw) == len(SIZES)
    answer = devices.sentence(cells, cells)
    assert "2048" not in answer
    assert "65536" not in answer


def test_devices_without_a_size_in_common_are_told_to_have_none() -> None:
    """CUDA was measured, and no sentence says that it was not."""
    more = [row(replace(CUDA_CASE, batch_size=65536), "step", 256e-6)]
    text = page(Material([Source(run_of([]), [*CPU, *more], [], None)], "a command"))
    assert "No crossover: no size was measured on both devices" in text
    assert "no CUDA results" not in text


def test_the_band_of_a_crossing_ends_where_the_sizes_of_both_devices_end() -> None:
    """Its interval is open upward: nothing is known above 256, however far CUDA's line goes on."""
    more = row(replace(CUDA_CASE, batch_size=65536), "step", 256e-6)
    cells = cells_of(
        replace(
            one,
            median_high_s=9 * (one.median_s or 0.0),
            samples_per_s=one.case.batch_size / (one.median_s or 1),
        )
        for one in [*CPU, *CUDA, more]
        if one.phase == "step"
    )
    resident = curves(cells)[0]
    assert resident.faster.crossings[0].batch_size.high is None
    (picture,) = throughput_figures(cells, [resident])
    bands = [
        line for lines in picture.spec["datasets"].values() for line in lines if {"from", "to"} <= line.keys()
    ]
    assert [band["to"] for band in bands] == [256]


def test_large_numbers_of_pictures_are_written_out() -> None:
    """A speed-up of 160 and 2 GB of memory, with no exponents."""
    found = curves(cells_of([*CPU, *(replace(one, median_s=(one.median_s or 0.0) / 10) for one in CUDA)]))
    map_ = speed_up_figure(found)
    assert map_ is not None
    assert " to 160 over 3 batch sizes" in map_.alternative
    large = replace(CUDA[0], phase="forward", counters=PhaseCounters(peak_bytes=2_150_000_000))
    memory = memory_figure(cells_of([large]))
    assert memory is not None
    assert memory.alternative.startswith("Most: 2,150 MB in forward")


def test_curves_of_two_precisions_are_told_apart() -> None:
    """In the table, in the prices, and in what the page says first; no picture shows one for both."""
    half = [
        replace(one, case=replace(one.case, precision="bfloat16"), median_s=(one.median_s or 0.0) / 2)
        for one in CUDA
    ]
    half += [replace(one, case=replace(one.case, precision="bfloat16")) for one in CPU]
    prices = {"cpu": 1.0, "cuda": 4.0}
    cells = cells_of([*CPU, *CUDA, *half])
    found = curves(cells, prices)
    for table in (crossover_table(found), price_table(found, prices)):
        assert table is not None
        assert set(table.shown["precision"]) == {"float32", "bfloat16"}
    assert not any("dashed" in picture.alternative for picture in throughput_figures(cells, found))
    text = page(Material([Source(run_of([]), [*CPU, *CUDA, *half], [], None)], "a command"))
    assert "Batches resident, bfloat16, hidden 128: CUDA is faster from batch 8 on" in text
    assert "Batches resident, float32, hidden 128: CUDA is faster from batch 16 on" in text


@pytest.mark.parametrize(
    ("at", "told"), [(1.4, "from batch 2 on (1 to 2)"), (16.0, "from batch 16 on (14 to 18)")]
)
def test_a_batch_size_is_a_whole_number_at_which_it_is_true(at: float, told: str) -> None:
    """Just above a crossing at 1.4 CUDA is faster at 2, and slower at 1."""
    other = [row(one.case, "step", 16e-6 * at) for one in CUDA if one.phase == "step"]
    assert in_words(curves(cells_of([*CPU, *other]))[0].faster) == told


def test_an_unknown_interval_is_no_sure_one() -> None:
    """As in a run that was ended after its first round."""
    unknown = [replace(one, median_low_s=None, median_high_s=None) for one in [*CPU, *CUDA]]
    resident = curves(cells_of(unknown))[0]
    assert in_words(resident.faster) == "from batch 16 on (or anywhere in the range)"
    assert resident.speed_ups[256].low is None


def test_without_a_crossover_the_range_is_named() -> None:
    """Faster at all sizes, at none, and neither surely."""
    for factor, sentence in (
        (1 / 100, "at all of batch 1 to 256: no crossover in this range"),
        (100, "at none of batch 1 to 256: no crossover in this range"),
    ):
        shifted = [
            row(one.case, "step", 16e-6 * one.case.batch_size * factor) for one in CUDA if one.phase == "step"
        ]
        assert in_words(curves(cells_of([*CPU, *shifted]))[0].faster) == sentence


def test_a_price_moves_the_crossover_and_tells_what_samples_cost() -> None:
    """CUDA at four times the price pays from a batch of 64 on; a million samples at 16 µs take 16 s."""
    prices = {"cpu": 0.5, "cuda": 2.0}
    found = curves(cells_of([*CPU, *CUDA]), prices)
    assert found[0].cheaper is not None
    assert found[0].cheaper.crossings[0].batch_size.value == pytest.approx(64)
    table = price_table(found, prices)
    assert table is not None
    assert table.raw["cpu_cost_per_million"][0] == pytest.approx(16 / 3600 * 0.5)
    assert price_table(found, {"cpu": 0.5}) is None
    crossings = crossover_table(found)
    assert crossings is not None
    assert crossings.shown["CUDA is faster"][0].startswith("from batch 16 on")
    assert crossings.shown["CUDA is cheaper"][0].startswith("from batch 64 on")
    assert crossings.raw["money_crossover_batch"][0] == pytest.approx(64)
    assert curves(cells_of([*CPU, *CUDA]))[0].cheaper is None


def test_a_run_without_cuda_has_no_curves_and_no_table() -> None:
    """Nothing is said of what was not measured."""
    assert curves(cells_of(CPU)) == []
    assert crossover_table([]) is None


def test_the_table_has_every_point_in_its_raw_numbers() -> None:
    """Three modes of three sizes, each with the crossover of its curve."""
    table = crossover_table(curves(cells_of([*CPU, *CUDA])))
    assert table is not None
    assert len(table.raw) == 9
    assert table.shown["CUDA is faster"][0].startswith("from batch 16 on")
    assert table.raw["crossover_batch"][0] == pytest.approx(16)
