"""How a worker process ended is told by what happened to it: itself, a signal, or the kernel for memory."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nncore_bench.campaign.launcher import Launcher, WorkerError, how_it_ended, kills_by_kernel
from nncore_bench.cases import Case
from nncore_bench.worker import messages

ENDING = """
import ctypes, os, signal
from torch import nn

class Ending(nn.Linear):
    def forward(self, x):
        {ending}
        return super().forward(x)

def make():
    return Ending(4, 3)
"""


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    """Import torch once for all endings."""
    with closing(Launcher()) as launcher:
        yield launcher


@pytest.mark.machine
@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("os._exit(7)", "ended with exit code 7"),
        ("os.abort()", "was aborted by signal 6"),
        ("ctypes.string_at(0)", "crashed by signal 11"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by signal 9"),
    ],
)
def test_a_step_that_ends_its_process_is_told_by_how_it_did(
    launcher: Launcher, tmp_path: Path, ending: str, said: str
) -> None:
    """Memory is not accused: the kernel counts whom it kills for that, and it killed nobody."""
    file = tmp_path / "ending.py"
    file.write_text(ENDING.format(ending=ending))
    worker = launcher.fork()
    case = Case(f"{file}:make", "-", "cpu", 1, "float32", "eager", 4, "-")
    with pytest.raises(WorkerError, match=f"^{said}$"):
        worker.ask(messages.Prepare(0, case, warm_up=False))


@pytest.mark.machine
def test_a_step_that_leaves_by_system_exit_is_refused_and_its_worker_goes_on(
    launcher: Launcher, tmp_path: Path
) -> None:
    """With the user's line; the next request is answered."""
    file = tmp_path / "ending.py"
    file.write_text(ENDING.format(ending="raise SystemExit(5)"))
    worker = launcher.fork()
    case = Case(f"{file}:make", "-", "cpu", 1, "float32", "eager", 4, "-")
    reply = worker.ask(messages.Prepare(0, case, warm_up=False))
    assert isinstance(reply, messages.Refused)
    assert "exit code 5 at ending.py:7" in reply.reason
    assert isinstance(worker.ask(messages.Forget(0)), messages.Done)


def test_memory_is_named_only_where_the_kernel_killed_for_it() -> None:
    """Signal 9 alone may come from anybody."""
    assert how_it_ended(-signal.SIGKILL) == "was killed by signal 9"
    assert (
        how_it_ended(-signal.SIGKILL, kills_by_kernel=1) == "was killed by the kernel, since memory ran out"
    )
    assert how_it_ended(-signal.SIGTERM, kills_by_kernel=1) == "ended by signal 15"
    assert how_it_ended(os.EX_OK) == "ended with exit code 0"


def test_the_kernels_count_of_kills_is_read_where_there_is_one() -> None:
    """A whole number that only rises."""
    first = kills_by_kernel()
    assert 0 <= first <= kills_by_kernel()
