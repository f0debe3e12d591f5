"""Tables of scaling: the line through batch sizes, and the thread count to take."""

from dataclasses import replace

import pytest
from made_up_runs import (
    CPU_CASE,
    CUDA_CASE,
    STEP_NS,
    blocks_of,
    cuda_blocks_of,
    line,
    names_of,
    record_of,
    run_of,
    table_of,
    told,
)

from nncore_bench.cases import Case
from nncore_bench.report.report import Report

FIXED_NS, PER_SAMPLE_NS = 200_000, 3_000


def scaled(sizes: tuple[int, ...], per_sample_ns: float = PER_SAMPLE_NS, case: Case = CPU_CASE) -> Report:
    """Return the report of a step that takes 200 µs and 3 µs a sample, or so many nanoseconds."""
    cases = [replace(case, batch_size=size) for size in sizes]
    make = blocks_of if case.device == "cpu" else cuda_blocks_of
    of_size = [(FIXED_NS + per_sample_ns * size) / STEP_NS for size in sizes]
    blocks = [
        block for number, length in enumerate(of_size) for block in make(number, launches=[length, length])
    ]
    return told(run_of(map(record_of, cases)), blocks)


def threaded(two: list[float]) -> Report:
    """Return the report of a step with one thread, and with two in launches of these lengths."""
    cases = [replace(CPU_CASE, threads=threads) for threads in (1, 2)]
    blocks = [*blocks_of(0, launches=[1.0, 1.01, 0.99]), *blocks_of(1, launches=two)]
    return told(run_of(map(record_of, cases)), blocks)


def test_fixed_cost_and_cost_per_sample_are_those_of_the_laps() -> None:
    """With units in the headings; 600 samples take nine times the fixed cost."""
    report = scaled((1, 32, 128, 1024))
    shown = line(report, "scaling")
    assert shown["hidden"] == "128"
    assert shown["fixed µs"].startswith("200")
    assert shown["per sample µs"].startswith("3.00")
    assert shown["90 % from batch"].startswith("600")
    raw = table_of(report, "scaling").raw.iloc[0]
    assert raw["fixed_s"] == pytest.approx(200e-6, rel=1e-3)
    assert raw["per_sample_s"] == pytest.approx(3e-6, rel=1e-3)
    assert raw["plateau_batch_low"] <= 600 <= raw["plateau_batch_high"]
    assert "batch_size" not in raw


@pytest.mark.parametrize(("case", "words"), [(CPU_CASE, "flat"), (CUDA_CASE, "launch-bound or flat")])
def test_a_step_that_no_batch_makes_longer_is_told_flat(case: Case, words: str) -> None:
    """Rather than with a batch size of millions that would have a plateau."""
    noisy = scaled((1, 32, 128, 1024), 0.0, case)
    assert line(noisy, "scaling")["90 % from batch"] == words
    assert table_of(noisy, "scaling").raw.iloc[0].isna()["plateau_batch"]
    assert table_of(noisy, "scaling").raw.iloc[0]["flat"]


def test_a_plateau_out_of_reach_is_not_reached_up_to_the_largest_batch() -> None:
    """20 ns a sample of 200 µs: 90,000 samples, of 1,024 measured; at 65,536 it is within reach."""
    assert line(scaled((1, 32, 1024), 20.0), "scaling")["90 % from batch"] == "not reached up to 1,024"
    assert line(scaled((1, 32, 1024, 65536), 20.0), "scaling")["90 % from batch"].startswith("90,")


def test_two_batch_sizes_have_no_table_of_scaling() -> None:
    """Nor has a run with one thread count a table of threads."""
    names = names_of(scaled((32, 128)))
    assert "scaling" not in names
    assert "threads" not in names


def test_more_threads_are_taken_only_where_they_are_surely_faster() -> None:
    """Half the time is; a percent less, in launches that differ by two, is not."""
    faster = line(threaded([0.5, 0.505, 0.495]), "threads")
    assert faster["best"] == "2"
    assert faster["1 thread µs"].startswith("65")
    assert faster["2 threads µs"].startswith("32")
    assert faster["speed-up of 2"].startswith("2.0")
    assert line(threaded([0.98, 1.01, 0.99]), "threads")["best"] == "1"
    assert line(threaded([1.3, 1.31, 1.29]), "threads")["best"] == "1"
