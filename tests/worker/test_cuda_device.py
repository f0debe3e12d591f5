"""The CUDA path on a real device; everything here is skipped where there is none."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from nncore_bench.cases import BlockKind, Case
from nncore_bench.worker.blocks import run_block
from nncore_bench.worker.clock import EventClock
from nncore_bench.worker.subjects.subject import Subject

pytestmark = pytest.mark.cuda

CASE = Case("simplenn", "digits", "cuda", "-", "float32", "eager", 32, 128)
CYCLES = 2_000_000  # about a millisecond


class Sleeper:
    """Five phases, of which one keeps the device busy for a known number of its cycles."""

    def __init__(self, busy: int) -> None:
        self.busy = busy

    def restore(self) -> None:
        torch.cuda.synchronize()

    def mode(self, _kind: BlockKind) -> AbstractContextManager[Any]:
        return nullcontext()

    def iteration(self, _kind: BlockKind) -> Callable[[int, Callable[[], None]], None]:
        def lapped(_number: int, mark: Callable[[], None]) -> None:
            mark()
            for phase in range(5):
                if phase == self.busy:
                    torch.cuda._sleep(CYCLES)
                mark()

        return lapped


@pytest.mark.parametrize("busy", range(5))
def test_what_keeps_the_device_busy_lands_in_its_phase(busy: int) -> None:
    """The host only enqueues it; the span on the device holds it, and no other phase does."""
    laps = run_block(Sleeper(busy), EventClock(torch.cuda), "laps", 20)
    assert laps.device is not None
    medians = np.median(laps.device[1:, :5], axis=0)
    assert int(medians.argmax()) == busy
    assert np.delete(medians, busy).max() < 0.1 * medians[busy]
    assert np.median(laps.host[1:, busy]) < 0.5 * medians[busy]


def test_the_wall_time_of_a_block_holds_the_devices_work() -> None:
    """Without the wait at the end, twenty sleeps of a millisecond would seem to take microseconds."""
    clock = EventClock(torch.cuda)
    laps = run_block(Sleeper(0), clock, "laps", 20)
    assert laps.device is not None
    assert laps.wall_ns >= 0.95 * laps.device[1:].sum()


def test_a_real_step_passes_its_check_and_feeds_the_device() -> None:
    """Every kind of block runs, and copying takes time on the device."""
    subject = Subject(CASE)
    correct = subject.check()
    assert correct["loss"] == pytest.approx(np.log(10), abs=0.3)
    subject.save()
    kinds: tuple[BlockKind, ...] = ("laps", "plain", "feed", "inference")
    for kind in kinds:
        laps = run_block(subject, EventClock(torch.cuda, events=kind in {"laps", "feed"}), kind, 10)
        assert laps.wall_ns > 0
        assert (laps.device is not None) == (kind in {"laps", "feed"})
    fed = run_block(subject, EventClock(torch.cuda), "feed", 10)
    assert fed.device is not None
    assert (fed.device[1:, 1] > 0).all()


def test_the_state_comes_back_for_every_block() -> None:
    """Two blocks from the restored state compute the same parameters on the same batches."""
    subject = Subject(CASE)
    subject.check()
    subject.save()
    after = []
    for _ in range(2):
        run_block(subject, EventClock(torch.cuda), "plain", 5)
        after.append([parameter.detach().clone() for parameter in subject.step.model.parameters()])
    for first, second in zip(*after, strict=True):
        torch.testing.assert_close(first, second)
