"""Facts of the GPU that torch would use, by NVIDIA's management library, without touching CUDA.

A process that has initialised CUDA cannot fork, so nothing here asks torch.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import Any, TypeAlias

from nncore_bench.machine.reading import UNKNOWN, known
from nncore_bench.runs import NANO

GIBI = 2**30
MILLI = 1e-3
VISIBLE = "CUDA_VISIBLE_DEVICES"
ON = {0: "off", 1: "on"}
COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}
EXCLUSIVE = {COMPUTE_MODES[1], COMPUTE_MODES[3]}
"""In these modes a second process cannot have the GPU while one has."""

PROHIBITED = COMPUTE_MODES[2]
THROTTLES = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
    0x100: "display clocks",
}
"""The library's bits for why the clocks are not at their highest."""

Reading: TypeAlias = Callable[[ModuleType, Any], Any]


def _throttles(nvml: ModuleType, gpu: object) -> tuple[str, ...]:
    """Return why the clocks are not at their highest, in words."""
    bits = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)
    return tuple(word for bit, word in THROTTLES.items() if bits & bit)


def _held_s(nvml: ModuleType, gpu: object, policy: int) -> float:
    """Return for how many seconds a policy has held the clocks down since the driver was loaded."""
    return float(nvml.nvmlDeviceGetViolationStatus(gpu, policy).violationTime) * NANO


FIXED: dict[str, Reading] = {
    "gpu": lambda nvml, gpu: str(nvml.nvmlDeviceGetName(gpu)),
    "gpu_uuid": lambda nvml, gpu: str(nvml.nvmlDeviceGetUUID(gpu)),
    "gpu_count": lambda nvml, _: nvml.nvmlDeviceGetCount(),
    "gpu_driver": lambda nvml, _: str(nvml.nvmlSystemGetDriverVersion()),
    "gpu_memory_gib": lambda nvml, gpu: round(nvml.nvmlDeviceGetMemoryInfo(gpu).total / GIBI, 1),
    "gpu_capability": lambda nvml, gpu: ".".join(map(str, nvml.nvmlDeviceGetCudaComputeCapability(gpu))),
    "gpu_cores": lambda nvml, gpu: nvml.nvmlDeviceGetNumGpuCores(gpu),
    "gpu_memory_bus_bits": lambda nvml, gpu: nvml.nvmlDeviceGetMemoryBusWidth(gpu),
    "gpu_pcie_lanes": lambda nvml, gpu: nvml.nvmlDeviceGetMaxPcieLinkWidth(gpu),
    "gpu_pcie_generation_max": lambda nvml, gpu: nvml.nvmlDeviceGetMaxPcieLinkGeneration(gpu),
    "gpu_sm_mhz_max": lambda nvml, gpu: nvml.nvmlDeviceGetMaxClockInfo(gpu, nvml.NVML_CLOCK_SM),
    "gpu_memory_mhz_max": lambda nvml, gpu: nvml.nvmlDeviceGetMaxClockInfo(gpu, nvml.NVML_CLOCK_MEM),
    "gpu_power_limit_w": lambda nvml, gpu: round(nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) * MILLI),
    "gpu_persistence_mode": lambda nvml, gpu: ON[nvml.nvmlDeviceGetPersistenceMode(gpu)],
    "gpu_ecc_mode": lambda nvml, gpu: ON[nvml.nvmlDeviceGetEccMode(gpu)[0]],
    "gpu_mig_mode": lambda nvml, gpu: ON[nvml.nvmlDeviceGetMigMode(gpu)[0]],
    "gpu_compute_mode": lambda nvml, gpu: COMPUTE_MODES[nvml.nvmlDeviceGetComputeMode(gpu)],
}
MOMENTARY: dict[str, Reading] = {
    "gpu_sm_mhz_before": lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM),
    "gpu_memory_mhz_before": lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM),
    "gpu_power_before_w": lambda nvml, gpu: round(nvml.nvmlDeviceGetPowerUsage(gpu) * MILLI),
    "gpu_celsius_before": lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
    "gpu_memory_used_gib": lambda nvml, gpu: round(nvml.nvmlDeviceGetMemoryInfo(gpu).used / GIBI, 1),
    "gpu_programs_before": lambda nvml, gpu: len(nvml.nvmlDeviceGetComputeRunningProcesses(gpu)),
    "gpu_busy_before": lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu,
    "gpu_throttle_before": lambda nvml, gpu: ", ".join(_throttles(nvml, gpu)) or "none",
}
STATE: dict[str, Reading] = {
    "sm_mhz": MOMENTARY["gpu_sm_mhz_before"],
    "throttles": _throttles,
    # These count up for as long as the driver is loaded, so they also tell of what was over before we looked.
    "power_held_s": lambda nvml, gpu: _held_s(nvml, gpu, nvml.NVML_PERF_POLICY_POWER),
    "thermal_held_s": lambda nvml, gpu: _held_s(nvml, gpu, nvml.NVML_PERF_POLICY_THERMAL),
}


def gpu_facts(environment: Mapping[str, str], nvml: ModuleType | None = None) -> dict[str, Any]:
    """Return the facts of the GPU that torch would use; none of them where there is no GPU."""
    return _asked({**FIXED, **MOMENTARY}, environment, nvml)


def told_by_torch(facts: Mapping[str, Any], uuid: str, nvml: ModuleType | None = None) -> dict[str, Any]:
    """Return the facts of the GPU with the UUID that torch reports, where `facts` are of another one.

    CUDA puts the fastest first and the library goes by the bus, so that where GPUs differ the two may mean
    different ones. How this one was before the run is no longer known then. Nothing where the library does
    not know it: torch gives a slice (MIG) a UUID of its own.
    """
    if not uuid or facts.get("gpu_uuid") == f"GPU-{uuid}":
        return {}
    found = _asked(FIXED, visible(uuid), nvml)
    return {**found, **dict.fromkeys(MOMENTARY, UNKNOWN)} if found else {}


def visible(uuid: str) -> dict[str, str]:
    """Return the environment in which the GPU of a UUID, as torch reports it, is the only one."""
    return {VISIBLE: f"GPU-{uuid}"}


def chosen_gpu(number: int | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what workers need in their environment for one GPU, by CUDA's number of it, to be the only one.

    It is `cuda` then for whatever code is measured. Nothing for None; of a number too high, no GPU at all.
    """
    if number is None:
        return {}
    names = [name.strip() for name in environment.get(VISIBLE, str(number)).split(",")]
    place = number if VISIBLE in environment else 0
    return {VISIBLE: names[place] if place < len(names) else "-1"}


def gpu_state(environment: Mapping[str, str], nvml: ModuleType | None = None) -> dict[str, Any]:
    """Return how that GPU is at this moment: its clock, and what holds it back; nothing without a GPU."""
    return _asked(STATE, environment, nvml)


def visible_gpu(environment: Mapping[str, str], uuids: Sequence[str]) -> int | None:
    """Return which of all GPUs, in the order of the bus, is the first that CUDA would show a program.

    None where CUDA would show none. An index is taken as one in the order of the bus, which is what
    CUDA_DEVICE_ORDER=PCI_BUS_ID says and what holds anyway where all GPUs are alike.
    """
    wanted = environment.get(VISIBLE)
    names = ["0"] if wanted is None else [name.strip() for name in wanted.split(",")]
    if names.count(names[0]) > 1:  # CUDA takes a list that repeats itself for an empty one
        return None
    if names[0].isdecimal():
        return int(names[0]) if int(names[0]) < len(uuids) else None
    prefix = (
        names[0].removeprefix("MIG-").partition("/")[0]
    )  # a slice may carry the UUID of its GPU in its name
    found = [number for number, uuid in enumerate(uuids) if uuid.startswith(prefix)]
    return found[0] if prefix.startswith("GPU-") and len(found) == 1 else None


def _asked(
    readings: Mapping[str, Reading], environment: Mapping[str, str], nvml: ModuleType | None
) -> dict[str, Any]:
    """Return what the library reads; nothing where it is missing, will not open, or sees no such GPU."""
    try:
        # Imported only where facts are asked for, and never where a test brings its own.
        library = nvml or import_module("pynvml")
        library.nvmlInit()
    except Exception:  # noqa: BLE001 - no library, no driver, no permission: no facts
        return {}
    try:
        gpu = known(_handle, library, environment)
        return {} if gpu == UNKNOWN else {name: known(read, library, gpu) for name, read in readings.items()}
    finally:
        with suppress(Exception):
            library.nvmlShutdown()


def _handle(nvml: ModuleType, environment: Mapping[str, str]) -> object | None:
    """Return the library's handle of the GPU that torch would use."""
    handles: list[object] = [
        nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())
    ]
    number = visible_gpu(environment, [str(known(nvml.nvmlDeviceGetUUID, handle)) for handle in handles])
    if number is not None:
        return handles[number]
    wanted = environment.get(VISIBLE, "").partition(",")[0].strip()
    if not wanted.startswith("MIG-"):
        return None
    handle: object = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvml.nvmlDeviceGetHandleByUUID(wanted))
    return handle
