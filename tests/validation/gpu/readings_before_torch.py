"""Readings of a GPU that nothing has used yet, and of what importing torch and making a context take."""

import time
from typing import Any

MIBI = 2**20
MILLI = 1e-3


def idle_gpu() -> dict[str, Any]:
    """Return what NVML says before anything of ours is on the GPU."""
    import pynvml  # noqa: PLC0415 - a machine without it loses this reading alone

    pynvml.nvmlInit()
    gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    return {
        "used_mib": pynvml.nvmlDeviceGetMemoryInfo(gpu).used / MIBI,
        "sm_mhz": pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
        "watt": pynvml.nvmlDeviceGetPowerUsage(gpu) * MILLI,
        "uuid": str(pynvml.nvmlDeviceGetUUID(gpu)),
        "compute_mode": pynvml.nvmlDeviceGetComputeMode(gpu),
    }


def start_up() -> dict[str, Any]:
    """Return the seconds of the import, of the context and of the first product, and the memory they take."""
    begin = time.perf_counter()
    import torch  # noqa: PLC0415 - it is what is timed

    imported = time.perf_counter()
    torch.zeros(1, device="cuda")
    torch.cuda.synchronize()
    context = time.perf_counter()
    a = torch.ones(64, 64, device="cuda")
    torch.mm(a, a)
    torch.cuda.synchronize()
    product = time.perf_counter()
    free, total = torch.cuda.mem_get_info()
    return {
        "import_s": imported - begin,
        "context_s": context - imported,
        "first_product_s": product - context,
        "used_mib": (total - free) / MIBI,
        "reserved_mib": torch.cuda.memory_reserved() / MIBI,
        "threads": torch.get_num_threads(),
    }
