"""Count what only a CUDA device has: synchronisations of the host, and kernel launches."""

import warnings
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.autograd import DeviceType  # type: ignore[attr-defined] # in its __all__ no more than in its docs
from torch.profiler import ProfilerActivity, profile, supported_activities

from nncore_bench.cases import UNATTRIBUTED
from nncore_bench.worker.counters.steps import Countable, count_once, counted, labelled

LABEL = "nncore-bench "
WAITED = "called a synchronizing CUDA operation"
"""Part of the warning that torch's sync debug mode gives for every synchronisation."""


def count_synchronisations(
    work: Countable,
    runtime: Any,  # noqa: ANN401 - torch.cuda, or a fake of it
) -> dict[str, Counter[str]] | None:
    """Return how often the host waits for the device in each phase, by line of code; None without CUDA.

    Only the waits that `torch.cuda.set_sync_debug_mode` sees: `.item()`, copies to pageable memory, ...
    """
    if work.device.type != "cuda":
        return None
    waits: dict[str, Counter[str]] = {name: Counter() for name in counted(work)}
    under_way = UNATTRIBUTED
    with _waits_warned_of(runtime) as seen:

        def switch(phase: str) -> None:
            nonlocal under_way
            found = (warning for warning in seen if WAITED in str(warning.message))
            waits.setdefault(under_way, Counter()).update(
                f"{Path(one.filename).name}:{one.lineno}" for one in found
            )
            seen.clear()
            under_way = phase

        count_once(work, switch)
    waits.pop(UNATTRIBUTED, None)
    return waits


@contextmanager
def _waits_warned_of(runtime: Any) -> Iterator[list[warnings.WarningMessage]]:  # noqa: ANN401 - the same
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")  # before the mode is set, which warns that it is a prototype
        usual = runtime.get_sync_debug_mode()
        runtime.set_sync_debug_mode("warn")
        try:
            yield seen
        finally:
            runtime.set_sync_debug_mode(usual)


def count_launches(work: Countable) -> dict[str, int] | None:
    """Return the kernel launches of each phase; None without CUDA, or if the profiler cannot see them."""
    seen = supported_activities()  # type: ignore[no-untyped-call] # torch leaves it without types
    if work.device.type != "cuda" or ProfilerActivity.CUDA not in seen:
        return None
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        count_once(work, labelled(LABEL))
    results: Any = profiler.profiler and profiler.profiler.kineto_results
    return launches_by_phase(results.events())


def launches_by_phase(events: Iterable[Any]) -> dict[str, int]:
    """Count the launches (cudaLaunchKernel, cuLaunchKernelEx, ...) that begin during each phase.

    By time and not by thread, since the backward pass runs in its own thread. A replay of a CUDA graph does
    not count as a kernel launch.
    """
    # The profiler repeats the labels with device times.
    on_host = [event for event in events if event.device_type() == DeviceType.CPU]
    labels = sorted(
        (event.start_ns(), event.end_ns(), event.name().removeprefix(LABEL))
        for event in on_host
        if event.name().startswith(LABEL)
    )
    starts = [start for start, _, _ in labels]
    launches = Counter({phase: 0 for _, _, phase in labels})
    for event in on_host:
        index = bisect_right(starts, event.start_ns()) - 1
        if is_launch(event.name()) and index >= 0 and event.start_ns() <= labels[index][1]:
            launches[labels[index][2]] += 1
    return dict(launches)


def is_launch(name: str) -> bool:
    """Return whether a CUDA (or HIP) runtime or driver call launches a kernel."""
    return name.startswith(("cu", "hip")) and "Launch" in name and "Kernel" in name
