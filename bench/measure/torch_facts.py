"""Facts of the torch build and the devices it sees, for the record of a run."""

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
        "flush_denormal": False,
    }
    return facts
