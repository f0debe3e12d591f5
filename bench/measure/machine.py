"""Facts of the machine and of the code measured, gathered without torch."""

import os
import platform
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from bench.runs import Code, Notice

GIBI = 2**30
BUSY_PER_CORE = 0.25


def machine_facts(environment: dict[str, str]) -> dict[str, Any]:
    """Return what decides the speed of this machine, name by name; what cannot be read is missing."""
    memory = psutil.virtual_memory()
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    return {
        "cpu_model": _cpu_model(),
        "cores_physical": psutil.cpu_count(logical=False),
        "cores_logical": psutil.cpu_count(),
        "cores_allowed": _cores_allowed(),
        "cpu_mhz": round(frequency.current) if frequency else None,
        "memory_gib": round(memory.total / GIBI, 1),
        "kernel": platform.release(),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "allocator_policy": " ".join(f"{k}={v}" for k, v in environment.items() if k.startswith("MALLOC_")),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        **_gpu_facts(),
    }


def _cores_allowed() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count()


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpu_facts() -> dict[str, Any]:
    """Return the facts of the first GPU by NVIDIA's management library, or none."""
    import pynvml  # noqa: PLC0415 - only where facts are asked for

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        readings = {
            "gpu": lambda: str(pynvml.nvmlDeviceGetName(handle)),
            "gpu_count": pynvml.nvmlDeviceGetCount,
            "gpu_driver": lambda: str(pynvml.nvmlSystemGetDriverVersion()),
            "gpu_memory_gib": lambda: round(pynvml.nvmlDeviceGetMemoryInfo(handle).total / GIBI, 1),
            "gpu_sm_mhz_before": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        }
        facts: dict[str, Any] = {}
        for name, read in readings.items():
            with suppress(pynvml.NVMLError):  # a partitioned GPU refuses some of them
                facts[name] = read()
    except pynvml.NVMLError:
        return {}
    else:
        return facts
    finally:
        pynvml.nvmlShutdown()


def host_name() -> str:
    """Return the machine's name in letters that are safe in file names."""
    name = socket.gethostname().split(".")[0]
    return "".join(sign if sign.isalnum() else "-" for sign in name) or "host"


def code_measured(directory: Path) -> Code:
    """Return which code is measured: the directory, its commit, and whether it was changed since."""
    commit = _git(directory, "rev-parse", "HEAD")
    return Code(str(directory), commit or "unknown", dirty=bool(_git(directory, "status", "--porcelain")))


def _git(directory: Path, *arguments: str) -> str:
    try:
        result = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(directory), *arguments],  # noqa: S607 - the user's own git
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def notices(facts: dict[str, Any], threads: Sequence[int | str]) -> tuple[Notice, ...]:
    """Return warnings about the machine's state and what was asked of it, each with a next step."""
    cores = facts.get("cores_allowed") or 1
    most = max((count for count in threads if isinstance(count, int)), default=1)
    found = []
    if facts["load_before"] > BUSY_PER_CORE * cores:
        found.append(
            Notice(
                f"the load average was {facts['load_before']} on {cores} cores before the run began",
                "wait until other programs have ended, or read the disturbance column with this in mind",
            )
        )
    if most > cores:
        found.append(
            Notice(
                f"{most} threads were asked for on {cores} cores",
                "choose at most as many as there are cores: threads that wait for a core slow a step down",
            )
        )
    return tuple(found)
