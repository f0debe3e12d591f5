"""Reference kernels: a matrix product and copies of known size, measured in the same rounds as the cases.

Their undisturbed times give the ceilings that phases are compared with; how much slower or faster they ran
than in another run is the machine's drift.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from nncore_bench.cases import BlockKind, Case
from nncore_bench.variants import HALVES
from nncore_bench.worker.blocks import IncorrectError
from nncore_bench.worker.subjects.apply_variant import precision_set
from nncore_bench.worker.subjects.subject import Mark

CACHED_COPIES = 8
MIBI = 2**20
LARGE_GPU = 32 * 2**30
"""Bytes of memory from which a GPU can afford matrices of side 8192, in memory (0.8 GB) and in time."""

CHECKED_COLUMNS = 256
LARGEST_GEMM_ERROR = 0.01


class ReferenceKernels:
    """The reference kernels for one device, thread count and precision: a matrix product and two copies."""

    kinds: tuple[BlockKind, ...] = ("kernels", "cold")
    assumed: tuple[str, ...] = ()

    def __init__(self, case: Case) -> None:
        self.device = torch.device(case.device)
        self.precision = case.precision
        dtype = getattr(torch, case.precision) if case.precision in HALVES else torch.float32
        side = gemm_side(case)
        generator = torch.Generator().manual_seed(0)
        a, b = (torch.randn(side, side, generator=generator).to(self.device, dtype) for _ in range(2))
        self.gemm = (a, b, torch.empty_like(a))
        self.cached, self.cold = (_buffers(case.device, size) for size in copied_bytes(case))

    def iteration(self, kind: BlockKind) -> Callable[[int, Mark], None]:
        """Return the function that runs one iteration of a kind."""
        return self._cold if kind == "cold" else self._kernels

    @contextmanager
    def mode(self, _kind: BlockKind) -> Iterator[None]:
        """Set the precision of the matrix product, without autograd."""
        with torch.no_grad(), precision_set(self.precision):
            yield

    def _kernels(self, _number: int, mark: Mark) -> None:
        (a, b, out), (source, target) = self.gemm, self.cached
        mark()
        torch.mm(a, b, out=out)
        mark()
        for _ in range(CACHED_COPIES):
            target.copy_(source)

    def _cold(self, _number: int, mark: Mark) -> None:
        source, target = self.cold
        mark()
        target.copy_(source)

    def check(self) -> dict[str, float]:
        """Return the work in one lap of each kernel; raises IncorrectError if the matrix product is wrong.

        A multiply-add counts as 2 FLOP; a copy reads and writes each byte.
        """
        a, b, out = self.gemm
        torch.mm(a, b, out=out)
        exact = a[:1].double() @ b[:, :CHECKED_COLUMNS].double()
        error = float((out[:1, :CHECKED_COLUMNS].double() - exact).abs().max() / exact.abs().max())
        if not error < LARGEST_GEMM_ERROR:
            raise IncorrectError(f"a matrix product is off by {error:.1%}, so its times mean nothing")
        return {
            "gemm_flop": 2.0 * len(a) ** 3,
            "cached_bytes": 2.0 * CACHED_COPIES * self.cached[0].nbytes,
            "cold_bytes": 2.0 * self.cold[0].nbytes,
            "gemm_error": error,
        }

    def begin(self) -> dict[str, float]:
        """Return no figures: no kernel has a first step."""
        return {}

    def save(self) -> None:
        """Do nothing: no kernel changes the input of the next one."""

    def restore(self) -> None:
        """Do nothing, see `save`."""

    def denormals(self) -> int:
        """Return 0: the matrices hold normal numbers."""
        return 0


def gemm_side(case: Case) -> int:
    """Return the side of the square matrices: just large enough to reach the hardware's best rate.

    On a large GPU tensor cores need 8192 for that, a few milliseconds; float32 takes as long at 4096.
    """
    if case.on_device:
        large = torch.cuda.get_device_properties(case.device).total_memory >= LARGE_GPU
        return 8192 if large and case.precision != "float32" else 4096
    return int(384 * max(1, round(float(case.threads) ** (1 / 3))))


def copied_bytes(case: Case) -> tuple[int, int]:
    """Return the bytes per tensor of the copy within a core's own caches, and of the copy beyond them.

    The latter exceeds most last-level caches, but not all. On a GPU the two tensors of the cached copy fill
    half of the L2 cache, and those of the other one, over four processes, an eighth of the memory.
    """
    if case.on_device:
        gpu = torch.cuda.get_device_properties(case.device)
        cached = max(MIBI, min(gpu.L2_cache_size // 4, 16 * MIBI))
        return cached, max(4 * cached, min(gpu.total_memory // 64, 256 * MIBI))
    return min(MIBI // 4 * int(case.threads), 16 * MIBI), 32 * MIBI


def release_buffers() -> None:
    """Free the cached buffers that no instance uses any more."""
    _buffers.cache_clear()


@cache
def _buffers(device: str, size: int) -> tuple[Tensor, Tensor]:
    """Return a source and a target of `size` bytes, shared by all that copy this much."""
    source = torch.ones(size // 4, device=device)
    return source, torch.zeros_like(source)
