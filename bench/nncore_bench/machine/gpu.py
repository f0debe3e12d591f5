"""Facts of the GPU that torch would use, from NVIDIA's management library (NVML).

A process that has initialised CUDA cannot fork, so nothing here calls torch.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import Any, TypeAlias

from nncore_bench.machine.reading import UNKNOWN, gib, known
from nncore_bench.runs import NANO

MILLI = 1e-3
VISIBLE = "CUDA_VISIBLE_DEVICES"
ON = {0: "off", 1: "on"}
COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}
EXCLUSIVE = {COMPUTE_MODES[1], COMPUTE_MODES[3]}
"""Modes in which only one process at a time can use the GPU."""

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
"""The reasons why clocks are below their maximum, by the library's bits."""

Reading: TypeAlias = Callable[[ModuleType, Any], Any]


def _throttles(nvml: ModuleType, gpu: object) -> str:
    bits = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)
    return ", ".join(word for bit, word in THROTTLES.items() if bits & bit) or "none"


def _held_s(nvml: ModuleType, gpu: object, policy: int) -> float:
    """Return the seconds for which a policy has held the clocks down since the driver was loaded."""
    return float(nvml.nvmlDeviceGetViolationStatus(gpu, policy).violationTime) * NANO


FIXED: dict[str, Reading] = {
    "gpu": lambda nvml, gpu: str(nvml.nvmlDeviceGetName(gpu)),
    "gpu_uuid": lambda nvml, gpu: str(nvml.nvmlDeviceGetUUID(gpu)),
    "gpu_count": lambda nvml, _: nvml.nvmlDeviceGetCount(),
    "gpu_driver": lambda nvml, _: str(nvml.nvmlSystemGetDriverVersion()),
    "gpu_memory_gib": lambda nvml, gpu: gib(nvml.nvmlDeviceGetMemoryInfo(gpu).total),
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
    "gpu_memory_used_gib": lambda nvml, gpu: gib(nvml.nvmlDeviceGetMemoryInfo(gpu).used),
    "gpu_programs_before": lambda nvml, gpu: len(nvml.nvmlDeviceGetComputeRunningProcesses(gpu)),
    "gpu_busy_before": lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu,
    "gpu_throttle_before": _throttles,
}
STATE: dict[str, Reading] = {
    "sm_mhz": MOMENTARY["gpu_sm_mhz_before"],
    "throttles": _throttles,
    # These counters run while the driver is loaded, so they include what was over before the reading.
    "power_held_s": lambda nvml, gpu: _held_s(nvml, gpu, nvml.NVML_PERF_POLICY_POWER),
    "thermal_held_s": lambda nvml, gpu: _held_s(nvml, gpu, nvml.NVML_PERF_POLICY_THERMAL),
}


def gpu_facts(environment: Mapping[str, str], nvml: ModuleType | None = None) -> dict[str, Any]:
    """Return the facts of the GPU that torch would use; empty without a GPU."""
    return _asked({**FIXED, **MOMENTARY}, environment, nvml)


def gpu_facts_by_uuid(facts: Mapping[str, Any], uuid: str, nvml: ModuleType | None = None) -> dict[str, Any]:
    """Return the facts of the GPU with the UUID that torch reports, if `facts` are of another one.

    CUDA puts the fastest GPU first and NVML sorts by bus, so the two may disagree if GPUs differ. The state
    before the run is then unknown. Empty if NVML does not know the UUID: torch gives a slice (MIG) its own.
    """
    if not uuid or facts.get("gpu_uuid") == f"GPU-{uuid}":
        return {}
    found = _asked(FIXED, visible(uuid), nvml)
    return {**found, **dict.fromkeys(MOMENTARY, UNKNOWN)} if found else {}


def visible(uuid: str) -> dict[str, str]:
    """Return the environment that shows only the GPU with a UUID, as torch reports it."""
    return {VISIBLE: f"GPU-{uuid}"}


def chosen_gpu(number: int | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that shows workers only one GPU, by CUDA's number.

    The code measured then sees it as `cuda`. Empty for None; a number too high shows no GPU at all.
    """
    if number is None:
        return {}
    names = [name.strip() for name in environment.get(VISIBLE, str(number)).split(",")]
    index = number if VISIBLE in environment else 0
    return {VISIBLE: names[index] if index < len(names) else "-1"}


def gpu_state(environment: Mapping[str, str], nvml: ModuleType | None = None) -> dict[str, Any]:
    """Return the current clock of that GPU and what holds it down; empty without a GPU."""
    return _asked(STATE, environment, nvml)


def visible_gpu(environment: Mapping[str, str], uuids: Sequence[str]) -> int | None:
    """Return the index, in the order of the bus, of the first GPU that CUDA would show a program.

    None if CUDA would show none. An index in the environment is taken to be in the order of the bus, which
    CUDA_DEVICE_ORDER=PCI_BUS_ID requests and which holds anyway if all GPUs are alike.
    """
    names = [name.strip() for name in environment.get(VISIBLE, "0").split(",")]
    if names.count(names[0]) > 1:  # CUDA takes a list that repeats itself for an empty one
        return None
    if names[0].isdecimal():
        return int(names[0]) if int(names[0]) < len(uuids) else None
    prefix = names[0].removeprefix("MIG-").partition("/")[0]  # a slice's name may contain its GPU's UUID
    found = [number for number, uuid in enumerate(uuids) if uuid.startswith(prefix)]
    return found[0] if prefix.startswith("GPU-") and len(found) == 1 else None


def _asked(
    readings: Mapping[str, Reading], environment: Mapping[str, str], nvml: ModuleType | None
) -> dict[str, Any]:
    """Return what the library reads; empty if it is missing, will not open, or sees no such GPU."""
    try:
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
    handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
    number = visible_gpu(environment, [str(known(nvml.nvmlDeviceGetUUID, handle)) for handle in handles])
    wanted, handle = environment.get(VISIBLE, "").partition(",")[0].strip(), None
    if number is not None:
        handle = handles[number]
    elif wanted.startswith("MIG-"):
        handle = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvml.nvmlDeviceGetHandleByUUID(wanted))
    return handle
