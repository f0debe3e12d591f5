"""A stand-in for NVIDIA's management library, with three GPUs."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

UUIDS = ("GPU-aaaa-1", "GPU-aabb-2", "GPU-cccc-3")
READINGS: dict[str, Any] = {
    "nvmlInit": None,
    "nvmlShutdown": None,
    "nvmlDeviceGetCount": len(UUIDS),
    "nvmlSystemGetDriverVersion": "999.1",
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=80 * 2**30, used=2**29),
    "nvmlDeviceGetCudaComputeCapability": (9, 0),
    "nvmlDeviceGetNumGpuCores": 16896,
    "nvmlDeviceGetMemoryBusWidth": 5120,
    "nvmlDeviceGetCurrPcieLinkWidth": 8,
    "nvmlDeviceGetMaxPcieLinkWidth": 16,
    "nvmlDeviceGetMaxPcieLinkGeneration": 5,
    "nvmlDeviceGetMaxClockInfo": 1980,
    "nvmlDeviceGetClockInfo": 345,
    "nvmlDeviceGetEnforcedPowerLimit": 700_000,
    "nvmlDeviceGetPowerUsage": 68_400,
    "nvmlDeviceGetTemperature": 31,
    "nvmlDeviceGetComputeRunningProcesses": ["a notebook"],
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=35, memory=12),
    "nvmlDeviceGetPersistenceMode": 1,
    "nvmlDeviceGetEccMode": [1, 1],
    "nvmlDeviceGetMigMode": [0, 0],
    "nvmlDeviceGetComputeMode": 3,
    "nvmlDeviceGetCurrentClocksThrottleReasons": 0x1 | 0x20,
    "nvmlDeviceGetViolationStatus": SimpleNamespace(violationTime=1_500_000_000),
}


def library(**changes: Callable[..., object] | None) -> ModuleType:
    """Return a stand-in for NVIDIA's library with three GPUs, changed; None takes a function away."""
    made = ModuleType("pynvml")
    functions: dict[str, Callable[..., object] | None] = {
        name: lambda *_, value=value: value for name, value in READINGS.items()
    }
    functions["nvmlDeviceGetHandleByIndex"] = lambda number: number
    functions["nvmlDeviceGetUUID"] = UUIDS.__getitem__
    functions["nvmlDeviceGetName"] = lambda number: f"Made-up GPU {number}"
    for name, function in (functions | changes).items():
        if function is not None:
            setattr(made, name, function)
    for number, name in enumerate(("CLOCK_SM", "CLOCK_MEM", "TEMPERATURE_GPU")):
        setattr(made, f"NVML_{name}", number)
    made.NVML_PERF_POLICY_POWER, made.NVML_PERF_POLICY_THERMAL = 0, 1  # type: ignore[attr-defined]
    return made


def refuse(*_: object) -> None:
    """Refuse, as a driver does that lacks a permission or a feature."""
    raise RuntimeError("Not Supported")
