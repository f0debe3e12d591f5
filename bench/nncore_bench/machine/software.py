"""Facts of the software around torch: the system, Python, packages, and the environment that steers them."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from nncore_bench.machine.reading import known

UNSET = "unset"
PACKAGES = (
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "pytest",
    "pytest-benchmark",
    "msgspec",
)
PASSED_ON = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"),
    *("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG"),
    *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "ATEN_CPU_CAPABILITY"),
)
"""Variables with a field of their own, named like them."""

THREADING = ("OMP_", "KMP_", "GOMP_", "MKL_", "DNNL_", "ONEDNN_", "OPENBLAS_")
"""How the names of variables begin that place threads, keep them awake, or choose instruction sets."""


def software_facts(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the versions of what runs around torch, and the variables that steer it."""
    return {
        "kernel": known(platform.release),
        "system": known(platform.system),
        "libc": known(lambda: " ".join(platform.libc_ver()).strip()),
        "python": known(platform.python_version),
        "python_implementation": known(platform.python_implementation),
        "python_compiler": known(platform.python_compiler),
        **{f"package_{name.replace('-', '_')}": known(version, name) for name in PACKAGES},
        **{name.lower(): environment.get(name) or UNSET for name in PASSED_ON},
        "threading_environment": threading_environment(environment),
    }


def threading_environment(environment: Mapping[str, str]) -> str:
    """Return the variables that steer threads and have no field of their own, in one line."""
    found = {name: value for name, value in environment.items() if name.startswith(THREADING)}
    return " ".join(f"{name}={found[name]}" for name in sorted(found) if name not in PASSED_ON) or UNSET
