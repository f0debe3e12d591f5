"""Workers of CUDA are forked where a probe has shown that a fork can use it, and spawned elsewhere."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import torch

from nncore_bench.campaign.launcher import Launcher
from nncore_bench.worker import messages
from nncore_bench.worker.processes import a_fork_can


@pytest.fixture(scope="module")
def imported() -> Iterator[Launcher]:
    """Import torch once for all launches of this file."""
    with closing(Launcher()) as launcher:
        yield launcher


@pytest.fixture
def launcher(imported: Launcher) -> Launcher:
    """Return a launcher that has not asked whether forks can use CUDA."""
    vars(imported).pop("forks_use_cuda", None)
    return imported


def fail() -> None:
    raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")


@pytest.mark.parametrize(
    ("use", "works"), [(lambda: None, True), (fail, False), (lambda: os.kill(os.getpid(), 9), False)]
)
def test_a_probe_tells_whether_a_fork_can_do_something(use: Callable[[], None], *, works: bool) -> None:
    """What fails or crashes there has cost a process that nobody needs."""
    assert a_fork_can(use) is works
    assert not psutil.Process().children()


def test_a_probe_that_hangs_is_ended_and_counts_as_a_no() -> None:
    """Forks of a process that had threads of a driver's may hang for ever."""
    assert a_fork_can(lambda: time.sleep(600), timeout_s=0.2) is False
    assert not psutil.Process().children()


def test_what_a_probe_does_is_not_done_here(tmp_path: Path) -> None:
    """The launcher must not touch CUDA itself."""
    file = tmp_path / "pid"
    assert a_fork_can(lambda: (file.write_text(str(os.getpid())), None)[1])
    assert int(file.read_text()) != os.getpid()


def test_a_process_that_has_initialised_cuda_is_not_forked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even to see what comes of it."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(os, "fork", fail)
    assert a_fork_can(lambda: None) is False


@pytest.mark.machine
@pytest.mark.parametrize(("works", "started"), [(True, "fork"), (False, "spawn")])
def test_a_launcher_forks_for_cuda_only_where_the_probe_worked(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch, *, works: bool, started: str
) -> None:
    """It is asked once; the CPU is always forked, with its cores; CUDA has all threads."""
    asked: list[str] = []
    threads = launcher.hello.all_threads
    with monkeypatch.context() as planted:
        planted.setattr(launcher, "fork", lambda *place, threads=1: asked.append(f"fork {place} {threads}"))
        planted.setattr(launcher, "spawn", lambda code: asked.append(f"spawn {code}"))
        probes: list[messages.Probe] = []
        planted.setattr(launcher._control, "send", probes.append)
        planted.setattr(launcher._control, "receive", lambda *_: messages.Probed(works))
        launcher.start("cpu", "here", (1,))
        launcher.start("cuda", "here", (1,))
        launcher.start("cuda", "here")
    on_cuda = f"fork ('here',) {threads}" if started == "fork" else "spawn here"
    assert asked == ["fork ('here', (1,)) 1", on_cuda, on_cuda]
    assert probes == [messages.Probe()]


@pytest.mark.machine
def test_a_machine_without_cuda_forks_nothing_to_see_that(launcher: Launcher) -> None:
    """The launcher knows; and asking does not disturb what it forks afterwards."""
    assert launcher.forks_use_cuda is launcher.hello.cuda
    worker = launcher.fork(threads=2)
    assert isinstance(worker.ask(messages.Forget(0)), messages.Done)
    worker.close()


@pytest.mark.machine
def test_a_closed_worker_is_gone_when_the_next_is_started(launcher: Launcher) -> None:
    """A GPU in exclusive mode, and memory, are free only then; closing it again ends nobody else."""
    worker = launcher.fork()
    (pid,) = {c.pid for c in psutil.Process().children(recursive=True) if c.ppid() != os.getpid()}
    worker.close()
    assert not psutil.pid_exists(pid)
    worker.close()


@pytest.mark.machine
@pytest.mark.cuda
def test_a_fork_of_a_launcher_uses_cuda_as_the_probe_says(launcher: Launcher) -> None:
    """On a real device: whatever the probe found, a worker has the GPU."""
    reply = launcher.start("cuda").ask(messages.Look())
    assert isinstance(reply, messages.Seen)
    assert reply.total_bytes >= reply.free_bytes > 0
