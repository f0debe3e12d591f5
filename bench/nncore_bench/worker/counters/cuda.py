"""Counts that only a CUDA device has: operators that make the host wait, and kernels that it launches."""

import warnings
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.autograd import DeviceType  # type: ignore[attr-defined] # in its __all__ no more than in its docs
from torch.profiler import ProfilerActivity, profile, record_function, supported_activities

from nncore_bench.worker.counters.steps import Countable, count_once

LABEL = "nncore-bench "
WAITED = "called a synchronizing CUDA operation"
"""What CUDA's debug mode for synchronisation warns of, once each time."""


@dataclass(frozen=True)
class Waits:
    """Hold how often the host waits for the device, by the line of code that makes it wait."""

    sites: dict[str, int]

    @property
    def times(self) -> int:
        """Return how often it waits in all."""
        return sum(self.sites.values())


def count_synchronisations(work: Countable, runtime: Any) -> dict[str, Waits] | None:  # noqa: ANN401 - torch.cuda, or a fake
    """Return how often each phase makes the host wait for the device; None where there is no such device.

    As far as `torch.cuda.set_sync_debug_mode` sees it: `.item()`, copies to pageable memory, nonzero, ...
    """
    if work.device.type != "cuda":
        return None
    waits: dict[str, Waits] = {}

    @contextmanager
    def around(phase: str) -> Iterator[None]:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")  # before the mode, which warns that it is a prototype
            with _warning_of_waits(runtime):
                yield
        found = [warning for warning in seen if WAITED in str(warning.message)]
        waits[phase] = Waits(dict(Counter(f"{Path(w.filename).name}:{w.lineno}" for w in found)))

    count_once(work, around)
    return waits


@contextmanager
def _warning_of_waits(runtime: Any) -> Iterator[None]:  # noqa: ANN401 - torch.cuda, or a fake of it
    usual = runtime.get_sync_debug_mode()
    runtime.set_sync_debug_mode("warn")
    try:
        yield
    finally:
        runtime.set_sync_debug_mode(usual)


def count_launches(work: Countable) -> dict[str, int] | None:
    """Return how many kernels each phase launches; None where nothing is launched or it cannot be seen."""
    seen = supported_activities()  # type: ignore[no-untyped-call] # torch leaves it without types
    if work.device.type != "cuda" or ProfilerActivity.CUDA not in seen:
        return None
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        count_once(work, lambda phase: record_function(LABEL + phase))
    results: Any = profiler.profiler and profiler.profiler.kineto_results
    return launches_by_phase(results.events())


def launches_by_phase(events: Iterable[Any]) -> dict[str, int]:
    """Attribute each launch to the phase in whose time it began: cudaLaunchKernel, cuLaunchKernelEx, ...

    By time and not by thread, since the backward pass runs in a thread of its own. A replayed CUDA graph is
    no launch of a kernel.
    """
    # The profiler repeats the labels with the times of the device.
    on_host = [event for event in events if event.device_type() == DeviceType.CPU]
    labels = sorted(
        (event.start_ns(), event.end_ns(), event.name().removeprefix(LABEL))
        for event in on_host
        if event.name().startswith(LABEL)
    )
    starts = [start for start, _, _ in labels]
    launches = Counter({phase: 0 for _, _, phase in labels})
    for event in on_host:
        place = bisect_right(starts, event.start_ns()) - 1
        if is_launch(event.name()) and place >= 0 and event.start_ns() <= labels[place][1]:
            launches[labels[place][2]] += 1
    return dict(launches)


def is_launch(name: str) -> bool:
    """Return whether a call of the runtime or driver of CUDA, or of HIP on ROCm, launches a kernel."""
    return name.startswith(("cu", "hip")) and "Launch" in name and "Kernel" in name
