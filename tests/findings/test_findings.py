"""Findings of runs made up by hand: every check that finds, that finds nothing, and that cannot tell."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from made_up_runs import CPU_CASE, CUDA_CASE, block_of, blocks_of, record_of, run_of

from nncore_bench.cases import DOES_NOT_APPLY, KERNELS, Case
from nncore_bench.companions import REFERENCE_KERNELS, SMALLEST, SMALLEST_NETWORK
from nncore_bench.estimate.ceilings import COMPUTE, DISPATCH, MEMORY
from nncore_bench.estimate.results import rows_of
from nncore_bench.estimate.rows import Row
from nncore_bench.estimate.source import Source
from nncore_bench.findings.finding import NO_CUDA, UNCOUNTED, Finding
from nncore_bench.findings.findings import CHECKS, findings_of
from nncore_bench.findings.text import BASES, EVIDENCE, NEXT_STEPS, REASONS
from nncore_bench.records import (
    Account,
    CaseCounters,
    CaseProfile,
    OperatorCount,
    PhaseCounters,
    ProfiledOperator,
)
from nncore_bench.runs import Block, Run
from nncore_bench.variants import DEFAULT_ALLOCATOR

NAMES = list(CHECKS)
KERNEL_CASE = replace(CPU_CASE, subject=REFERENCE_KERNELS, batch_size=1, hidden=DOES_NOT_APPLY)
SMALLEST_CASE = replace(CPU_CASE, batch_size=1, hidden=SMALLEST)
TWIN = replace(CPU_CASE, variant=DEFAULT_ALLOCATOR)
WORK = {"gemm_flop": 100e6, "cached_bytes": 50e6, "cold_bytes": 10e6}
ADAM = {"parameter_bytes": 407_080, "state_bytes": 814_176}
READ = "aten::_local_scalar_dense"


def call(phase: str, operator: str, calls: int = 1, **changes: Any) -> OperatorCount:  # noqa: ANN401 - its fields
    usual: dict[str, Any] = {"shapes": "32x128", "dtypes": "float32", "moved_bytes": 0}
    return OperatorCount(phase, operator, calls=calls, **(usual | changes))


HARMLESS = call("forward", "aten::addmm", shapes="128, 32x784, 784x128", moved_bytes=1_000)
LOOP = call("optimizer", "aten::addcdiv_", 36)


def counters_of(*inventory: OperatorCount, **changes: Any) -> CaseCounters:  # noqa: ANN401 - its fields
    """Return counters with an operator that nobody minds, and those given."""
    return CaseCounters(**({"phases": {}, "inventory": (HARMLESS, *inventory)} | changes))


def phases_of(name: str, **counts: int) -> dict[str, PhaseCounters]:
    """Return one counter, phase by phase; phases that are not named have none of it."""
    phases = ("zero_grad", "forward", "loss", "backward", "optimizer")
    return {phase: PhaseCounters(**{name: counts.get(phase, 0)}) for phase in phases}


def profile_of(
    *operators: ProfiledOperator,
    case: Case = CPU_CASE,
    **changes: Any,  # noqa: ANN401 - fields of the profile
) -> CaseProfile:
    return CaseProfile(
        **({"case": case, "steps": 8, "step_s": 1e-3, "accounts": (), "operators": operators} | changes)
    )


def seen(phase: str, operator: str, **changes: Any) -> ProfiledOperator:  # noqa: ANN401 - its fields
    usual: dict[str, Any] = {"calls": 1.0, "dispatched": True, "host_s": 50e-6, "share": 0.1}
    shapes, dtypes = (
        changes.pop(name, value) for name, value in (("shapes", "32x128"), ("dtypes", "float32"))
    )
    return ProfiledOperator(phase, operator, "", "", shapes, dtypes, **(usual | changes))


def run_with(
    counters: CaseCounters | None = None,
    case: Case = CPU_CASE,
    profiles: Sequence[CaseProfile] = (),
    **facts: Any,  # noqa: ANN401 - facts of the machine
) -> Run:
    return run_of([record_of(case, counters=counters)], profiles=tuple(profiles), machine=facts)


def find(name: str, run: Run, rows: Sequence[Row] = (), beside: Sequence[Row] = ()) -> Finding | None:
    """Return what a check finds in the first case; it must apply."""
    findings = [one for one in findings_of(run, rows, beside) if one.check == name]
    assert name in NAMES
    assert all(one.case for one in findings)
    return findings[0] if findings else None


def found(name: str, run: Run, rows: Sequence[Row] = (), beside: Sequence[Row] = ()) -> Finding:
    """Return what a check finds; there is a sentence for each of its codes."""
    one = find(name, run, rows, beside)
    assert one is not None
    assert (one.sight in EVIDENCE, one.sight in NEXT_STEPS, one.basis in BASES) == (True, True, True)
    return one


def reasons(name: str, run: Run) -> tuple[str, ...]:
    """Return why a check does not apply to a run; it must find nothing, then."""
    (one,) = [one for one in findings_of(run, (), ()) if one.check == name]
    assert one.case is None
    assert set(one.reasons) <= set(REASONS)
    return one.reasons


def timed(counters: CaseCounters, profiles: Sequence[CaseProfile] = ()) -> tuple[Run, list[Row]]:
    """Return a run of the usual case, and its rows: 20 µs, 130, 30, 190 and 280 of its 660 µs."""
    run = run_with(counters, profiles=profiles)
    return run, rows_of(run, blocks_of(0))


def beside_kernels(counters: CaseCounters) -> tuple[Run, list[Row], list[Row]]:
    """Return a run beside 50 GB/s, the smallest network at 36 operators in 56 µs, and a slower twin."""
    smallest = CaseCounters({"optimizer": PhaseCounters(operators=36)})
    run = run_of(
        [record_of(CPU_CASE, counters=counters)],
        profiles=(profile_of(page_faults=40.0),),
        companions=(
            record_of(KERNEL_CASE, role=REFERENCE_KERNELS, phases=KERNELS, correct=WORK),
            record_of(SMALLEST_CASE, role=SMALLEST_NETWORK, phases=("optimizer",), counters=smallest),
            record_of(TWIN, role=DEFAULT_ALLOCATOR, phases=("step",)),
        ),
    )
    laps = dict.fromkeys(KERNELS, 1_000_000)
    kernels = [block_of(kind, laps=laps, case=1, number=n) for n in range(2) for kind in ("kernels", "cold")]
    blocks = [*blocks_of(0), *kernels, *blocks_of(2, scale=0.2), *blocks_of(3, scale=1.1)]
    return run, rows_of(run, blocks), Source.of(run, blocks, None).beside


def test_an_optimizer_that_loops_over_its_tensors_is_found() -> None:
    """36 operators; moving 7 x 407,080 bytes at 50 GB/s takes 57.0 of its 280 µs."""
    one = found("optimizer-loop", *beside_kernels(counters_of(LOOP, **ADAM)))
    assert one.case == CPU_CASE
    assert one.phase == "optimizer"
    assert one.figures == {
        "operators": 36,
        "foreach_operators": 0,
        "share": pytest.approx(280 / 660, rel=0.01),
    }
    assert one.gain_s == pytest.approx(280e-6 - 7 * 407_080 / 50e9)


def test_two_dispatches_are_the_floor_of_a_small_optimizer() -> None:
    """Two of 36 operators in 56 µs take 3.1 µs, and 28 kB at 50 GB/s 0.6."""
    small = beside_kernels(counters_of(LOOP, parameter_bytes=4_000, state_bytes=8_000))
    assert found("optimizer-loop", *small).gain_s == pytest.approx(280e-6 - 56e-6 * 2 / 36)


def test_an_optimizer_at_its_floor_has_nothing_to_gain() -> None:
    """7 x 40 MB at 50 GB/s would take 5.6 ms, and it takes 0.28: never less than nothing."""
    large = beside_kernels(counters_of(LOOP, parameter_bytes=40_000_000, state_bytes=80_000_000))
    assert found("optimizer-loop", *large).gain_s == 0


@pytest.mark.parametrize(
    ("sizes", "why"),
    [({}, "fused unknown"), ({"parameter_bytes": 4_000, "state_bytes": 4_000}, "fewer than two moments")],
    ids=["sizes unknown", "one moment"],
)
def test_what_a_fused_optimizer_would_save_is_not_guessed(sizes: dict[str, int], why: str) -> None:
    """Seven values a parameter are Adam's."""
    one = found("optimizer-loop", *beside_kernels(counters_of(LOOP, **sizes)))
    assert (one.gain_s, one.basis) == (None, why)


def test_without_ceilings_the_gain_of_fusing_is_unknown() -> None:
    """As where nothing was measured beside the cases."""
    assert found("optimizer-loop", *timed(counters_of(LOOP, **ADAM))).gain_s is None


def test_an_optimizer_over_lists_is_told_apart_from_a_plain_loop() -> None:
    """Of 12 operators, ten take all tensors at once."""
    lists = call("optimizer", "aten::_foreach_mul_", 10), call("optimizer", READ, 2)
    one = found("optimizer-loop", run_with(counters_of(*lists)))
    assert one.figures == {"operators": 12, "foreach_operators": 10}


@pytest.mark.parametrize(
    "calls",
    [
        [call("optimizer", "aten::_foreach_add_"), call("optimizer", "aten::_fused_adam_", 5)],
        [call("optimizer", "aten::add_", 4)],
        [],
    ],
    ids=["fused", "four operators", "none"],
)
def test_an_optimizer_with_nothing_to_fuse_is_no_finding(calls: list[OperatorCount]) -> None:
    """A fused one dispatches its operator once for each device and type, however many tensors there are."""
    assert find("optimizer-loop", run_with(counters_of(*calls))) is None


@pytest.mark.parametrize("operator", ["aten::zero_", "aten::_foreach_zero_", "aten::fill_"])
def test_gradients_that_are_filled_are_found(operator: str) -> None:
    """zero_grad takes 20 µs; what backward then adds is known to a profile alone."""
    one = found("gradients-kept", *timed(counters_of(call("zero_grad", operator, 4, moved_bytes=407_080))))
    assert one.phase == "zero_grad"
    assert one.figures == {"fill_times": 4, "moved_bytes": 407_080, "operator": operator}
    assert one.gain_s == pytest.approx(20e-6)
    assert one.basis == "zero_grad alone"


def test_what_backward_adds_to_kept_gradients_counts_by_its_share() -> None:
    """A tenth of 190 µs, and 20 µs of zero_grad."""
    adding = profile_of(
        seen("backward", "aten::add_"), seen("backward", "aten::mm"), seen("loss", "aten::add_")
    )
    one = found("gradients-kept", *timed(counters_of(call("zero_grad", "aten::zero_")), [adding]))
    assert one.gain_s == pytest.approx(39e-6)
    assert one.basis == "zero_grad and additions"


def test_gradients_that_are_dropped_are_no_finding() -> None:
    """The default runs no operator; filling in another phase is another matter."""
    assert find("gradients-kept", run_with(counters_of(call("backward", "aten::fill_")))) is None


def test_gradients_kept_in_a_run_without_times_have_no_gain() -> None:
    """As where only inference was chosen."""
    one = found("gradients-kept", run_with(counters_of(call("zero_grad", "aten::zero_"))))
    assert (one.gain_s, one.basis) == (None, "no zero_grad")


def test_a_host_that_waits_for_the_device_is_found_with_its_line() -> None:
    """Two in the loss and one in backward, where the profiler saw the host in `.item()` for 50 µs."""
    counters = CaseCounters(
        phases_of("synchronisations", loss=2, backward=1),
        waits={"backward at hooks.py:7": 1, "loss at model.py:12": 2},
    )
    profile = profile_of(seen("loss", READ), case=CUDA_CASE)
    one = found("synchronisation", run_with(counters, CUDA_CASE, [profile]))
    assert one.phase == "loss"
    assert one.figures == {"wait_times": 3, "busiest": "loss at model.py:12", "more_sites": 1}
    assert (one.gain_s, one.basis) == (pytest.approx(50e-6), "host in reads")


def test_what_a_wait_costs_is_unknown_without_a_profile() -> None:
    """And without its line, the phase is still known."""
    one = found(
        "synchronisation", run_with(CaseCounters(phases_of("synchronisations", forward=1)), CUDA_CASE)
    )
    assert one.figures == {"wait_times": 1, "busiest": "forward", "more_sites": 0}
    assert one.gain_s is None


def test_a_device_that_is_not_waited_for_is_no_finding() -> None:
    """Counted, and nought in every phase."""
    assert find("synchronisation", run_with(CaseCounters(phases_of("synchronisations")), CUDA_CASE)) is None


def test_a_number_read_on_the_cpu_is_found() -> None:
    """A tenth of the 30 µs of the loss; a profile of the optimizer's own reads does not count."""
    profile = profile_of(seen("loss", READ), seen("optimizer", READ))
    counters = counters_of(call("loss", READ, 2), call("optimizer", READ, 4))
    one = found("synchronisation", *timed(counters, [profile]))
    assert (one.phase, one.counts) == ("loss", {"loss": 2})
    assert one.gain_s == pytest.approx(3e-6)


def test_what_a_read_costs_is_unknown_without_times() -> None:
    """A share of a phase that was not timed is no time."""
    run = run_with(counters_of(call("loss", READ)), profiles=[profile_of(seen("loss", READ))])
    assert found("synchronisation", run).gain_s is None


def test_the_optimizers_own_reads_are_no_finding() -> None:
    """Adam reads the step counter of each tensor of parameters."""
    assert find("synchronisation", run_with(counters_of(call("optimizer", READ, 4)))) is None


@pytest.mark.parametrize(
    ("limit", "gain_s"), [(MEMORY, 130e-6 * 0.75 / 2), (COMPUTE, 130e-6 * 0.5 / 2), (DISPATCH, None)]
)
def test_float64_is_found_with_half_of_what_it_has_of_a_limited_phase(
    limit: str, gain_s: float | None
) -> None:
    """3,000 of the 4,000 bytes of forward, and 500 of its 1,000 FLOP; dispatch is the same in any type."""
    calls = (
        call("forward", "aten::mm", 2, dtypes="float32, float64", moved_bytes=3_000, flop=500),
        call("forward", "aten::mm", flop=500),
        call("zero_grad", "aten::zero_", dtypes="float64"),
    )
    run, rows = timed(counters_of(*calls))
    one = found("float64", run, [replace(row, limit=limit) for row in rows])
    assert (one.phase, one.counts, one.figures) == ("forward", {"forward": 2}, {"moved_bytes": 3_000})
    assert one.gain_s == (None if gain_s is None else pytest.approx(gain_s))
    assert (one.basis == "no limited phase") == (gain_s is None)


def test_a_step_without_float64_is_no_finding() -> None:
    """Nor is one whose float64 tensors are only dropped."""
    assert find("float64", run_with(counters_of(call("zero_grad", "aten::zero_", dtypes="float64")))) is None


CAST = call("forward", "aten::_to_copy", 2, dtypes="float64", moved_bytes=2 * 32 * 128 * 12)


def test_floats_converted_to_another_type_are_found() -> None:
    """4,096 values twice, 8 bytes read and 4 written each; a tenth of the 130 µs of forward."""
    other = seen("forward", "aten::_to_copy", shapes="32")
    profile = profile_of(seen("forward", "aten::_to_copy", dtypes="float64"), other)
    one = found("mixed-dtypes", *timed(counters_of(CAST), [profile]))
    assert (one.phase, one.counts, one.figures) == ("forward", {"forward": 2}, {"moved_bytes": 98_304})
    assert one.gain_s == pytest.approx(13e-6)
    assert found("mixed-dtypes", run_with(counters_of(CAST))).gain_s is None
    tf32 = replace(CUDA_CASE, precision="tf32")  # whose tensors are float32 as well
    assert found("mixed-dtypes", run_with(counters_of(CAST), tf32)).figures == one.figures


@pytest.mark.parametrize(
    "cast",
    [
        call("forward", "aten::_to_copy", moved_bytes=4_096 * 8),
        call("forward", "aten::_to_copy", moved_bytes=4_096 * 12),
        call("forward", "aten::_to_copy", dtypes="uint8", moved_bytes=4_096 * 5),
        call("forward", "aten::copy_", dtypes="float32, float64", moved_bytes=4_096 * 12),
        call("forward", "aten::_to_copy", shapes="0x10", moved_bytes=0),
        call("forward", "aten::_to_copy", shapes="scalar", moved_bytes=8),
    ],
    ids=["to the same type", "to integers", "of integers", "another operator", "nothing", "a scalar"],
)
def test_what_is_no_conversion_between_floats_is_no_finding(cast: OperatorCount) -> None:
    """Eight bytes written for a float32 are integers where nothing in the step has float64."""
    assert find("mixed-dtypes", run_with(counters_of(cast))) is None


def test_copies_between_host_and_device_are_found() -> None:
    """Two in forward, one in the loss; while no kernel ran the profiler saw 12 µs of copying."""
    account = Account("step", 1e-4, 12e-6, 0.0, 0.0, 0.0, 0.0)
    counters = CaseCounters(phases_of("copies", forward=2, loss=1))
    profile = profile_of(case=CUDA_CASE, accounts=(account,))
    one = found("copies-in-step", run_with(counters, CUDA_CASE, [profile]))
    assert {phase: count for phase, count in one.counts.items() if count} == {"forward": 2, "loss": 1}
    assert (one.phase, one.gain_s) == ("forward", pytest.approx(12e-6))
    assert found("copies-in-step", run_with(counters, CUDA_CASE)).gain_s is None
    assert find("copies-in-step", run_with(CaseCounters(phases_of("copies")), CUDA_CASE)) is None


def fed(data_ns: int, copy_ns: int) -> tuple[Run, list[Row]]:
    """Return a run on CUDA whose feeding loop takes 200 µs."""
    run = run_with(case=CUDA_CASE)
    host = {"data": data_ns, "copy": 1_000, "rest": 1_000}
    spans = {"data": 0, "copy": copy_ns, "rest": 1_000}
    block: Block = block_of("feed", laps=host, device_laps=spans, wall_ns=4 * 200_000)
    return run, rows_of(run, [block])


def test_pageable_copies_are_found() -> None:
    """60 of 200 µs."""
    one = found("unpinned-copies", *fed(0, 60_000))
    assert one.figures == {"time_s": pytest.approx(60e-6), "share": pytest.approx(0.3)}
    assert (one.phase, one.gain_s) == ("copy", pytest.approx(60e-6))


def test_copies_of_a_twentieth_of_the_loop_are_no_finding() -> None:
    """10 of 200 µs."""
    assert find("unpinned-copies", *fed(0, 10_000)) is None


def test_a_loop_that_waits_for_its_data_is_found() -> None:
    """50 of 200 µs are more than a fifth, and 40 are not."""
    one = found("waiting-for-data", *fed(50_000, 0))
    assert one.figures == {"time_s": pytest.approx(50e-6), "share": pytest.approx(0.25)}
    assert (one.phase, one.gain_s) == ("data", pytest.approx(50e-6))
    assert find("waiting-for-data", *fed(40_000, 0)) is None


def test_more_threads_than_cores_are_found() -> None:
    """Four on two."""
    one = found("threads-above-cores", run_with(case=replace(CPU_CASE, threads=4), cores_allowed=2))
    assert (one.phase, one.figures, one.gain_s) == ("step", {"threads": 4, "cores": 2}, None)


def test_a_step_that_sets_its_own_threads_is_found() -> None:
    """As a model does that calls torch.set_num_threads; the cores need not be known."""
    one = found("threads-above-cores", run_with(counters_of(threads=2)))
    assert one.figures == {"threads": 1, "threads_left": 2}


def test_as_many_threads_as_cores_are_no_finding() -> None:
    """Two on two."""
    run = run_with(counters_of(threads=2), replace(CPU_CASE, threads=2), cores_allowed=2)
    assert find("threads-above-cores", run) is None


def test_a_step_that_is_surely_slower_under_the_default_allocator_is_found() -> None:
    """1.1 times as long, as planted: 66 of 660 µs."""
    one = found("memory-returned", *beside_kernels(counters_of()))
    assert one.figures == {"ratio": pytest.approx(1.1)}
    assert one.gain_s == pytest.approx(66e-6, rel=0.01)


ODD = call("backward", "aten::mm", 3, shapes="10x32, 32x128")


@pytest.mark.parametrize(
    ("precision", "fact", "multiple"), [("bfloat16", False, 8), ("float16", False, 8), ("tf32", False, 4)]
)
def test_products_that_tensor_cores_cannot_take_whole_are_found(
    precision: str, *, fact: bool, multiple: int
) -> None:
    """Ten classes are no multiple of eight, nor of four; the bias of addmm is no factor.

    What the machine does by itself plays no part: a case sets its own precision.
    """
    biased = call("forward", "aten::addmm", shapes="10, 32x784, 784x128")
    run = run_with(counters_of(ODD, biased), replace(CUDA_CASE, precision=precision), matmul_allow_tf32=fact)
    one = found("gemm-shapes", run)
    assert one.phase == "backward"
    assert one.figures == {"odd_products": 3, "products": 5, "multiple": multiple, "shapes": "10x32, 32x128"}
    assert one.gain_s is None


def test_products_of_whole_tiles_are_no_finding() -> None:
    """The number of matrices in a batch of them is not their length."""
    batched = call("forward", "aten::bmm", shapes="3x32x64, 3x64x8")
    run = run_with(counters_of(batched), replace(CUDA_CASE, precision="bfloat16"))
    assert find("gemm-shapes", run) is None


def test_garbage_that_is_collected_in_the_step_is_found() -> None:
    """Once in the loss."""
    one = found("garbage-collected", run_with(CaseCounters(phases_of("collections", loss=1))))
    assert (one.phase, one.counts["loss"], one.gain_s) == ("loss", 1, None)
    assert find("garbage-collected", run_with(CaseCounters(phases_of("collections")))) is None


@pytest.mark.parametrize(
    ("case", "name", "why"),
    [
        *((CPU_CASE, name, UNCOUNTED) for name in NAMES[:5]),
        *((CPU_CASE, name, NO_CUDA) for name in ("copies-in-step", "unpinned-copies", "gemm-shapes")),
        (CPU_CASE, "waiting-for-data", "no data"),
        (CPU_CASE, "threads-above-cores", "cores unknown"),
        (CPU_CASE, "memory-returned", "no default allocator"),
        (CPU_CASE, "garbage-collected", UNCOUNTED),
        (CUDA_CASE, "synchronisation", UNCOUNTED),
        (CUDA_CASE, "copies-in-step", UNCOUNTED),
        (CUDA_CASE, "unpinned-copies", "no copy"),
        (CUDA_CASE, "threads-above-cores", "threads on CUDA"),
        (CUDA_CASE, "memory-returned", "no default allocator"),
        (CUDA_CASE, "gemm-shapes", "no tensor cores"),
        (replace(CUDA_CASE, precision="bfloat16"), "gemm-shapes", UNCOUNTED),
    ],
    ids=lambda value: value.key if isinstance(value, Case) else None,
)
def test_a_check_that_cannot_be_made_says_why(case: Case, name: str, why: str) -> None:
    """A run of one case that was neither counted nor timed nor profiled."""
    assert reasons(name, run_with(case=case)) == (why,)


def test_what_was_asked_for_is_no_finding() -> None:
    """Types follow from the precision."""
    double = run_with(counters_of(), replace(CPU_CASE, precision="float64"))
    assert reasons("float64", double) == ("float64 chosen",)
    assert reasons("mixed-dtypes", double) == ("precision converts",)


def test_every_check_of_a_run_without_a_case_says_so() -> None:
    """As where all of them failed."""
    run = run_of([record_of(CPU_CASE, status="failed", counters=counters_of(LOOP))])
    findings = findings_of(run, (), ())
    assert [one.check for one in findings] == NAMES
    assert {one.reasons for one in findings} == {("no case",)}


def test_cases_on_cuda_are_the_ones_that_tell_why_a_check_of_theirs_is_not_made() -> None:
    """It would not be true that none ran there."""
    run = run_of([record_of(CPU_CASE), record_of(CUDA_CASE)], machine={})
    assert reasons("gemm-shapes", run) == ("no tensor cores",)
    assert reasons("copies-in-step", run) == (UNCOUNTED,)


def test_one_case_that_can_be_checked_is_enough() -> None:
    """And every case has a finding of its own, in the order of the run."""
    other = replace(CPU_CASE, batch_size=128)
    records = [
        record_of(CPU_CASE, counters=counters_of(LOOP)),
        record_of(CUDA_CASE),
        record_of(other, counters=counters_of(LOOP)),
    ]
    findings = findings_of(run_of(records, machine={}), (), ())
    assert [one.case for one in findings if one.check == "optimizer-loop"] == [CPU_CASE, other]
    assert "gradients-kept" not in {one.check for one in findings}
