"""Count memory: allocations and peak of each phase, and what stays allocated after steps."""

import gc
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from typing import Any

from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile, record_function

from nncore_bench.worker.counters.steps import (
    INFERENCE,
    SETTLING_STEPS,
    Countable,
    labelled,
    read_around_phases,
    settle,
)

LEAK_STEPS = 4
"""Steps after the counted one; `leaked_bytes` is the memory that they leave allocated."""

LABEL = "nncore-bench"
END = "(end)"


@dataclass(frozen=True)
class Span:
    """Allocations during a phase, and the bytes alive before it, at its peak and after it."""

    allocations: int
    allocated_bytes: int
    before: int
    highest: int
    after: int

    def joined(self, later: "Span") -> "Span":
        """Return both as one: a phase that was interrupted."""
        return Span(
            self.allocations + later.allocations,
            self.allocated_bytes + later.allocated_bytes,
            self.before,
            max(self.highest, later.highest),
            later.after,
        )


@dataclass(frozen=True)
class Memory:
    """A span per phase, and the growth of the live bytes over the steps after the counted one."""

    spans: Mapping[str, Span]
    leaked_bytes: int

    def counters(self, phase: str) -> dict[str, int]:
        """Return the counters of a phase by name.

        The peak is that of the live bytes, above the fewest between two phases of the same step: those after
        zero_grad, as a rule. So parameters, state and batches are excluded: forward shows activations and
        temporaries, backward also gradients, and zero_grad the gradients of the step before, which it frees.
        Inference counts from its own beginning.
        """
        span = self.spans.get(phase)
        if span is None:
            return {}
        of_step = [one for name, one in self.spans.items() if name != INFERENCE]
        base = span.before if phase == INFERENCE else min(min(one.before, one.after) for one in of_step)
        made = {"allocations": span.allocations, "allocated_bytes": span.allocated_bytes}
        return {**made, "peak_bytes": span.highest - base}


def count_memory(work: Countable, runtime: Any) -> Memory | None:  # noqa: ANN401 - torch.cuda, or a fake of it
    """Return the memory of each phase, or None on devices where torch does not report it."""
    if work.device.type == "cpu":
        return _host_memory(work)
    return _device_memory(work, runtime) if work.device.type == "cuda" else None


def _device_memory(work: Countable, runtime: Any) -> Memory:  # noqa: ANN401 - torch.cuda, or a fake of it
    """Read the allocator's own counters, which live on the host and need no synchronisation."""

    def read() -> Mapping[str, int]:
        stats: Mapping[str, int] = runtime.memory_stats(work.device)
        runtime.reset_peak_memory_stats(work.device)
        return defaultdict(int, stats)

    readings = read_around_phases(work, read)
    spans = {
        phase: reduce(Span.joined, (_allocator_span(*both) for both in pairs))
        for phase, pairs in readings.items()
        if pairs
    }
    return Memory(spans, _leaked_bytes(work, runtime))


def _allocator_span(before: Mapping[str, int], after: Mapping[str, int]) -> Span:
    made, bytes_made = "allocation.all.allocated", "allocated_bytes.all.allocated"
    return Span(
        allocations=after[made] - before[made],
        allocated_bytes=after[bytes_made] - before[bytes_made],
        before=before["allocated_bytes.all.current"],
        highest=after["allocated_bytes.all.peak"],
        after=after["allocated_bytes.all.current"],
    )


def _leaked_bytes(work: Countable, runtime: Any) -> int:  # noqa: ANN401 - torch.cuda, or a fake of it
    settle(work)
    alive: list[int] = []
    for number in range(SETTLING_STEPS, SETTLING_STEPS + 1 + LEAK_STEPS):
        work.train(number)
        if number in {SETTLING_STEPS, SETTLING_STEPS + LEAK_STEPS}:
            gc.collect()  # cycles would go in time, and are no leak
            alive.append(runtime.memory_allocated(work.device))
    return alive[1] - alive[0]


def _host_memory(work: Countable) -> Memory:
    """Watch the host's allocator with the profiler, which sees a release only if it saw the allocation.

    So the gradients are dropped before it starts, and the settling steps run under it.
    """
    work.restore()
    work.drop_gradients()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for number in range(SETTLING_STEPS + 1 + LEAK_STEPS):
            work.train_in_phases(number, labelled(f"{LABEL} {number} "))
            if number in {SETTLING_STEPS, SETTLING_STEPS + LEAK_STEPS}:
                gc.collect()  # cycles would go in time, and are no leak
                with record_function(f"{LABEL} {number} {END}"):
                    pass
        if INFERENCE in work.kinds:
            work.infer(SETTLING_STEPS, labelled(f"{LABEL} {SETTLING_STEPS} "))
    results: Any = profiler.profiler and profiler.profiler.kineto_results
    return _host_spans(list(_flat(results.experimental_event_tree())))


def _flat(nodes: Iterable[Any]) -> Iterator[Any]:
    for node in nodes:
        yield node
        yield from _flat(node.children)


def _host_spans(nodes: list[Any]) -> Memory:
    timeline = Timeline(_changes(nodes))
    spans: dict[str, Span] = {}
    alive: dict[int, int] = {}
    for node in nodes:
        if node.name.startswith(f"{LABEL} "):
            _, number, phase = node.name.split(" ", 2)
            span = timeline.span(node.start_time_ns, node.end_time_ns)
            if phase == END:
                alive[int(number)] = span.before
            elif int(number) == SETTLING_STEPS:
                spans[phase] = spans[phase].joined(span) if phase in spans else span
    return Memory(spans, alive[SETTLING_STEPS + LEAK_STEPS] - alive[SETTLING_STEPS])


def _changes(nodes: list[Any]) -> list[tuple[int, int]]:
    """Return (nanosecond, bytes) of each allocation, and of each release whose allocation was seen.

    For other addresses the profiler may report an outdated size from an earlier session.
    """
    events = [node for node in nodes if node.tag == _EventType.Allocation]
    events = [event for event in events if event.extra_fields.device.type == "cpu"]
    known: set[int] = set()
    changes = []
    for event in sorted(events, key=lambda event: int(event.start_time_ns)):
        address, size = event.extra_fields.ptr, event.extra_fields.alloc_size
        if size > 0:
            known.add(address)
        if size > 0 or address in known:
            changes.append((event.start_time_ns, size))
        if size < 0:
            known.discard(address)
    return changes


class Timeline:
    """The live bytes after each of some changes, given as (nanosecond, bytes) in order of time."""

    def __init__(self, changes: list[tuple[int, int]]) -> None:
        self.times = [time for time, _ in changes]
        self.sizes = [size for _, size in changes]
        self.alive = [0, *accumulate(self.sizes)]

    def span(self, start: int, end: int) -> Span:
        """Return the span from `start` to `end`, in nanoseconds, both inclusive."""
        first, last = bisect_left(self.times, start), bisect_right(self.times, end)
        made = [size for size in self.sizes[first:last] if size > 0]
        alive = self.alive[first : last + 1]
        return Span(len(made), sum(made), alive[0], max(alive), alive[-1])
