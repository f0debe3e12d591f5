"""Facts of the machine and of the code measured, gathered without torch."""

import os
import platform
import socket
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nncore_bench.machine.cgroup import limit_facts
from nncore_bench.machine.cpu import processor_facts
from nncore_bench.machine.gpu import gpu_facts
from nncore_bench.machine.reading import ROOT, UNKNOWN, known
from nncore_bench.runs import Code

UNSET = "unset"
PACKAGES = (
    *("torchvision", "numpy", "scipy", "scikit-learn", "pandas", "pytest", "pytest-benchmark", "msgspec"),
)
PASSED_ON = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"),
    *("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG"),
    *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "ATEN_CPU_CAPABILITY"),
)
"""Variables recorded in fields of their own, named after them."""

THREADING = ("OMP_", "KMP_", "GOMP_", "MKL_", "DNNL_", "ONEDNN_", "OPENBLAS_")
"""Prefixes of variables that place threads, keep them awake, or choose instruction sets."""


def machine_facts(
    policy: Mapping[str, str], root: Path = ROOT, environment: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """Return the facts that decide the speed of this machine; what cannot be read is the word unknown.

    `policy` holds the variables set for the workers, of which only the allocator's are recorded, and
    `environment` those that they inherit.
    """
    return {
        **processor_facts(root),
        **limit_facts(root),
        **software_facts(environment),
        "load_before": known(lambda: round(os.getloadavg()[0], 2)),
        "allocator_policy": " ".join(f"{k}={v}" for k, v in policy.items() if k.startswith("MALLOC_")),
        **gpu_facts(environment),
    }


def software_facts(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the versions of the software around torch, and the variables that steer it."""
    return {
        "kernel": known(platform.release),
        "system": known(platform.system),
        "libc": known(lambda: " ".join(platform.libc_ver()).strip()),
        "python": known(platform.python_version),
        "python_implementation": known(platform.python_implementation),
        "python_compiler": known(platform.python_compiler),
        **{f"package_{name.replace('-', '_')}": known(version, name) for name in PACKAGES},
        **{name.lower(): environment.get(name) or UNSET for name in PASSED_ON},
        "threading_environment": _threading_environment(environment),
    }


def _threading_environment(environment: Mapping[str, str]) -> str:
    """Return the variables that steer threads and have no field of their own, on one line."""
    found = {name: value for name, value in environment.items() if name.startswith(THREADING)}
    return " ".join(f"{name}={found[name]}" for name in sorted(found) if name not in PASSED_ON) or UNSET


def host_name() -> str:
    """Return the machine's name in letters that are safe in file names."""
    name = socket.gethostname().split(".")[0]
    return "".join(sign if sign.isalnum() else "-" for sign in name) or "host"


def code_measured(directory: Path) -> Code:
    """Return the code measured: its directory, its commit, and whether it has uncommitted changes."""
    changes = known(_git, directory, "status", "--porcelain")
    return Code(str(directory), known(_git, directory, "rev-parse", "HEAD"), dirty=changes != UNKNOWN)


def _git(directory: Path, *arguments: str) -> str:
    command = ["git", "-C", str(directory), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 - fixed arguments
    return done.stdout.strip()
