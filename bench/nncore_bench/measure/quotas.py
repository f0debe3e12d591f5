"""What this process may use of the machine: the limits of its control groups, its cores, its memory.

A control group's limits hold for all groups below it, so the tightest one on the way to the top counts.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import psutil

from nncore_bench.measure.reading import ROOT, UNKNOWN, known, text

GIBI = 2**30
NO_LIMIT = "no limit"
NO_LIMIT_BYTES = 2**60
"""Version 1 has no word for no limit, and writes the largest number of whole pages."""

GROUPS = "sys/fs/cgroup"
Limit: TypeAlias = float | str
"""A figure, or one of the words `no limit` and `unknown`."""

Reader: TypeAlias = Callable[[Path], Limit]


def limit_facts(root: Path = ROOT) -> dict[str, Any]:
    """Return what this process may use of the machine, name by name."""
    memory, swap = known(psutil.virtual_memory), known(psutil.swap_memory)
    return {
        "cores_allowed": known(cores_allowed),
        "affinity": known(lambda: sorted(os.sched_getaffinity(0))),
        "cgroup_cpus": known(cgroup_cpus, root),
        "cgroup_memory_gib": known(cgroup_memory_gib, root),
        "memory_gib": known(lambda: _gib(memory.total)),
        "memory_available_gib": known(lambda: _gib(memory.available)),
        "swap_gib": known(lambda: _gib(swap.total)),
        "swap_used_gib": known(lambda: _gib(swap.used)),
        "transparent_hugepages": known(transparent_hugepages, root),
    }


def cores_allowed() -> int | None:
    """Return on how many cores this process may run."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count()


def transparent_hugepages(root: Path = ROOT) -> str | None:
    """Return the setting that the kernel marks by brackets."""
    marked = text(root / "sys/kernel/mm/transparent_hugepage/enabled") or ""
    return next((word.strip("[]") for word in marked.split() if word.startswith("[")), None)


def cgroup_cpus(root: Path = ROOT) -> Limit:
    """Return how many cores' worth of time the control groups allow."""
    return _tightest("cpu", _cpus_of, root)


def cgroup_memory_gib(root: Path = ROOT) -> Limit:
    """Return how many GiB of memory the control groups allow."""
    limit = _tightest("memory", _bytes_of, root)
    return limit if isinstance(limit, str) else _gib(limit)


def _tightest(controller: str, read: Reader, root: Path) -> Limit:
    """Return the smallest limit on the way from this process's group to the top."""
    groups = list(_groups(controller, root))
    if not groups:
        return UNKNOWN
    limits = [known(read, group) for group in groups]
    figures = [limit for limit in limits if not isinstance(limit, str)]
    return UNKNOWN if UNKNOWN in limits else min(figures, default=NO_LIMIT)


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folders of this process's group and of all groups above it, where they can be seen."""
    for line in (text(root / "proc/self/cgroup") or "").splitlines():
        _, names, path = line.split(":", 2) if line.count(":") > 1 else ("", "-", "")
        if controller in names.split(",") or not names:
            for mount in _mounts(names, controller, root):
                yield from _upward(mount, path)


def _mounts(names: str, controller: str, root: Path) -> list[Path]:
    """Return where version 1 mounts a controller, or version 2 all of them, alone or beside version 1."""
    folders = [names, controller] if names else [".", "unified"]
    found = [root / GROUPS / folder for folder in dict.fromkeys(folders)]
    marker = "cgroup.procs"  # every group has one, and a folder that merely holds mounts has not
    return [folder for folder in found if (folder / marker).exists()]


def _upward(mount: Path, path: str) -> Iterator[Path]:
    """Yield the folders from a group up to its mount; a group outside the mount shows as dots."""
    below = [part for part in path.split("/") if part not in ("", ".", "..")]
    folders = [mount.joinpath(*below[:depth]) for depth in range(len(below), -1, -1)]
    yield from (folder for folder in folders if folder.is_dir())


def _cpus_of(group: Path) -> Limit:
    """Return the cores' worth of time that one group allows."""
    if (group / "cpu.max").exists():
        quota, period = (group / "cpu.max").read_text().split()
    elif (group / "cpu.cfs_quota_us").exists():
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    else:
        return NO_LIMIT
    return NO_LIMIT if quota in ("max", "-1") else round(int(quota) / int(period), 3)


def _bytes_of(group: Path) -> Limit:
    for name in ("memory.max", "memory.limit_in_bytes"):
        if (group / name).exists():
            limit = (group / name).read_text().strip()
            return NO_LIMIT if limit == "max" or int(limit) >= NO_LIMIT_BYTES else int(limit)
    return NO_LIMIT


def _gib(number: float) -> float:
    return round(number / GIBI, 1)
