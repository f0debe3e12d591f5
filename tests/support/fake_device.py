"""A device with a queue, whose every time is known: the host only launches, the device works on its own."""

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from nncore_bench.cases import BlockKind

LAUNCH_NS = 5_000
KERNEL_NS = {"zero_grad": 0, "forward": 100_000, "loss": 20_000, "backward": 200_000, "optimizer": 400_000}
QUEUE = 1_000
"""Launches that wait for the device at most; then the host waits."""


class FakeDevice:
    """A kernel takes `launch_ns` of the host, an event `record_ns` of it and `stamp_ns` of the device.

    Events tell multiples of `tick_ns`. After `idle_ns` without work the clock is down: kernels take `slow`
    times as long until the device has worked for `rise_ns`.
    """

    def __init__(  # noqa: PLR0913 - what a device is like
        self,
        *,
        launch_ns: int = LAUNCH_NS,
        record_ns: int = 0,
        stamp_ns: int = 0,
        tick_ns: int = 1,
        queue: int = QUEUE,
        idle_ns: int = 10**15,
        rise_ns: int = 0,
        slow: float = 1.0,
    ) -> None:
        self.launch_ns, self.record_ns, self.stamp_ns, self.tick_ns = launch_ns, record_ns, stamp_ns, tick_ns
        self.queue, self.idle_ns, self.rise_ns, self.slow = queue, idle_ns, rise_ns, slow
        self.host_ns = 0
        self.done_ns = 0
        self.waits = 0
        self._pending: deque[int] = deque()
        self._worked_ns = rise_ns

    def now(self) -> int:
        return self.host_ns

    def launch(self, kernel_ns: int) -> None:
        self.host_ns += self.launch_ns
        self._enqueue(kernel_ns)

    def _enqueue(self, work_ns: int) -> None:
        while self._pending and (self._pending[0] <= self.host_ns or len(self._pending) >= self.queue):
            self.host_ns = max(self.host_ns, self._pending.popleft())
        start = max(self.done_ns, self.host_ns)
        if start - self.done_ns > self.idle_ns:
            self._worked_ns = 0
        took_ns = round(work_ns * (self.slow if self._worked_ns < self.rise_ns else 1))
        self._worked_ns += took_ns
        self.done_ns = start + took_ns
        self._pending.append(self.done_ns)

    def current_stream(self) -> "FakeDevice":
        return self

    def synchronize(self) -> None:
        self.waits += 1
        self.host_ns = max(self.host_ns, self.done_ns)

    def Event(self, *, enable_timing: bool) -> "FakeEvent":  # noqa: N802 - torch's own name
        assert enable_timing
        return FakeEvent(self)


class FakeEvent:
    """An event is passed when the queue before it is done; asking earlier is an error, as on CUDA."""

    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.at_ns = 0

    def record(self, stream: FakeDevice) -> None:
        assert stream is self.device
        self.device.host_ns += self.device.record_ns
        self.device._enqueue(self.device.stamp_ns)
        self.at_ns = self.device.done_ns

    def query(self) -> bool:
        return self.at_ns <= self.device.host_ns

    def elapsed_time(self, later: "FakeEvent") -> float:
        if later.at_ns > self.device.host_ns:
            raise RuntimeError("device not ready")
        tick = self.device.tick_ns
        return (later.at_ns // tick - self.at_ns // tick) * tick / 1e6


class FakeWork:
    """A training step whose phases each launch some kernels of a known length."""

    def __init__(
        self, device: FakeDevice, kernel_ns: Mapping[str, int] = KERNEL_NS, launches: int = 1
    ) -> None:
        self.device = device
        self.kernel_ns = kernel_ns
        self.launches = launches
        self.restored = 0

    def restore(self) -> None:
        self.restored += 1

    def mode(self, _kind: BlockKind) -> AbstractContextManager[Any]:
        return nullcontext()

    def iteration(self, kind: BlockKind) -> Callable[[int, Callable[[], None]], None]:
        def phase(kernel_ns: int) -> None:
            for _ in range(self.launches):
                self.device.launch(kernel_ns // self.launches)

        def lapped(_number: int, mark: Callable[[], None]) -> None:
            mark()
            for kernel_ns in self.kernel_ns.values():
                phase(kernel_ns)
                mark()

        def plain(_number: int, mark: Callable[[], None]) -> None:
            mark()
            for kernel_ns in self.kernel_ns.values():
                phase(kernel_ns)

        return lapped if kind == "laps" else plain
