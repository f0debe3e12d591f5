"""Facts of the machine and of the code measured, gathered without torch."""

import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nncore_bench.machine.cgroup import limit_facts
from nncore_bench.machine.cpu import processor_facts
from nncore_bench.machine.gpu import gpu_facts
from nncore_bench.machine.reading import ROOT, known
from nncore_bench.machine.software import software_facts
from nncore_bench.runs import Code


def machine_facts(
    policy: Mapping[str, str], root: Path = ROOT, environment: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """Return what decides the speed of this machine, name by name; what cannot be read is the word unknown.

    `policy` holds the variables that the workers are started with, of which the allocator's are a fact, and
    `environment` all that steers them beside.
    """
    return {
        **processor_facts(root),
        **limit_facts(root),
        **software_facts(environment),
        "load_before": known(lambda: round(os.getloadavg()[0], 2)),
        "allocator_policy": " ".join(f"{k}={v}" for k, v in policy.items() if k.startswith("MALLOC_")),
        **gpu_facts(environment),
    }


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
