"""What is told of counters, ceilings and limits, from runs made up by hand."""

from dataclasses import replace
from typing import Any

from made_up_runs import CPU_CASE, block_of, blocks_of, record_of, run_of, table_of

from nncore_bench.cases import DOES_NOT_APPLY, KERNELS, STEP_PHASES
from nncore_bench.companions import REFERENCE_KERNELS, SMALLEST, SMALLEST_NETWORK
from nncore_bench.estimate.source import Source
from nncore_bench.records import CaseCounters, PhaseCounters
from nncore_bench.report.report import Report, render
from nncore_bench.runs import Block, Run
from nncore_bench.variants import DEFAULT_ALLOCATOR

FORWARD = PhaseCounters(
    flop=6_500_000, operators=6, autograd_nodes=7, allocations=3, allocated_bytes=34_000, peak_bytes=32_768,
    moved_bytes=650_000,
)  # fmt: skip
OPTIMIZER = PhaseCounters(operators=36, allocations=40, allocated_bytes=1, peak_bytes=1, moved_bytes=1)
COUNTERS = CaseCounters(
    {"forward": FORWARD, "optimizer": OPTIMIZER, "step": FORWARD},
    parameters=101_770, parameter_bytes=407_080, state_bytes=814_176, leaked_bytes=0,
)  # fmt: skip
SMALL = CaseCounters({"forward": PhaseCounters(operators=6), "optimizer": PhaseCounters(operators=36)})
WORK = {"gemm_flop": 100e6, "cached_bytes": 50e6, "cold_bytes": 10e6}


def made(counters: CaseCounters | None = COUNTERS, **kernels: Any) -> tuple[Run, list[Block]]:  # noqa: ANN401
    """Return a run with kernels of a millisecond a lap, and the default allocator at 1.1 times the step."""
    kernel_case = replace(CPU_CASE, subject=REFERENCE_KERNELS, batch_size=1, hidden=DOES_NOT_APPLY)
    run = run_of(
        [record_of(CPU_CASE, counters=counters)],
        companions=(
            record_of(kernel_case, role=REFERENCE_KERNELS, phases=KERNELS, correct=WORK, **kernels),
            record_of(
                replace(CPU_CASE, batch_size=1, hidden=SMALLEST),
                role=SMALLEST_NETWORK,
                phases=STEP_PHASES,
                counters=SMALL,
            ),
            record_of(replace(CPU_CASE, variant=DEFAULT_ALLOCATOR), role=DEFAULT_ALLOCATOR, phases=("step",)),
        ),
    )
    laps = dict.fromkeys(KERNELS, 1_000_000)
    beside = [block_of(kind, laps=laps, case=1, number=n) for n in range(2) for kind in ("kernels", "cold")]
    beside += blocks_of(2, scale=0.2) + blocks_of(3, scale=1.1)
    return run, [*blocks_of(0), *beside]


def told(run: Run, blocks: list[Block]) -> Report:
    return render(Source.of(run, blocks, None))


def test_the_anatomy_of_the_reference_case_has_a_line_per_phase() -> None:
    """6.5 MFLOP in 130 µs are 50 GFLOP/s, half of 100; 650 kB are 5 GB/s, a tenth of 50."""
    table = table_of(told(*made()), "anatomy")
    lines = {line["phase"]: line for line in table.shown.to_dict("records")}
    assert lines["forward"]["MFLOP"] == "6.50"
    assert lines["forward"]["GFLOP/s"] == "50.0 (50 %)"
    assert lines["forward"]["GB/s"] == "5.00 (10 %)"
    assert lines["forward"]["limit"] == "compute 50 %"
    assert lines["optimizer"]["MFLOP"] == "n/a"
    assert lines["optimizer"]["limit"] == "dispatch 20 %"
    assert (
        "a matrix product 100 GFLOP/s, a copy within a cache 50.0 GB/s and one of 32 MiB 10.0 GB/s"
        in table.caption
    )


def test_everything_counted_is_in_the_files() -> None:
    """With the sizes of parameters and of Adam's state to the byte."""
    report = told(*made())
    raw = table_of(report, "counters").raw.set_index("phase")
    assert raw.flop["forward"] == 6_500_000
    assert raw.parameter_bytes["step"] == 407_080
    assert raw.state_bytes["step"] == 814_176
    assert table_of(report, "limits").raw.set_index("phase").limit["forward"] == "compute"
    assert table_of(report, "ceilings").raw.gemm_flop_per_s[0] == 100e9


def test_without_ceilings_the_limit_is_unknown_and_nothing_else_is_missing() -> None:
    """A machine whose kernels could not be measured is not taken for another."""
    table = table_of(told(*made(status="failed", reason="it broke")), "anatomy")
    line = table.shown.set_index("phase").loc["forward"]
    assert line.limit == "unknown"
    assert line["GFLOP/s"] == "50.0 (n/a %)"
    assert "a matrix product n/a GFLOP/s" in table.caption


def test_more_than_the_machine_can_do_is_an_error_to_be_found() -> None:
    """650 MFLOP in 130 µs would be 50 times the matrix product."""
    broken = CaseCounters({"forward": PhaseCounters(flop=650_000_000, operators=6, moved_bytes=1)})
    remarks = " ".join(told(*made(broken)).remarks)
    assert (
        f"Impossible: forward of {CPU_CASE.key} comes to 5000 % of this machine's matrix product" in remarks
    )
    assert "Impossible" not in " ".join(told(*made()).remarks)


def test_the_default_allocator_is_told_beside() -> None:
    """1.1 times as long, as planted."""
    remarks = " ".join(told(*made()).remarks)
    assert f"Under the default allocator the step of {CPU_CASE.key} takes 1.10 times as long" in remarks


def test_memory_that_stays_alive_is_a_notice() -> None:
    """A leak of one byte is a leak."""
    leaking = CaseCounters({"forward": FORWARD}, leaked_bytes=1)
    assert "still alive some steps later" in " ".join(told(*made(leaking)).remarks)
    assert "still alive" not in " ".join(told(*made()).remarks)


def test_a_run_that_was_not_counted_has_no_such_tables() -> None:
    """As one that was killed before its counters were taken."""
    names = [table.name for table in told(*made(None)).tables]
    assert not {"anatomy", "counters", "limits"} & set(names)
