"""The fingerprint of a machine: which of its recorded facts decide whether two runs may be compared.

Only the hard ones do; the tests fail for a fact that is neither hard nor indecisive.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nncore_bench.machine.reading import UNKNOWN

HARD = frozenset(
    {
        *("cpu_model", "cpu_vendor", "cpu_architecture", "cpu_flags", "cpu_microcode", "cpu_mhz_max"),
        *("cores_physical", "cores_logical", "cores_allowed", "affinity", "hyper_threading", "numa_nodes"),
        *("cache_l1d_kib", "cache_l2_kib", "cache_l3_kib", "cpu_governor", "cpu_turbo", "virtual_machine"),
        *("cgroup_cpus", "cgroup_memory_gib", "memory_gib", "transparent_hugepages"),
        *("kernel", "system", "libc", "python", "python_implementation", "python_compiler", "package_numpy"),
        *("omp_num_threads", "mkl_num_threads", "threading_environment", "ld_preload", "allocator_policy"),
        *("pytorch_cuda_alloc_conf", "pytorch_alloc_conf", "cuda_launch_blocking", "cublas_workspace_config"),
        *("nvidia_tf32_override", "torch_allow_tf32_cublas_override", "aten_cpu_capability"),
        *("torch", "torch_git", "torch_threads", "torch_interop_threads", "torch_cuda_build", "torch_cudnn"),
        *("torch_debug_build", "torch_cpu_capability", "torch_default_dtype", "torch_deterministic"),
        *("mkl", "mkldnn", "openmp", "float32_matmul_precision", "matmul_allow_tf32"),
        *("cudnn_benchmark", "cudnn_deterministic", "cudnn_allow_tf32"),
        # Two GPUs of one model differ by a few percent, so its UUID counts.
        *("gpu", "gpu_uuid", "gpu_driver", "gpu_memory_gib", "gpu_capability", "gpu_cores"),
        *("gpu_memory_bus_bits", "gpu_pcie_lanes", "gpu_pcie_generation_max", "gpu_sm_mhz_max"),
        *("gpu_memory_mhz_max", "gpu_power_limit_w", "gpu_ecc_mode", "gpu_mig_mode", "gpu_compute_mode"),
    }
)
"""A step may take another time where one of these is another."""

INDECISIVE = frozenset(
    {
        # These change from minute to minute: they explain a disturbance, and a notice tells of them.
        *("load_before", "load_after", "others_cores_during", "stolen_share_during", "cpu_mhz"),
        *("cpu_throttles_during", "swapped_in_mib_during", "memory_available_gib", "swap_used_gib"),
        *("power_supply", "gpu_sm_mhz_before", "gpu_sm_mhz_after", "gpu_memory_mhz_before"),
        *("gpu_power_before_w", "gpu_celsius_before", "gpu_memory_used_gib", "gpu_throttle_before"),
        *("gpu_programs_before", "gpu_busy_before", "gpu_throttle_after"),
        *("gpu_power_held_share_during", "gpu_thermal_held_share_during"),
        # These are on record for whoever repeats a run, and no step runs through them.
        *("package_torchvision", "package_scipy", "package_scikit_learn", "package_pandas"),
        *("package_pytest", "package_pytest_benchmark", "package_msgspec", "product", "swap_gib"),
        # Which GPU was chosen, and how, shows in the facts of that GPU.
        *("cuda_visible_devices", "cuda_device_order", "gpu_count", "gpu_persistence_mode"),
    }
)
GPU = "gpu"


@dataclass(frozen=True)
class Difference:
    """Name a hard fact that two machines do not share, and its values; None where one has no such fact."""

    name: str
    a: Any
    b: Any


def fingerprint(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts by which two runs may or may not be compared."""
    return {name: value for name, value in facts.items() if name in HARD}


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """Return the hard facts in which two machines differ, in the order in which they were recorded.

    A fact that one run did not record or could not read tells nothing apart, unless it is a GPU.
    """
    names = dict.fromkeys([*fingerprint(a), *fingerprint(b)])
    return [
        Difference(name, a.get(name), b.get(name))
        for name in names
        if a.get(name) != b.get(name) and (name == GPU or (_is_known(a, name) and _is_known(b, name)))
    ]


def _is_known(facts: Mapping[str, Any], name: str) -> bool:
    return facts.get(name) not in (None, UNKNOWN)


def unclassified(facts: Mapping[str, Any]) -> set[str]:
    """Return the names of facts in neither set, so that nobody adds one without deciding what it decides."""
    return set(facts) - HARD - INDECISIVE
