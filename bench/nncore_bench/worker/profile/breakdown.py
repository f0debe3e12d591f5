"""Break down the wall-clock time of a step, without overlaps or gaps.

A moment at which several things run counts for the first of this order: kernel, copy and memset on the
device, runtime call and operator on the host; the rest is Python and everything else. The order is that of
Kineto's TensorBoard plugin (tb_plugin/docs), which is no longer maintained.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from nncore_bench.records import Account, DeviceActivity
from nncore_bench.runs import NANO
from nncore_bench.worker.profile.trace import COPY, KERNEL, MEMSET, ON_DEVICE, OPERATOR, RUNTIME, Event

GRAPH_LAUNCH = "GraphLaunch"
"""Part of the name of the call that launches a whole graph, in CUDA and in HIP."""

Interval: TypeAlias = tuple[int, int]
"""Start and end, in nanoseconds."""

ORDER: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("kernel_s", (KERNEL,)),
    ("copy_s", (COPY,)),
    ("memset_s", (MEMSET,)),
    ("runtime_s", RUNTIME),
    ("operator_s", (OPERATOR,)),
)


def account_of(
    phase: str, windows: Sequence[Interval], events: Sequence[Event], times: int | None = None
) -> Account:
    """Return how disjoint windows were spent, in seconds: the mean of `times`, by default one per window."""
    times = times or len(windows)
    spent: dict[str, float] = {}
    taken: list[Interval] = []
    before = 0
    for name, categories in ORDER:
        own = [(event.start_ns, event.end_ns) for event in events if event.category in categories]
        taken = union([*taken, *within(windows, own)])
        covered = length(taken)
        spent[name] = (covered - before) * NANO / times
        before = covered
    return Account(phase, **spent, python_s=(length(windows) - before) * NANO / times)


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """Merge intervals that touch or overlap, in order."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def within(windows: Sequence[Interval], intervals: Iterable[Interval]) -> list[Interval]:
    """Return the parts of the intervals that lie in any of the windows."""
    windows = sorted(windows)
    return [
        (max(low, start), min(high, end))
        for start, end in union(intervals)
        for low, high in windows
        if low < end and start < high
    ]


def length(intervals: Iterable[Interval]) -> int:
    """Return the total length of the intervals."""
    return sum(end - start for start, end in intervals)


def activity_of(window: Interval, steps: int, events: Sequence[Event]) -> DeviceActivity | None:
    """Return how the device spent a window of `steps` steps; None if nothing ran on a device."""
    on_device = [e for e in events if e.category in ON_DEVICE and window[0] <= e.start_ns < window[1]]
    busy = within([window], [(event.start_ns, event.end_ns) for event in on_device])
    if not busy or window[1] <= window[0]:
        return None
    copies = within([window], [(e.start_ns, e.end_ns) for e in on_device if e.category == COPY])
    gaps = [after[0] - before[1] for before, after in pairwise(union(busy))]
    graphs = {e.correlation for e in events if e.category in RUNTIME and GRAPH_LAUNCH in e.name}
    kernels = [event for event in on_device if event.category == KERNEL]
    quantiles = np.quantile(gaps, [0.5, 0.95]) if gaps else (0.0, 0.0)
    whole = window[1] - window[0]
    return DeviceActivity(
        busy_share=length(union(busy)) / whole,
        copy_share=length(copies) / whole,
        kernels=len(kernels) / steps,
        gaps=len(gaps) / steps,
        gap_total_s=sum(gaps) * NANO / steps,
        gap_p50_s=float(quantiles[0]) * NANO,
        gap_p95_s=float(quantiles[1]) * NANO,
        queue_depth=queue_depth(events),
        graph_kernels=sum(kernel.correlation in graphs for kernel in kernels) / steps,
    )


def queue_depth(events: Sequence[Event]) -> float:
    """Return the mean number of kernels that were waiting when another one was enqueued."""
    enqueued = {e.correlation: e.start_ns for e in events if e.category in RUNTIME}
    started = sorted(
        (enqueued[e.correlation], e.start_ns)
        for e in events
        if e.category == KERNEL and e.correlation in enqueued
    )
    if not started:
        return 0.0
    begins = np.sort([begin for _, begin in started])
    # Of the kernels enqueued before this one, those that had begun by then have left the queue.
    waiting = [index - int(np.searchsorted(begins, at, "right")) for index, (at, _) in enumerate(started)]
    return float(np.mean(np.maximum(waiting, 0)))
