"""Limits of this process on the machine: its control groups, its cores and its memory.

A limit holds for every group below, so the tightest on the way to the top counts. Version 1 is not read.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from nncore_bench.machine.reading import ROOT, UNKNOWN, gib, known, text

NO_LIMIT = "no limit"
VERSION_2 = "0::"


def limit_facts(root: Path = ROOT) -> dict[str, Any]:
    """Return what this process may use of the machine, by name.

    `cgroup_cpus` is in cores' worth of time, `cgroup_memory_gib` in GiB; either may be the words no limit.
    """
    memory, swap = known(psutil.virtual_memory), known(psutil.swap_memory)
    return {
        "cores_allowed": known(_cores_allowed),
        "affinity": known(lambda: sorted(os.sched_getaffinity(0))),
        "cgroup_cpus": known(_tightest, "cpu.max", lambda us, of_us: round(int(us) / int(of_us), 3), root),
        "cgroup_memory_gib": known(_tightest, "memory.max", lambda limit: gib(int(limit)), root),
        "memory_gib": known(lambda: gib(memory.total)),
        "memory_available_gib": known(lambda: gib(memory.available)),
        "swap_gib": known(lambda: gib(swap.total)),
        "swap_used_gib": known(lambda: gib(swap.used)),
        "transparent_hugepages": known(_transparent_hugepages, root),
    }


def _cores_allowed() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count()


def _transparent_hugepages(root: Path) -> str | None:
    """Return the setting that the kernel puts in brackets."""
    words = (text(root / "sys/kernel/mm/transparent_hugepage/enabled") or "").split()
    return next((word.strip("[]") for word in words if word.startswith("[")), None)


def _tightest(file: str, figure: Callable[..., float], root: Path) -> float | str:
    """Return the smallest limit on the way from this process's group to the top, which has no such file."""
    limits = [
        limit.read_text().split() if (limit := group / file).exists() else ["max"] for group in _groups(root)
    ]
    figures = [figure(*words) for words in limits if words[0] != "max"]
    return min(figures, default=NO_LIMIT) if limits else UNKNOWN


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of this process's group and of all groups above it, as far as they are visible.

    A group outside the mount shows as dots. Where version 1 has the controllers, its mount is not a group.
    """
    mount = root / "sys/fs/cgroup"
    listed = (text(root / "proc/self/cgroup") or "").splitlines()
    for path in (line.removeprefix(VERSION_2) for line in listed if line.startswith(VERSION_2)):
        group = mount.joinpath(*(part for part in path.split("/") if part not in ("", ".", "..")))
        for folder in (group, *group.parents):
            if folder.is_relative_to(mount) and (folder / "cgroup.procs").exists():
                yield folder
