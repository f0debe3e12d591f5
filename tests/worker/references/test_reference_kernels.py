"""What is measured beside the cases: reference kernels, the smallest network, the default allocator."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from made_up_runs import cases_of

from nncore_bench.cases import BLOCK_LAPS, DOES_NOT_APPLY, KERNELS, Case
from nncore_bench.companions import MIDDLE_NETWORK, REFERENCE_KERNELS, SMALLEST_NETWORK, companions_of
from nncore_bench.records import CaseRecord
from nncore_bench.variants import DEFAULT_ALLOCATOR
from nncore_bench.worker.blocks import IncorrectError, run_block
from nncore_bench.worker.catalog import workload_of
from nncore_bench.worker.clock import HostClock
from nncore_bench.worker.references.probes import CACHED_COPIES, ReferenceKernels, copied_bytes, gemm_side

KERNEL_CASE = Case(REFERENCE_KERNELS, "digits", "cpu", 1, "float32", "eager", 1, DOES_NOT_APPLY)


def cases(threads: tuple[int, ...] = (1, 2)) -> list[Case]:
    return cases_of(("cpu", "cuda"), threads, (1, 128))


def test_every_place_has_its_kernels_and_its_two_networks() -> None:
    """Ceilings are those of a device, a thread count and a precision."""
    beside = companions_of(cases(), twins=[])
    places = [("cpu", 1), ("cpu", 2), ("cuda", DOES_NOT_APPLY)]
    for role in (REFERENCE_KERNELS, SMALLEST_NETWORK, MIDDLE_NETWORK):
        assert [(r.case.device, r.case.threads) for r in beside if r.role == role] == places
    assert len(beside) == 3 * len(places)


def test_one_case_is_measured_under_the_default_allocator_as_well() -> None:
    """The reference case of the CPU among those whose step is timed."""
    record = companions_of(cases(), twins=cases())[-1]
    twin = record.case
    assert (record.role, twin) == (DEFAULT_ALLOCATOR, replace(cases()[2], variant=DEFAULT_ALLOCATOR))
    assert (twin.threads, twin.batch_size, twin.hidden) == (1, 128, 128)
    on_cuda = [case for case in cases() if case.device == "cuda"]
    assert all(one.role != DEFAULT_ALLOCATOR for one in companions_of(on_cuda, twins=on_cuda))


def test_the_work_of_a_lap_is_the_closed_form() -> None:
    """A matrix product of n³ multiply-adds is 2n³ FLOP; a copy reads and writes each byte."""
    kernels = ReferenceKernels(KERNEL_CASE)
    work = kernels.check()
    assert work["gemm_flop"] == 2 * 384**3
    assert work["cached_bytes"] == CACHED_COPIES * 2 * 256 * 1024
    assert work["cold_bytes"] == 2 * 32 * 1024**2


def test_each_precision_has_a_product_of_its_own() -> None:
    """What bfloat16 reaches is no ceiling of float32; the work is the same."""
    for precision, dtype in (
        ("bfloat16", torch.bfloat16),
        ("float16", torch.float16),
        ("tf32", torch.float32),
    ):
        kernels = ReferenceKernels(replace(KERNEL_CASE, precision=precision))
        assert kernels.gemm[0].dtype == dtype
        assert kernels.check()["gemm_flop"] == 2 * 384**3


def test_more_threads_get_more_work() -> None:
    """64 threads would starve on what one can do; the work grows with their number."""
    work = ReferenceKernels(replace(KERNEL_CASE, threads=8)).check()
    assert work["gemm_flop"] == 2 * 768**3
    assert work["cached_bytes"] == 8 * CACHED_COPIES * 2 * 256 * 1024


def test_a_wrong_matrix_product_is_refused() -> None:
    """A ceiling from a product that is not computed would make everything look slow."""
    kernels = ReferenceKernels(KERNEL_CASE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "mm", lambda _a, _b, out: out.zero_())
        with pytest.raises(IncorrectError, match=r"a matrix product is off by 100\.0%"):
            kernels.check()


def test_every_kernel_has_its_lap() -> None:
    """Those that find their data in a cache in one kind of block, the one that does not in another."""
    kernels = workload_of(KERNEL_CASE)
    assert CaseRecord(KERNEL_CASE, KERNELS).kinds == kernels.kinds
    for kind in kernels.kinds:
        assert run_block(kernels, HostClock(), kind, 4).host.shape == (5, len(BLOCK_LAPS[kind]))


def test_the_smallest_network_trains() -> None:
    """With one hidden unit it may not: its only unit can be dead from the start."""
    case = next(one.case for one in companions_of(cases(), twins=[]) if one.role == SMALLEST_NETWORK)
    assert workload_of(case).check()["moved"] == 1.0


GIBI, MIBI = 2**30, 2**20


@pytest.mark.parametrize(
    ("l2_mib", "memory_gib", "cached_mib", "cold_mib"),
    [(4, 16, 1, 256), (6, 32, 1.5, 256), (40, 80, 10, 256), (96, 141, 16, 256), (2, 4, 1, 64)],
)
def test_the_cached_copy_fits_the_cache_of_the_gpu_and_the_other_does_not(
    monkeypatch: pytest.MonkeyPatch, l2_mib: int, memory_gib: int, cached_mib: float, cold_mib: int
) -> None:
    """Its two tensors take half of L2; those of the other, in four launches, an eighth of the memory."""
    gpu = SimpleNamespace(L2_cache_size=l2_mib * MIBI, total_memory=memory_gib * GIBI)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: gpu)
    cached, cold = copied_bytes(replace(KERNEL_CASE, device="cuda", threads=DOES_NOT_APPLY))
    assert (cached, cold) == (cached_mib * MIBI, cold_mib * MIBI)
    assert 2 * cached <= gpu.L2_cache_size < 2 * cold
    assert 4 * 2 * cold <= gpu.total_memory / 8


@pytest.mark.parametrize(
    ("memory_gib", "precision", "side"),
    [(80, "bfloat16", 8192), (80, "tf32", 8192), (80, "float32", 4096), (16, "bfloat16", 4096)],
)
def test_large_gpus_get_large_products_where_their_tensor_cores_need_them(
    monkeypatch: pytest.MonkeyPatch, memory_gib: int, precision: str, side: int
) -> None:
    """In float32 such a product would take 20 ms, and the rate is reached at half the side."""
    gpu = SimpleNamespace(total_memory=memory_gib * GIBI)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: gpu)
    case = replace(KERNEL_CASE, device="cuda", threads=DOES_NOT_APPLY, precision=precision)
    assert gemm_side(case) == side
