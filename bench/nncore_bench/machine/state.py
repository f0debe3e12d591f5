"""The state of the machine at one moment, and what happened between two moments.

It reads counters that the kernel keeps anyway; nothing runs while a campaign measures.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from nncore_bench.machine.cpu import CPUS
from nncore_bench.machine.gpu import gpu_state
from nncore_bench.machine.reading import ROOT, figure, known, text

MEBI = 2**20


@dataclass(frozen=True)
class State:
    """One reading of the machine's counters; what could not be read is None.

    `busy_s`, `stolen_s` and `own_s` are seconds of processor time: of all programs, of other guests of the
    same hypervisor while programs here wanted it, and of this process and its children. `cpu_throttles` and
    `swapped_in_bytes` count from the start of the machine.
    """

    wall_s: float
    load: float | None = None
    busy_s: float | None = None
    stolen_s: float | None = None
    own_s: float | None = None
    cpu_throttles: float | None = None
    swapped_in_bytes: float | None = None
    gpu: Mapping[str, Any] = field(default_factory=dict)


def state_now(*, with_gpu: bool = False, environment: Mapping[str, str] = os.environ) -> State:
    """Read the machine's counters, and on request those of the GPU that `environment` shows."""
    return State(
        wall_s=time.monotonic(),
        load=_figure(lambda: round(os.getloadavg()[0], 2)),
        busy_s=_figure(lambda: _busy_s(psutil.cpu_times())),
        stolen_s=_figure(lambda: psutil.cpu_times().steal),
        own_s=_figure(lambda: tree_s(psutil.Process())),
        cpu_throttles=_figure(cpu_throttles),
        swapped_in_bytes=_figure(lambda: psutil.swap_memory().sin),
        gpu=gpu_state(environment) if with_gpu else {},
    )


def _figure(read: Callable[[], object]) -> float | None:
    return figure(known(read))


def _busy_s(times: object) -> float:
    """Return the seconds in which processors worked; waiting for a disk is no work, and guests are users."""
    return float(sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq")))


def tree_s(process: psutil.Process) -> float:
    """Return the processor seconds of a process and its children, including those that have ended."""
    total = 0.0
    for member in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):  # one may end meanwhile; its seconds are then its parent's
            times = member.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def cpu_throttles(root: Path = ROOT) -> int | None:
    """Return how often processors slowed down for heat since the machine started, over all counters."""
    paths = (root / CPUS).glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
    counts = [int(count) for path in paths if (count := text(path)) and count.isdecimal()]
    return sum(counts) if counts else None


def meanwhile(before: State, after: State) -> dict[str, Any]:
    """Return what is known to have happened between two readings, by name.

    `others_cores_during` is how many cores other programs kept busy on average, `stolen_share_during` the
    share of the wanted processor time that the hypervisor gave to others.
    """
    busy, own = _more(before.busy_s, after.busy_s), _more(before.own_s, after.own_s)
    stolen, wall = _more(before.stolen_s, after.stolen_s), after.wall_s - before.wall_s
    facts = {
        "load_after": after.load,
        "others_cores_during": _share(None if busy is None or own is None else busy - own, wall),
        "stolen_share_during": _share(stolen, (busy or 0.0) + (stolen or 0.0)),
        "cpu_throttles_during": _more(before.cpu_throttles, after.cpu_throttles),
        "swapped_in_mib_during": _share(_more(before.swapped_in_bytes, after.swapped_in_bytes), MEBI),
        "gpu_sm_mhz_after": figure(after.gpu.get("sm_mhz")),
        "gpu_throttle_after": after.gpu.get("throttles"),
    }
    for name in ("power", "thermal"):
        held = [figure(one.gpu.get(f"{name}_held_s")) for one in (before, after)]
        facts[f"gpu_{name}_held_share_during"] = _share(_more(*held), wall)
    return {name: fact for name, fact in facts.items() if fact is not None}


def _more(before: float | None, after: float | None) -> float | None:
    """Return the growth of a counter: 0 if it was set back in between, None if a reading is unknown."""
    return None if before is None or after is None else max(0.0, after - before)


def _share(part: float | None, whole: float) -> float | None:
    return None if part is None or whole <= 0 else round(max(0.0, part) / whole, 4)
