"""Counts of a CUDA device: on a fake whose memory, waits and launches are planned, and once on a real one."""

import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from countable import Bench, simple
from torch import Tensor, nn
from torch.autograd import DeviceType

from nncore.step import TrainStep
from nncore_bench.cases import STEP_PHASES, Case
from nncore_bench.worker.counters.count import count_case
from nncore_bench.worker.counters.cuda import count_synchronisations, is_launch, launches_by_phase
from nncore_bench.worker.counters.memory import LEAK_STEPS, Timeline, count_memory
from nncore_bench.worker.subjects.subject import Subject

FLOAT = 4


def test_a_timeline_tells_what_was_alive_before_at_most_and_after() -> None:
    """Ten bytes from before, five that come and go, three that stay."""
    span = Timeline([(1, 10), (5, 5), (6, -5), (7, 3), (9, -3)]).span(5, 8)
    assert (span.allocations, span.allocated_bytes) == (2, 8)
    assert (span.before, span.highest, span.after) == (10, 15, 13)


class FakeCuda:
    """Count bytes as torch.cuda's allocator does, and warn of waits when told to."""

    def __init__(self) -> None:
        self.sync_mode: int | str = 0
        self.current = self.peak = self.total = self.made = 0

    def make(self, size: int) -> None:
        self.made += 1
        self.total += size
        self.current += size
        self.peak = max(self.peak, self.current)

    def free(self, size: int) -> None:
        self.current -= size

    def wait(self) -> None:
        if self.sync_mode == "warn":
            warnings.warn("called a synchronizing CUDA operation (Triggered internally)", stacklevel=2)

    def memory_stats(self, _device: torch.device) -> dict[str, int]:
        return {
            "allocation.all.allocated": self.made,
            "allocated_bytes.all.allocated": self.total,
            "allocated_bytes.all.current": self.current,
            "allocated_bytes.all.peak": self.peak,
        }

    def memory_allocated(self, _device: torch.device) -> int:
        return self.current

    def reset_peak_memory_stats(self, _device: torch.device) -> None:
        self.peak = self.current

    def get_sync_debug_mode(self) -> int | str:
        return self.sync_mode

    def set_sync_debug_mode(self, mode: int | str) -> None:
        self.sync_mode = mode


class FakeStep(TrainStep):
    """A step whose memory is planned: 1000 bytes of gradients, 600 of activations, 100 leaked."""

    def __init__(self, runtime: FakeCuda) -> None:
        super().__init__(nn.Linear(3, 2))
        self.runtime = runtime
        self.gradients = 0

    def zero_grad(self) -> None:
        super().zero_grad()
        self.runtime.free(self.gradients)
        self.gradients = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.runtime.make(600)
        self.runtime.make(100)
        return super().forward(inputs)

    def backward(self, loss: Tensor) -> None:
        super().backward(loss)
        self.runtime.make(1000)
        self.runtime.free(600)
        self.gradients = 1000

    def optimizer(self) -> None:
        super().optimizer()
        self.runtime.wait()
        self.runtime.wait()


@pytest.fixture
def fake() -> Iterator[tuple[Bench, FakeCuda]]:
    """Return a fake device, and a step that plans its memory and its waits on it."""
    runtime = FakeCuda()
    batch = (torch.zeros(5, 3), torch.zeros(5, dtype=torch.int64))
    yield Bench(FakeStep(runtime), [batch], torch.device("cuda")), runtime
    assert runtime.sync_mode == 0


def test_the_allocators_counters_are_told_apart_by_phase(fake: tuple[Bench, FakeCuda]) -> None:
    """Peaks are above what zero_grad leaves; 100 bytes stay of every step."""
    memory = count_memory(*fake)
    assert memory is not None
    peaks = [memory.counters(phase)["peak_bytes"] for phase in (*STEP_PHASES, "inference")]
    assert peaks == [1000, 700, 700, 1700, 1100, 0]
    forward = memory.spans["forward"]
    assert (forward.allocations, forward.allocated_bytes) == (2, 700)
    assert memory.spans["backward"].allocated_bytes == 1000
    assert memory.leaked_bytes == LEAK_STEPS * 100


def test_every_wait_for_the_device_is_counted_in_its_phase(fake: tuple[Bench, FakeCuda]) -> None:
    """Two in the optimizer, as a `.item()` each would make them, and none elsewhere."""
    waits = count_synchronisations(*fake)
    assert waits is not None
    assert {phase: found.total() for phase, found in waits.items()} == {
        **dict.fromkeys((*STEP_PHASES, "inference"), 0),
        "optimizer": 2,
    }
    assert {site.partition(":")[0] for site in waits["optimizer"]} == {Path(__file__).name}


def test_a_case_on_the_fake_device_has_copies_and_waits_but_no_launches_seen(
    fake: tuple[Bench, FakeCuda],
) -> None:
    """Where the profiler cannot see a device its launches are unknown, and not 0."""
    if torch.cuda.is_available():
        pytest.skip("the profiler sees a device here")
    step = count_case(*fake).phases["step"]
    assert (step.copies, step.synchronisations, step.kernel_launches) == (0, 2, None)


def test_memory_of_another_kind_of_device_is_unknown() -> None:
    """None, and not 0."""
    work = simple(7, 5, 3, 2)
    work.device = torch.device("meta")
    assert count_memory(work, None) is None


def event(name: str, start: int, end: int, kind: DeviceType = DeviceType.CPU) -> Any:  # noqa: ANN401 - as kineto's
    """Return what the profiler records of a call."""
    return SimpleNamespace(
        name=lambda: name, start_ns=lambda: start, end_ns=lambda: end, device_type=lambda: kind
    )


def test_launches_are_those_that_begin_within_a_label_of_the_host() -> None:
    """One before, two in forward, none in the loss, one in backward; the device's own label is another."""
    events = [
        event("cudaLaunchKernel", 5, 6),
        event("nncore-bench forward", 10, 20),
        event("cudaLaunchKernel", 11, 12),
        event("cuLaunchKernelEx", 19, 25),
        event("cudaMemcpyAsync", 13, 14),
        event("nncore-bench loss", 30, 40),
        event("cudaLaunchKernel", 45, 46),
        event("nncore-bench backward", 50, 60),
        event("cudaLaunchKernelExC", 50, 51),
        event("nncore-bench loss", 50, 70, DeviceType.CUDA),
        event("volta_sgemm", 52, 53, DeviceType.CUDA),
    ]
    assert launches_by_phase(events) == {"forward": 2, "loss": 0, "backward": 1}


def test_a_launch_is_known_by_its_name() -> None:
    """The runtime's and the driver's, cooperative ones too; a graph is not a kernel."""
    assert all(map(is_launch, ("cudaLaunchKernel", "cuLaunchKernel", "cudaLaunchCooperativeKernel")))
    assert not any(map(is_launch, ("cudaGraphLaunch", "cudaMemcpyAsync", "aten::LaunchKernel")))
    on_rocm = ("hipLaunchKernel", "hipModuleLaunchKernel", "hipExtModuleLaunchKernel", "hipExtLaunchKernel")
    assert all(map(is_launch, on_rocm))
    assert not any(map(is_launch, ("hipGraphLaunch", "hipMemcpyAsync", "hipLaunchHostFunc")))


@pytest.mark.cuda
def test_a_real_device_waits_for_an_item_and_launches_kernels() -> None:
    """Twenty counts agree, a step of ours does not wait, and one with `.item()` waits once more."""
    subject = Subject(Case("simplenn", "digits", "cuda", "-", "float32", "eager", 32, 128))
    subject.check()
    subject.save()
    counters = [count_case(subject) for _ in range(20)]
    assert all(a == b for a, b in pairwise(counters))
    phases = counters[0].phases
    assert phases["step"].synchronisations == 0
    assert (phases["forward"].kernel_launches or 0) >= 3
    assert (phases["forward"].peak_bytes or 0) >= 32 * (128 + 10) * FLOAT
    subject.step.loss = lambda logits, targets: TrainStep.loss(  # type: ignore[method-assign]
        subject.step, logits * float(logits.detach().sum().item() == 0), targets
    )
    assert count_case(subject).phases["loss"].synchronisations == 1
