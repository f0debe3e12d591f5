"""What this process may use of the machine: the limits of its control groups, its cores, its memory.

A limit holds for all groups below it, so the tightest on the way to the top counts. Version 1 is not read.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import psutil

from nncore_bench.machine.reading import ROOT, UNKNOWN, known, text

GIBI = 2**30
NO_LIMIT = "no limit"
GROUPS = "sys/fs/cgroup"
VERSION_2 = "0::"
Limit: TypeAlias = float | str
"""A figure, or one of the words `no limit` and `unknown`."""


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
    return _tightest("cpu.max", lambda quota, period: round(int(quota) / int(period), 3), root)


def cgroup_memory_gib(root: Path = ROOT) -> Limit:
    """Return how many GiB of memory the control groups allow."""
    return _tightest("memory.max", lambda limit: _gib(int(limit)), root)


def _tightest(file: str, figure: Callable[..., float], root: Path) -> Limit:
    """Return the smallest limit on the way from this process's group to the top."""
    groups = list(_groups(root))
    limits = [known(_limit, group / file, figure) for group in groups]
    figures = [limit for limit in limits if limit != NO_LIMIT]
    return UNKNOWN if UNKNOWN in limits or not groups else min(figures, default=NO_LIMIT)


def _limit(file: Path, figure: Callable[..., float]) -> Limit:
    """Return what a file says; the top of all groups has none."""
    words = file.read_text().split() if file.exists() else ["max"]
    return NO_LIMIT if words[0] == "max" else figure(*words)


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of this process's group and of all groups above it, where they can be seen.

    A group outside the mount shows as dots. Where version 1 holds the controllers its mount is no group.
    """
    mount = root / GROUPS
    listed = (text(root / "proc/self/cgroup") or "").splitlines()
    for path in (line.removeprefix(VERSION_2) for line in listed if line.startswith(VERSION_2)):
        below = [part for part in path.split("/") if part not in ("", ".", "..")]
        folders = [mount.joinpath(*below[:depth]) for depth in range(len(below), -1, -1)]
        yield from (folder for folder in folders if (folder / "cgroup.procs").exists())


def _gib(number: float) -> float:
    return round(number / GIBI, 1)
