"""Marks on the device: events beside the marks of the host, read when the device has long passed them.

Nothing waits for the device: an event is asked whether it is done when a window ends, and read then or later.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nncore_bench.watch.marks import STEPPED, Marks

NS_PER_MS = 1_000_000


@dataclass
class Pending:
    """A window whose events the device may not have passed: its mark, when it began, and what each says."""

    window: int
    begun_ns: int
    events: list[tuple[int, Any]] = field(default_factory=list)


class DeviceMarks:
    """The events of windows; `runtime` is torch.cuda, or a fake of it in tests."""

    def __init__(self, marks: Marks, runtime: Any) -> None:  # noqa: ANN401 - as said
        self._marks, self._runtime = marks, runtime
        self._pool: list[Any] = []
        self._pending: deque[Pending] = deque()

    def window(self, mark: int, begun_ns: int) -> None:
        """Begin a window."""
        self._pending.append(Pending(mark, begun_ns))

    def record(self, what: int) -> None:
        """Enqueue an event where something begins."""
        event = self._pool.pop() if self._pool else self._runtime.Event(enable_timing=True)
        event.record(self._runtime.current_stream())
        self._pending[-1].events.append((what, event))

    def beside(
        self,
        switch: Callable[[str], None],
        number_of: Callable[[str], int],
        failed: Callable[[BaseException], None],
    ) -> Callable[[str], None]:
        """Return a switch that marks host and device, and never fails: it calls `failed` instead."""
        record = self.record

        def switch_both(name: str) -> None:
            try:
                record(number_of(name))
            except Exception as error:  # noqa: BLE001 - it is the user's step that called
                failed(error)
            switch(name)

        return switch_both

    def stepped(self, number: int) -> None:
        """Enqueue an event at the end of an optimizer's step."""
        self.record(STEPPED | number)

    def collect(self) -> None:
        """Write down the windows that the device has passed, by its own times."""
        while self._pending and all(event.query() for _, event in self._pending[0].events[-1:]):
            window = self._pending.popleft()
            if not window.events:
                continue
            self._marks.mark(window.window, window.begun_ns)
            first = window.events[0][1]
            for what, event in window.events:
                passed_ns = round(first.elapsed_time(event) * NS_PER_MS)
                self._marks.mark(what, window.begun_ns + passed_ns)
            self._pool += [event for _, event in window.events]
