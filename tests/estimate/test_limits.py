"""Ceilings and limits on made-up times and counters, with answers worked out by hand."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from made_up_runs import CPU_CASE, block_of, blocks_of, record_of, run_of

from nncore_bench.cases import DOES_NOT_APPLY, KERNELS
from nncore_bench.companions import REFERENCE_KERNELS, SMALLEST, SMALLEST_NETWORK
from nncore_bench.estimate.ceilings import COMPUTE, DISPATCH, MEMORY, UNKNOWN, Ceilings, ceilings_of, limit_of
from nncore_bench.estimate.results import rows_of
from nncore_bench.estimate.rows import Row
from nncore_bench.estimate.source import Source
from nncore_bench.records import CaseCounters, PhaseCounters
from nncore_bench.runs import Block, Run
from nncore_bench.variants import DEFAULT_ALLOCATOR

CEILINGS = Ceilings(100e9, 50e9, 10e9, {"forward": (30e-6, 6), "zero_grad": (10e-6, 0)})
KERNEL_CASE = replace(CPU_CASE, subject=REFERENCE_KERNELS, batch_size=1, hidden=DOES_NOT_APPLY)
SMALLEST_CASE = replace(CPU_CASE, batch_size=1, hidden=SMALLEST)
WORK = {"gemm_flop": 100e6, "cached_bytes": 5e6, "cold_bytes": 10e6}


@pytest.mark.parametrize(
    ("time_s", "flop", "moved", "operators", "expected"),
    [
        (100e-6, 8_000_000, 500_000, 6, (COMPUTE, 0.8)),
        (100e-6, 1_000_000, 2_000_000, 6, (MEMORY, 0.4)),
        (100e-6, 1_000_000, 500_000, 12, (DISPATCH, 0.6)),
        (100e-6, None, 2_000_000, 6, (MEMORY, 0.4)),
        (1e-3, 8_000_000, 500_000, 6, (UNKNOWN, None)),
        (100e-6, 8_000_000, None, 6, (UNKNOWN, None)),
        (100e-6, 8_000_000, 500_000, None, (UNKNOWN, None)),
    ],
    ids=["FLOP", "bytes", "operators", "no formula", "below a tenth", "bytes unknown", "operators unknown"],
)
def test_the_limit_is_the_largest_floor(
    time_s: float,
    flop: int | None,
    moved: int | None,
    operators: int | None,
    expected: tuple[str, float | None],
) -> None:
    """8 MFLOP at 100 GFLOP/s are 80 µs, 2 MB at 50 GB/s 40 µs, 12 operators at 5 µs 60 µs."""
    counters = PhaseCounters(flop=flop, moved_bytes=moved, operators=operators)
    limit, share = limit_of("forward", time_s, counters, CEILINGS)
    assert (limit, share) == (expected[0], pytest.approx(expected[1]))


def test_a_phase_without_operators_is_held_against_the_same_phase_of_the_smallest_network() -> None:
    """zero_grad runs Python and frees memory: 10 of its 20 µs are what it takes with next to nothing."""
    counters = PhaseCounters(flop=0, moved_bytes=0, operators=0)
    assert limit_of("zero_grad", 20e-6, counters, CEILINGS) == (DISPATCH, pytest.approx(0.5))


def test_a_phase_that_takes_less_than_its_dispatch_does_not_wait_for_it() -> None:
    """On a device that works behind its host a span is kernels alone: 30 µs of dispatch for 20 µs of work."""
    counters = PhaseCounters(flop=1_000_000, moved_bytes=500_000, operators=6)
    assert limit_of("forward", 20e-6, counters, CEILINGS) == (COMPUTE, pytest.approx(0.5))
    assert limit_of("forward", 29e-6, counters, CEILINGS) == (DISPATCH, pytest.approx(30 / 29))


def test_a_case_of_the_same_size_is_not_taken_for_the_smallest_network() -> None:
    """The twin under the default allocator may have eight hidden units too, and is measured last."""
    run, blocks = companions()
    twin = record_of(SMALLEST_CASE, role=DEFAULT_ALLOCATOR, phases=("step",))
    more = msgspec.structs.replace(run, companions=(*run.companions, twin))
    blocks += blocks_of(3, scale=7.0)
    assert forward(rows_of(more, blocks)) == forward(rows_of(run, blocks))


def test_without_a_ceiling_nothing_is_guessed() -> None:
    """Tools that fall back to the peak of an A100 told of 152 and 563 % of it."""
    counters = PhaseCounters(flop=8_000_000, moved_bytes=500_000, operators=6)
    for unknown in (Ceilings(), replace(CEILINGS, gemm_flop_per_s=None), replace(CEILINGS, dispatch={})):
        assert limit_of("forward", 100e-6, counters, unknown) == (UNKNOWN, None)


def companions(**changes: Any) -> tuple[Run, list[Block]]:  # noqa: ANN401 - fields of the record
    """Return a run of one case, its kernels at a millisecond a lap, and the smallest network."""
    counters = CaseCounters(
        {phase: PhaseCounters(flop=1, operators=5, moved_bytes=1) for phase in ("forward",)}
    )
    phases = CaseCounters({"forward": PhaseCounters(flop=6_500_000, operators=10, moved_bytes=650_000)})
    run = run_of(
        [record_of(CPU_CASE, counters=phases)],
        companions=(
            record_of(KERNEL_CASE, role=REFERENCE_KERNELS, phases=KERNELS, correct=WORK),
            record_of(
                SMALLEST_CASE, role=SMALLEST_NETWORK, phases=("forward", "step"), counters=counters, **changes
            ),
        ),
    )
    laps = dict.fromkeys(KERNELS, 1_000_000)
    kernels = [block_of(kind, laps=laps, case=1, number=n) for n in range(2) for kind in ("kernels", "cold")]
    return run, [*blocks_of(0), *kernels, *blocks_of(2, scale=0.1)]


def test_ceilings_are_work_over_the_undisturbed_time_of_the_kernels() -> None:
    """100 MFLOP in 1 ms are 100 GFLOP/s, 5 MB in 1 ms are 5 GB/s, 13 µs for 5 operators."""
    run, blocks = companions()
    found = ceilings_of(run.companions, Source.of(run, blocks, None).beside)[("cpu", 1, "float32")]
    assert found.gemm_flop_per_s == pytest.approx(100e9)
    assert found.cached_bytes_per_s == pytest.approx(5e9)
    assert found.cold_bytes_per_s == pytest.approx(10e9)
    assert found.dispatch == {"forward": (pytest.approx(13e-6), 5)}
    assert found.dispatch_s("forward", 10) == pytest.approx(26e-6)


def forward(rows: list[Row]) -> Row:
    return next(row for row in rows if row.phase == "forward")


def test_counters_rates_and_the_limit_enter_the_row() -> None:
    """6.5 MFLOP in 130 µs are 50 GFLOP/s, half the ceiling; 650 kB are 5 GB/s, all of it."""
    run, blocks = companions()
    row = forward(rows_of(run, blocks))
    assert row.counters.flop == 6_500_000
    assert row.flop_per_s == pytest.approx(50e9)
    assert row.flop_share == pytest.approx(0.5)
    assert row.bytes_share == pytest.approx(1.0)
    assert (row.limit, row.limit_share) == (MEMORY, pytest.approx(1.0))


def test_a_companion_that_failed_leaves_the_limit_unknown() -> None:
    """And the times of the case as they are."""
    run, blocks = companions(status="failed", reason="it broke")
    row = forward(rows_of(run, blocks))
    assert row.time_s == pytest.approx(130e-6)
    assert row.limit == UNKNOWN


def test_a_case_that_was_not_counted_has_times_alone() -> None:
    """Unknown is not zero."""
    run, blocks = companions()
    row = forward(rows_of(run_of([record_of(CPU_CASE)], companions=run.companions), blocks))
    assert (row.counters.flop, row.flop_per_s, row.limit) == (None, None, UNKNOWN)
