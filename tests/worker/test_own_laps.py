"""Laps of an own step by name, and phases that interrupt each other: by a clock made by hand."""

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from fake_device import LAUNCH_NS, FakeDevice
from torch import nn

from nncore_bench import phase
from nncore_bench.watch.phases import Phases, watched
from nncore_bench.watch.seams import modules_called, seams
from nncore_bench.worker.blocks import STEP_BEGINS, NamedLaps, run_block
from nncore_bench.worker.clock import EventClock, HostClock


class Ticking:
    """A clock that goes on by hand."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns

    def spend(self, nanoseconds: int) -> None:
        self.ns += nanoseconds


def seen(run: Callable[[], object]) -> list[str]:
    """Return the phases that a piece of code goes through."""
    names: list[str] = []
    with watched(names.append):
        run()
    return names


def test_an_inner_phase_interrupts_the_outer_one() -> None:
    """And what is outside of all is other."""

    def run() -> None:
        with phase("generator"):
            with phase("sample"):
                pass
            with phase("generator"):  # the same again is no change
                pass

    assert seen(run) == ["generator", "sample", "generator", "other"]


def test_a_phase_that_is_left_by_an_exception_ends() -> None:
    """So do those around it."""

    def run() -> None:
        with phase("a"), phase("b"):
            raise KeyError

    names: list[str] = []
    with watched(names.append), pytest.raises(KeyError):
        run()
    assert names == ["a", "b", "a", "other"]


def test_other_threads_change_nothing() -> None:
    """As that of a DataLoader, or autograd's on a GPU."""

    def run() -> None:
        with phase("here"):
            there = threading.Thread(target=lambda: phase("there").__enter__())
            there.start()
            there.join()

    assert seen(run) == ["here", "other"]


def test_nothing_is_watched_by_default_and_nothing_twice() -> None:
    """A training script that names its phases runs as ever."""
    with phase("clip"):
        pass
    with watched(lambda _: None), pytest.raises(RuntimeError, match="already"), watched(lambda _: None):
        pass
    with pytest.raises(TypeError, match="give a text"):
        phase(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'data' is the name of something else"):
        phase("data")


def test_a_function_is_decorated_and_keeps_what_was_set_on_it() -> None:
    """Schedules look at an attribute of an optimizer's step."""

    def step(value: int) -> int:
        return value + 1

    step.by_schedule = True  # type: ignore[attr-defined]
    names: list[str] = []
    seam = Phases(names.append).timed("optimizer", step)
    assert (seam(1), names, seam.by_schedule) == (2, ["optimizer", "other"], True)  # type: ignore[attr-defined]
    assert seen(phase("augment")(lambda: None)) == ["augment", "other"]


class Loop:
    """A step of known length: 10 ns other, 30 forward in two goes, 5 clip within it, once in two steps."""

    def __init__(self, clock: Ticking, laps: NamedLaps) -> None:
        self.clock, self.laps = clock, laps

    def restore(self) -> None:
        pass

    def mode(self, _kind: str) -> "watched":  # type: ignore[valid-type] # a context
        return watched(self.laps.mark)

    def iteration(self, _kind: str) -> Callable[[int, Callable[[], None]], None]:
        return self.step

    def step(self, number: int, _mark: Callable[[], None]) -> None:
        self.laps.mark(STEP_BEGINS)
        self.clock.spend(7)
        with phase("forward"):
            self.clock.spend(20)
            if number % 2:
                with phase("clip"):
                    self.clock.spend(5)
            self.clock.spend(10)
        self.clock.spend(3)
        self.laps.mark("unattributed")
        self.clock.spend(1)


def test_laps_are_summed_by_name_in_each_iteration() -> None:
    """Of which each has its own, in whatever order and however often they begin."""
    clock, laps = Ticking(), NamedLaps()
    block = run_block(Loop(clock, laps), HostClock(clock), "laps", 4, laps)  # type: ignore[arg-type]
    assert block.laps == ("forward", "clip", "other", "unattributed")
    assert block.host.tolist() == [[30, 5 * (number % 2), 10, 1] for number in range(5)]
    assert block.wall_ns == 4 * 41 + 2 * 5
    again = run_block(Loop(clock, laps), HostClock(clock), "laps", 1, laps)  # type: ignore[arg-type]
    assert again.host.tolist() == [[30, 0, 10, 1], [30, 5, 10, 1]]


class OnDevice(Loop):
    """Forward launches 100 µs twice, with 50 µs of clip in between; the host is far ahead."""

    def __init__(self, device: FakeDevice, laps: NamedLaps) -> None:
        self.device, self.laps = device, laps

    def step(self, _number: int, _mark: Callable[[], None]) -> None:
        self.laps.mark(STEP_BEGINS)
        with phase("forward"):
            self.device.launch(100_000)
            with phase("clip"):
                self.device.launch(50_000)
            self.device.launch(100_000)
        self.laps.mark("unattributed")


def test_on_a_device_the_laps_of_a_part_are_its_kernels() -> None:
    """However many events a step has: more are made when they run out."""
    device, laps = FakeDevice(), NamedLaps()
    block = run_block(OnDevice(device, laps), EventClock(device, now=device.now), "laps", 4, laps)  # type: ignore[arg-type]
    assert block.device is not None
    assert block.laps == ("forward", "clip", "other", "unattributed")
    assert block.device[2:].tolist() == [[200_000, 50_000, 0, 0]] * 3
    assert block.host[1:, :2].tolist() == [[2 * LAUNCH_NS, LAUNCH_NS]] * 4


@pytest.fixture
def two() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"body": nn.Sequential(nn.Linear(4, 4), nn.ReLU()), "head": nn.Linear(4, 2)})


def test_the_modules_that_are_called_from_outside_are_found(two: nn.ModuleDict) -> None:
    """Not the container that is never called, nor the parts of what is."""
    with modules_called([two]) as called:
        two["head"](two["body"](torch.ones(3, 4)))
        two["head"](two["body"](torch.ones(3, 4)))
    assert called == [two["body"], two["head"]]
    assert all("_compiled_call_impl" not in vars(module) for module in two.modules())


def test_seams_leave_no_trace(two: nn.ModuleDict) -> None:
    """Neither on objects nor on torch, and not when a step raises."""
    optimizer = torch.optim.SGD(two.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    objects = (*two.modules(), optimizer, schedule)
    before = [dict(vars(one)) for one in objects]
    torch_before = (torch.autograd.backward, torch.autograd.grad)
    names: list[str] = []

    def step() -> None:
        loss = nn.CrossEntropyLoss()(
            two["head"](two["body"](torch.ones(3, 4))), torch.zeros(3, dtype=torch.long)
        )
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()

    with seams([two["body"], two["head"]], [optimizer], names.append):
        step()
    assert names == ["forward", "other"] * 2 + [
        name for part in ("backward", "optimizer", "zero_grad") for name in (part, "other")
    ]
    with pytest.raises(RuntimeError), seams([two["head"]], [optimizer], names.append):
        two["head"](torch.ones(3, 5))
    for one, old in zip(objects, before, strict=True):
        assert vars(one).keys() - {"_opt_called"} == old.keys()  # which the schedule notes itself
        assert vars(one).get("step") is old.get("step")
    assert (torch.autograd.backward, torch.autograd.grad) == torch_before


def test_a_seam_changes_no_result(two: nn.ModuleDict) -> None:
    """The same outputs and gradients to the last bit."""
    inputs = torch.randn(3, 4)

    def gradients() -> list[torch.Tensor]:
        two.zero_grad()
        two["head"](two["body"](inputs)).square().sum().backward()
        return [p.grad.clone() for p in two.parameters() if p.grad is not None]

    plain = gradients()
    with seams([two["body"], two["head"]], [], lambda _: None):
        watched_ones = gradients()
    assert all(torch.equal(one, other) for one, other in zip(plain, watched_ones, strict=True))
    assert np.isfinite([float(one.sum()) for one in plain]).all()
