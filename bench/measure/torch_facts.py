"""Facts of the torch build and the devices it sees, for the record of a run."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch


def torch_facts() -> dict[str, Any]:
    """Return what decides the speed of a step and only torch knows, as plain values."""
    facts: dict[str, Any] = {
        "torch": str(torch.__version__),
        "torch_threads": torch.get_num_threads(),
        "torch_interop_threads": torch.get_num_interop_threads(),
        "torch_cuda_build": torch.version.cuda,
        "torch_debug_build": bool(torch.version.debug),
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkldnn": bool(torch.backends.mkldnn.is_available()),  # type: ignore[no-untyped-call]
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "code_path": _code_path(),
    }
    return facts


def _code_path() -> str:
    """Return the folder whose nncore this process would measure, without importing it."""
    spec = find_spec("nncore")
    return str(Path(spec.origin).parents[1]) if spec and spec.origin else "unknown"
