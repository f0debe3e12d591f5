"""Blocks and clocks against a fake device whose every time is known."""

from collections.abc import Callable

import numpy as np
import pytest
from fake_device import KERNEL_NS, LAUNCH_NS, FakeDevice, FakeWork

from nncore_bench.cases import BLOCK_LAPS, BlockKind
from nncore_bench.worker.blocks import run_block
from nncore_bench.worker.clock import ClockError, EventClock, HostClock


def test_device_laps_are_the_kernels_and_host_laps_only_the_launches() -> None:
    """A clock without events would report 5 µs for a backward of 200 µs."""
    device = FakeDevice()
    laps = run_block(FakeWork(device), EventClock(device, now=device.now), "laps", 6)
    assert laps.device is not None
    counted = laps.device[2:, :5]  # the queue is filled by the second step
    assert np.array_equal(counted, np.tile(list(KERNEL_NS.values()), (5, 1)))
    assert (laps.host[1:, :5] == LAUNCH_NS).all()


def test_the_wall_time_of_a_plain_block_is_the_devices_work_with_one_wait_at_each_end() -> None:
    """Six steps of 720 µs take 6 · 720 µs and the first launch, however fast they were enqueued."""
    device = FakeDevice()
    clock = EventClock(device, now=device.now, events=False)
    laps = run_block(FakeWork(device), clock, "plain", 6)
    assert laps.device is None
    # The first kernel that takes time is the second to be launched.
    assert laps.wall_ns == 6 * sum(KERNEL_NS.values()) + 2 * LAUNCH_NS
    assert device.waits == 3  # before the leading step, after it, and at the end: none inside


def test_device_time_cannot_be_read_before_the_device_was_waited_for() -> None:
    """Reading too early is refused by the clock itself, whatever the caller believes."""
    device = FakeDevice()
    clock = EventClock(device, now=device.now)
    clock.begin(marks=2)
    clock.mark()
    device.launch(100_000)
    clock.mark()
    with pytest.raises(ClockError, match="not waited for"):
        clock.device_laps()
    clock.settle()
    assert clock.device_laps() == [LAUNCH_NS + 100_000]


def test_marking_again_makes_the_spans_unreadable_again() -> None:
    """A settled clock that is marked once more must be settled once more."""
    device = FakeDevice()
    clock = EventClock(device, now=device.now)
    clock.begin(marks=2)
    clock.mark()
    clock.settle()
    clock.mark()
    with pytest.raises(ClockError):
        clock.device_laps()


class SteppingHost:
    """A host clock that a busy-wait advances by an exact time, and a reading by 40 ns."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000

    def now(self) -> int:
        self.ns += 40
        return self.ns


@pytest.mark.parametrize("wait_ns", [20_000, 200_000, 2_000_000, 20_000_000])
def test_a_known_wait_comes_out_as_it_is(wait_ns: int) -> None:
    """Busy-waits of 20 µs to 20 ms come out within the cost of one reading."""
    host = SteppingHost()

    class Wait(FakeWork):
        def iteration(self, kind: BlockKind) -> Callable[[int, Callable[[], None]], None]:
            def waited(_number: int, mark: Callable[[], None]) -> None:
                for _ in BLOCK_LAPS[kind]:
                    mark()
                    host.ns += wait_ns

            return waited

    laps = run_block(Wait(FakeDevice()), HostClock(host.now), "feed", 4)
    # The leading iteration also holds the readings that begin the counted time.
    assert (laps.host[1:] == wait_ns + 40).all()
    assert laps.host.shape == (5, 3)


def test_a_delay_planted_in_one_phase_lands_in_that_phase_and_no_other() -> None:
    """Laps are read at boundaries, so that nothing of one phase can be booked on another."""
    for planted in range(5):
        host = SteppingHost()

        class Planted(FakeWork):
            def iteration(self, _kind: BlockKind) -> Callable[[int, Callable[[], None]], None]:
                def lapped(
                    _number: int, mark: Callable[[], None], host: SteppingHost = host, planted: int = planted
                ) -> None:
                    mark()
                    for phase in range(5):
                        host.ns += 1_000 + (50_000 if phase == planted else 0)
                        mark()

                return lapped

        laps = run_block(Planted(FakeDevice()), HostClock(host.now), "laps", 4)
        expected = [1_040] * 5
        expected[planted] += 50_000
        assert (laps.host[1:, :5] == expected).all()
        assert (laps.host[1:, 5] == 40).all()


def test_every_block_starts_from_the_restored_state() -> None:
    """State restored once per block, before the first reading."""
    work = FakeWork(FakeDevice())
    for number in range(3):
        run_block(work, HostClock(), "plain", 2)
        assert work.restored == number + 1


def test_a_block_without_counted_iterations_is_refused() -> None:
    """A block holds at least one iteration that counts."""
    with pytest.raises(ValueError, match="0 is not positive"):
        run_block(FakeWork(FakeDevice()), HostClock(), "plain", 0)
