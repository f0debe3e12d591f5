"""The fingerprint of a machine: the recorded facts that decide whether two runs may be compared.

A fact decides unless it is listed here, so that a new one counts until somebody says why it need not. Two
GPUs of one model differ by a few percent, so even the UUID counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nncore_bench.machine.reading import UNKNOWN

INDECISIVE = frozenset(
    {
        # These change from minute to minute: they explain a disturbance, and notices warn of them.
        *("load_before", "load_after", "others_cores_during", "stolen_share_during", "cpu_mhz"),
        *("cpu_throttles_during", "swapped_in_mib_during", "memory_available_gib", "swap_used_gib"),
        *("power_supply", "gpu_sm_mhz_before", "gpu_sm_mhz_after", "gpu_memory_mhz_before"),
        *("gpu_power_before_w", "gpu_celsius_before", "gpu_memory_used_gib", "gpu_throttle_before"),
        *("gpu_programs_before", "gpu_busy_before", "gpu_throttle_after"),
        *("gpu_power_held_share_during", "gpu_thermal_held_share_during"),
        # These are on record for whoever repeats a run, and no step runs through them.
        *("package_torchvision", "package_scipy", "package_scikit_learn", "package_pandas"),
        *("package_pytest", "package_pytest_benchmark", "package_msgspec", "product", "swap_gib"),
        # The facts of the GPU that was chosen show which it was.
        *("cuda_visible_devices", "cuda_device_order", "gpu_count", "gpu_persistence_mode"),
    }
)
"""Facts that may differ between two runs of one machine and one software."""

GPU = "gpu"


@dataclass(frozen=True)
class Difference:
    """A deciding fact and its values on two machines; None if a machine has no such fact."""

    name: str
    a: Any
    b: Any


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """Return the deciding facts in which two machines differ, in the order in which they were recorded.

    A fact that one run did not record or could not read is no difference, unless it is a GPU.
    """
    found = [Difference(name, a.get(name), b.get(name)) for name in {**a, **b} if name not in INDECISIVE]
    unknown = (None, UNKNOWN)
    return [
        one
        for one in found
        if one.a != one.b and (one.name == GPU or (one.a not in unknown and one.b not in unknown))
    ]
