"""Clocks that read the boundaries between laps on the host and on the device.

A device works through its queue while the host runs ahead, so a host reading only tells when work was
enqueued. The clock owns the synchronisation, before which device laps cannot be read.
"""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from nncore_bench.runs import Nanoseconds

NANOSECONDS_PER_MILLISECOND = 1_000_000


class ClockError(RuntimeError):
    """A reading was requested that would be meaningless."""


class Clock(Protocol):
    """A reader of the boundaries between a block's laps: `begin`, `mark` at each, `settle`, then the laps."""

    now: Callable[[], int]

    def begin(self, marks: int) -> None:
        """Discard all marks, prepare for `marks` new ones, and wait until the device is idle."""

    def mark(self) -> None:
        """Record a boundary."""

    def settle(self) -> None:
        """Wait until all enqueued work is done."""

    def naming(self, names: list[str]) -> Callable[[str], None]:
        """Return a function that records a boundary and appends the name of the lap that begins there."""

    def host_laps(self) -> Nanoseconds:
        """Return the nanoseconds between marks on the host."""

    def device_laps(self) -> Nanoseconds | None:
        """Return the nanoseconds between marks on the device, or None if the host is the device."""


class HostClock:
    """The host's monotonic clock, for the CPU, where nothing is asynchronous."""

    def __init__(self, now: Callable[[], int] = time.perf_counter_ns) -> None:
        self.now = now
        self._readings: list[int] = []
        append = self._readings.append

        def mark() -> None:  # locals only, since its own cost is part of every lap
            append(now())

        self.mark = mark

    def begin(self, marks: int) -> None:  # noqa: ARG002 - a list grows by itself
        """Discard all marks."""
        self._readings.clear()

    def naming(self, names: list[str]) -> Callable[[str], None]:
        """Return a function that records a boundary and appends the name of the lap that begins there."""
        append, now, name_it = self._readings.append, self.now, names.append

        def mark(name: str) -> None:
            append(now())
            name_it(name)

        return mark

    def settle(self) -> None:
        """Do nothing: the host's work is done when the call returns."""

    def host_laps(self) -> Nanoseconds:
        """Return the nanoseconds between marks."""
        return between(self._readings)

    def device_laps(self) -> None:
        """Return None: the host is the device."""


class EventClock:
    """A clock that records a device event at every boundary and reads the host's clock.

    `runtime` is `torch.cuda`, or in tests a fake with the same `Event` and `synchronize`. Events come from a
    pool filled before the block, since creating one costs as much as recording it. With `events=False` only
    the host is read, so that the wall time of plain blocks contains no overhead of ours.
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
        """Fill the pool, wait for the device, and discard all marks."""
        self._stream = self._runtime.current_stream() if self._events else None
        while self._events and len(self._pool) < marks:
            event = self._runtime.Event(enable_timing=True)
            event.record(self._stream)  # the driver creates an event when it is first recorded
            self._pool.append(event)
        self._runtime.synchronize()
        self._readings = []
        self._used = 0
        self._settled = False

    def mark(self) -> None:
        """Enqueue an event and read the host's clock."""
        self._settled = False
        if self._events:
            if self._used == len(self._pool):  # an own step has as many parts as it likes
                self._pool.append(self._runtime.Event(enable_timing=True))
            self._pool[self._used].record(self._stream)
            self._used += 1
        self._readings.append(self.now())

    def naming(self, names: list[str]) -> Callable[[str], None]:
        """Return a function that records a boundary and appends the name of the lap that begins there."""

        def mark(name: str) -> None:
            self.mark()
            names.append(name)

        return mark

    def settle(self) -> None:
        """Wait until the device has done all enqueued work."""
        self._runtime.synchronize()
        self._settled = True

    def host_laps(self) -> Nanoseconds:
        """Return the nanoseconds between marks on the host: the time to enqueue."""
        return between(self._readings)

    def device_laps(self) -> Nanoseconds | None:
        """Return the nanoseconds between events; raises ClockError before `settle`."""
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
