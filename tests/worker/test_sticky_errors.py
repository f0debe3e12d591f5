"""An error that leaves a process of no more use ends that process, and fails the one case it came from."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_up_campaign import Bench

from nncore_bench.campaign.conductor import Conductor
from nncore_bench.campaign.launcher import ForkedEnding, Launcher, WorkerError
from nncore_bench.campaign.plan import Plan
from nncore_bench.cases import Case
from nncore_bench.records import CaseRecord
from nncore_bench.worker import messages
from nncore_bench.worker.server import Worker, ends_the_process, in_one_sentence
from nncore_bench.worker.subjects.cuda_graph import CaptureError

ASSERT = "CUDA error: device-side assert triggered"
NETWORK = f"""
import torch
from torch import nn

class Fragile(nn.Module):
    broken = False

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, inputs):
        Fragile.broken = Fragile.broken or len(inputs) == 12
        if Fragile.broken:  # and ever after, as in a context of CUDA's
            raise torch.AcceleratorError({ASSERT!r})
        return self.linear(inputs)

def make():
    return Fragile()
"""


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    """Import torch once for both tests of real workers."""
    with closing(Launcher()) as launcher:
        yield launcher


@pytest.mark.machine
def test_a_device_side_assert_in_one_of_three_cases_fails_that_case_alone(
    launcher: Launcher, tmp_path: Path
) -> None:
    """In every launch its process goes down with it, and a new one measures the other two."""
    file = tmp_path / "fragile.py"
    file.write_text(NETWORK)
    case = Case(f"{file}:make", "-", "cpu", 1, "float32", "eager", 4, "-")
    records = [CaseRecord(replace(case, batch_size=size), ("step",)) for size in (4, 12, 16)]
    bench = Bench()
    plan = Plan(2, 2.0, 0.5, least_rounds=2, seed=3)
    Conductor(records, plan, lambda _: launcher.fork(), bench.save, bench.progress).run()
    assert [r.status for r in bench.saved_cases] == ["ok", "failed", "ok"], bench.saved_cases
    assert ASSERT in bench.saved_cases[1].reason
    assert {b.case for blocks in bench.rounds.values() for b in blocks} == {0, 2}
    assert {b.launch for blocks in bench.rounds.values() for b in blocks} == {0, 1}


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (torch.AcceleratorError(ASSERT), True),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), True),
        (CaptureError("a step that asks for a value cannot be captured"), True),
        (torch.AcceleratorError("CUDA error: out of memory"), False),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), False),
        (ValueError("a wrong shape"), False),
    ],
)
def test_errors_of_a_device_end_a_process_and_want_of_memory_does_not(
    error: Exception, *, ends: bool
) -> None:
    """What is freed is there for the next case; a context that failed is there for none."""
    assert ends_the_process(error) is ends
    worker = Worker()
    worker._answers[messages.Forget] = lambda _: raised(error)
    reply = worker.answer(messages.Forget(0))
    assert isinstance(reply, messages.Ended if ends else messages.Refused)


def raised(error: Exception) -> messages.Reply:
    raise error


def test_a_device_that_does_not_answer_ends_its_process_whatever_was_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Libraries such as cuBLAS raise errors of their own where a context had failed before."""
    error = RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`")
    assert not ends_the_process(error)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert not ends_the_process(error)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: raised(torch.AcceleratorError(ASSERT)))
    assert ends_the_process(error)


def test_a_failed_capture_is_told_by_what_failed_first() -> None:
    """The last error says only that there was one before it."""
    first = torch.AcceleratorError("CUDA error: operation not permitted when stream is capturing")
    last = torch.AcceleratorError("CUDA error: operation failed due to a previous error during capture")
    last.__context__ = first
    assert in_one_sentence(last) == f"AcceleratorError: {first}"
    last.__context__ = None
    assert in_one_sentence(last) == f"AcceleratorError: {last}"


def test_an_obscure_error_of_cuda_is_told_with_what_it_usually_is_and_where_to_look() -> None:
    """As a possibility: it may be another index, or no index at all."""
    told = in_one_sentence(torch.AcceleratorError(f"{ASSERT}\nCUDA kernel errors might be ..."))
    assert told.startswith(f"AcceleratorError: {ASSERT} (often an index out of range")
    assert "on the CPU" in told
    assert "CUDA_LAUNCH_BLOCKING=1" in told
    assert "(" not in in_one_sentence(torch.AcceleratorError("CUDA error: unspecified launch failure"))


@pytest.mark.machine
def test_a_worker_error_names_what_ended_the_worker(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply that says so is the last one."""
    worker = launcher.fork()
    monkeypatch.setattr(worker._channel, "receive", lambda *_: messages.Ended("it broke"))
    with pytest.raises(WorkerError, match="had to end: it broke"):
        worker.ask(messages.Forget(0))


def test_a_worker_can_be_closed_after_an_interrupt_in_the_middle_of_a_launch() -> None:
    """The launcher's answer to a fork was never read, and is found where the end is asked for."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        launcher = messages.Channel(theirs)
        launcher.send(messages.Forked(1))
        with subprocess.Popen(["sleep", "60"]) as process:  # noqa: S607 - of the system
            ending = ForkedEnding(messages.Channel(ours), process.pid)
            assert ending.describe() == "was ended"
        assert process.returncode == -signal.SIGKILL
