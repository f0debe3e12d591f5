"""Step and phases on a device by one estimator: they add up, whatever events cost; the device is known."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from fake_device import KERNEL_NS, FakeDevice, FakeWork
from made_up_runs import CUDA_CASE, record_of, run_of

from nncore_bench.cases import STEP_PHASES, BlockKind
from nncore_bench.estimate.results import rows_of
from nncore_bench.estimate.rows import Row
from nncore_bench.worker.blocks import run_block
from nncore_bench.worker.clock import EventClock

NANO = 1e-9
MARKS = len(STEP_PHASES) + 1
LAUNCH_BOUND = dict.fromkeys(KERNEL_NS, 1_000)
MIXED = KERNEL_NS | {"forward": 2_000, "loss": 1_000}
"""The device waits for its host in forward and loss, and the host runs ahead in backward."""


def measured(device: FakeDevice, kernel_ns: Mapping[str, int], launches: int = 1) -> dict[str, Row]:
    """Return the rows of a step with these kernels."""
    return rows_with(FakeWork(device, kernel_ns, launches))


def rows_with(work: FakeWork, rounds: int = 6) -> dict[str, Row]:
    """Return the rows of a case on a device, in which plain blocks and those with laps took turns."""
    device = work.device
    kinds: tuple[BlockKind, ...] = ("laps", "plain")
    clocks = {kind: EventClock(device, now=device.now, events=kind == "laps") for kind in kinds}
    blocks = []
    for number in range(rounds):
        for kind in kinds if number % 2 else reversed(kinds):
            laps = run_block(work, clocks[kind], kind, 20)
            blocks.append(replace(laps, launch=number % 2, round=number))
    return {row.phase: row for row in rows_of(run_of([record_of(CUDA_CASE)]), blocks)}


DEVICES = {
    "ideal": {},
    "events that cost the host": {"record_ns": 3_000},
    "events that cost the device": {"stamp_ns": 1_000},
    "events that cost both, and a coarse clock": {"record_ns": 3_000, "stamp_ns": 1_000, "tick_ns": 500},
    "a queue that fills": {"queue": 24, "record_ns": 2_000},
    "a clock that falls when idle": {"idle_ns": 20_000, "rise_ns": 100_000, "slow": 1.5},
}


@pytest.mark.parametrize("kind", DEVICES)
@pytest.mark.parametrize("kernel_ns", [LAUNCH_BOUND, MIXED, KERNEL_NS], ids=["launch-bound", "mixed", "busy"])
@pytest.mark.parametrize("launches", [3, 9])
def test_phases_add_up_to_the_step(kind: str, kernel_ns: Mapping[str, int], launches: int) -> None:
    """Within 3 %, the target of a real card, on every device that is told here."""
    rows = measured(FakeDevice(**DEVICES[kind]), kernel_ns, launches)
    times = {phase: rows[phase].time_s or 0.0 for phase in (*STEP_PHASES, "step")}
    assert 0.97 <= sum(times[phase] for phase in STEP_PHASES) / times["step"] <= 1.03
    assert 0.97 <= (rows["step"].phases_over_step or 0.0) <= 1.03


@pytest.mark.parametrize("record_ns", [1_000, 3_000, 12_000])
@pytest.mark.parametrize("tick_ns", [1, 500, 1_000])
def test_what_events_cost_a_launch_bound_step_is_found_and_taken_off(record_ns: int, tick_ns: int) -> None:
    """Six of them in a step of 5 launches: found within 10 %, and a phase is one launch again."""
    device = FakeDevice(record_ns=record_ns, tick_ns=tick_ns)
    rows = measured(device, LAUNCH_BOUND)
    assert rows["step"].lap_overhead_s == pytest.approx(MARKS * record_ns * NANO, rel=0.1)
    assert rows["step"].time_s == pytest.approx(5 * device.launch_ns * NANO, rel=0.01)
    for phase in STEP_PHASES:
        assert rows[phase].time_s == pytest.approx(device.launch_ns * NANO, abs=(tick_ns / 20 + 10) * NANO)
        assert rows[phase].share == pytest.approx(0.2, abs=0.01)


def test_what_events_cost_a_busy_device_is_found() -> None:
    """Each takes a microsecond of the queue; that of the host is hidden by the kernels."""
    rows = measured(FakeDevice(record_ns=3_000, stamp_ns=1_000), KERNEL_NS)
    assert rows["step"].lap_overhead_s == pytest.approx(MARKS * 1_000 * NANO, rel=0.1)


def test_events_that_cost_little_are_told_and_left_in() -> None:
    """Of 720 µs they are 0.8 %: what is subtracted would be noise of its own on a real card."""
    rows = measured(FakeDevice(stamp_ns=1_000), KERNEL_NS)
    assert rows["backward"].time_s == pytest.approx((KERNEL_NS["backward"] + 1_000) * NANO, rel=1e-3)


def test_a_phase_that_enqueues_nothing_takes_nothing_and_never_less() -> None:
    """Behind a full queue the two events around it are neighbours; others give what they cost."""
    rows = measured(FakeDevice(stamp_ns=8_000), MIXED | {"zero_grad": 0})
    assert min(row.time_s or 0.0 for row in rows.values()) >= 0.0
    assert rows["step"].phases_over_step == pytest.approx(1.0, abs=0.03)


class Stalling(FakeWork):
    """Wait on the host for as long as two launches in one phase of each step, in turn."""

    def iteration(self, kind: BlockKind) -> Callable[[int, Callable[[], None]], None]:
        run = super().iteration(kind)

        def stalled(number: int, mark: Callable[[], None]) -> None:
            marks = 0

            def mark_and_stall() -> None:
                nonlocal marks
                mark()
                self.device.host_ns += 2 * self.device.launch_ns * (marks == number % len(STEP_PHASES))
                marks += 1

            run(number, mark_and_stall if kind == "laps" else mark)
            self.device.host_ns += 2 * self.device.launch_ns * (kind != "laps")

        return stalled


def test_where_each_iteration_is_late_in_another_phase_the_phases_still_add_up() -> None:
    """Two launches late in each step of five: the smallest spans of each phase would be 5 of 7."""
    device = FakeDevice()
    work = Stalling(device, LAUNCH_BOUND)
    laps = run_block(work, EventClock(device, now=device.now), "laps", 20)
    assert laps.device is not None
    assert laps.device[1:].min(axis=0).sum() == pytest.approx(5 / 7 * laps.wall_ns / 20, rel=0.05)
    rows = rows_with(work)
    assert sum(rows[phase].time_s or 0.0 for phase in STEP_PHASES) == pytest.approx(35_000 * NANO, rel=0.03)
    assert rows["step"].time_s == pytest.approx(35_000 * NANO, rel=0.03)
