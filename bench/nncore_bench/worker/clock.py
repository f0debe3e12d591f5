"""Clocks: when a boundary is passed, on the host and on the device, and when it is safe to say so.

A device works through its queue while the host runs ahead, so a host reading says only when work was
enqueued. The clock owns the synchronisation: spans of the device cannot be read before it.
"""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from nncore_bench.runs import Nanoseconds

NANOSECONDS_PER_MILLISECOND = 1_000_000


class ClockError(RuntimeError):
    """Refuse a reading that would not mean anything."""


class Clock(Protocol):
    """Read the boundaries of a block's laps.

    `mark` is called at every boundary, `settle` waits until all that was enqueued is done, and after it
    `spans` has the nanoseconds between the marks on the device (None where the host is the device).
    """

    now: Callable[[], int]

    def begin(self, marks: int) -> None:
        """Forget the marks so far, get ready for as many as will come, and wait until the device is idle."""

    def mark(self) -> None:
        """Pass a boundary."""

    def settle(self) -> None:
        """Wait until everything that was enqueued is done."""

    def host_laps(self) -> Nanoseconds:
        """Return the nanoseconds between the marks on the host."""

    def device_laps(self) -> Nanoseconds | None:
        """Return the nanoseconds between the marks on the device."""


class HostClock:
    """Read the host's monotonic clock; on the CPU nothing is asynchronous and nothing waits."""

    def __init__(self, now: Callable[[], int] = time.perf_counter_ns) -> None:
        self.now = now
        self.begin(marks=0)

    def begin(self, marks: int) -> None:  # noqa: ARG002 - a list grows by itself
        """Start with no marks; `mark` is bound to locals, since its own cost is part of every lap."""
        readings: list[int] = []
        self._readings = readings
        append, now = readings.append, self.now

        def mark() -> None:
            append(now())

        self.mark = mark

    def settle(self) -> None:
        """Do nothing: the host's work is done when the call returns."""

    def host_laps(self) -> Nanoseconds:
        """Return the nanoseconds between the marks."""
        return between(self._readings)

    def device_laps(self) -> None:
        """Return None: the host is the device."""


class EventClock:
    """Record an event of the device at every boundary, beside the host's reading.

    `runtime` is `torch.cuda`, or in tests a fake device with the same `Event` and `synchronize`. Events come
    from a pool that is filled before the block, since making one costs as much as recording it. With
    `events=False` only the host is read, so that the wall time of plain blocks holds nothing of ours.
    """

    def __init__(
        self,
        runtime: Any,  # noqa: ANN401 - torch.cuda, or a fake of it
        *,
        now: Callable[[], int] = time.perf_counter_ns,
        events: bool = True,
    ) -> None:
        self.now = now
        self._runtime = runtime
        self._events = events
        self._stream: Any = None
        self._pool: list[Any] = []
        self._used = 0
        self._readings: list[int] = []
        self._settled = False

    def begin(self, marks: int) -> None:
        """Fill the pool, wait for the device, and start with no marks."""
        self._stream = self._runtime.current_stream() if self._events else None
        while self._events and len(self._pool) < marks:
            event = self._runtime.Event(enable_timing=True)
            event.record(self._stream)  # the driver makes an event when it is first recorded
            self._pool.append(event)
        self._runtime.synchronize()
        self._readings = []
        self._used = 0
        self._settled = False

    def mark(self) -> None:
        """Enqueue an event and read the host's clock."""
        self._settled = False
        if self._events:
            self._pool[self._used].record(self._stream)
            self._used += 1
        self._readings.append(self.now())

    def settle(self) -> None:
        """Wait until the device has done everything that was enqueued."""
        self._runtime.synchronize()
        self._settled = True

    def host_laps(self) -> Nanoseconds:
        """Return the nanoseconds between the marks on the host: the time to enqueue."""
        return between(self._readings)

    def device_laps(self) -> Nanoseconds | None:
        """Return the nanoseconds between the events; raises ClockError before the device was waited for."""
        if not self._events:
            return None
        if not self._settled:
            raise ClockError("the device was not waited for: its laps cannot be read before settle()")
        used = self._pool[: self._used]
        spans = [round(a.elapsed_time(b) * NANOSECONDS_PER_MILLISECOND) for a, b in pairwise(used)]
        return np.array(spans, dtype=np.int64)


def between(readings: list[int]) -> Nanoseconds:
    """Return the nanoseconds from each reading to the next."""
    return np.array([later - earlier for earlier, later in pairwise(readings)], dtype=np.int64)
