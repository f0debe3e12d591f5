"""Facts about the torch build and its settings, for the record of a run.

The caller forks afterwards, so nothing here may initialise CUDA; `torch.backends.cudnn.version()` would, as
it queries every GPU's capability.
"""

from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from nncore_bench.machine.reading import known


def _cudnn() -> str:
    """Return the version of the wheel that provides torch's cuDNN."""
    cuda = torch.version.cuda
    return version(f"nvidia-cudnn-cu{cuda.partition('.')[0]}") if cuda else "none"


def _code_path() -> str:
    """Return the folder of the nncore that this process would measure, without importing it."""
    spec = find_spec("nncore")
    return str(Path(spec.origin).parents[1]) if spec and spec.origin else "unknown"


READINGS: dict[str, Callable[[], Any]] = {
    "torch": lambda: str(torch.__version__),
    "torch_git": lambda: torch.version.git_version,
    "torch_threads": torch.get_num_threads,
    "torch_interop_threads": torch.get_num_interop_threads,
    "torch_cuda_build": lambda: torch.version.cuda or "none",
    "torch_cudnn": _cudnn,
    "torch_debug_build": lambda: bool(torch.version.debug),
    "torch_cpu_capability": torch.backends.cpu.get_cpu_capability,
    "torch_default_dtype": lambda: str(torch.get_default_dtype()).removeprefix("torch."),
    "torch_deterministic": torch.are_deterministic_algorithms_enabled,
    "mkl": lambda: bool(torch.backends.mkl.is_available()),  # type: ignore[no-untyped-call]
    "mkldnn": lambda: bool(torch.backends.mkldnn.is_available()),  # type: ignore[no-untyped-call]
    "openmp": lambda: bool(torch.backends.openmp.is_available()),  # type: ignore[no-untyped-call]
    "float32_matmul_precision": torch.get_float32_matmul_precision,
    "matmul_allow_tf32": lambda: bool(torch.backends.cuda.matmul.allow_tf32),
    "cudnn_benchmark": lambda: torch.backends.cudnn.benchmark,
    "cudnn_deterministic": lambda: torch.backends.cudnn.deterministic,
    "cudnn_allow_tf32": lambda: torch.backends.cudnn.allow_tf32,
    "code_path": _code_path,
}


def torch_facts() -> dict[str, Any]:
    """Return the facts that affect the speed of a step and only torch knows, as plain values."""
    return {name: known(read) for name, read in READINGS.items()}
