"""The processes that measure: how they start, what they share, and how they end.

A `launcher` imports torch once and forks a worker for every request; a `launcher-of-any-code` does so without
the code that is measured, which each worker imports from where it is told; a `worker` is one by itself, as
CUDA needs it where a fork cannot use it (a process that has initialised CUDA cannot fork). All end when the
other side of their pipe does, so a killed parent leaves no orphan. `start.py` starts them.
"""

import ctypes
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from nncore_bench.worker import messages
from nncore_bench.worker.torch_facts import torch_facts

LAUNCHER, OF_ANY_CODE, WORKER = "launcher", "launcher-of-any-code", "worker"
LAUNCHERS = (LAUNCHER, OF_ANY_CODE)
NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
PROBE_TIMEOUT_S = 30.0
"""A context takes up to 2 s, and many GPUs or a cold disk several times that."""


def serve(channel: messages.Channel, code_path: str = "") -> None:
    """Answer requests until the other side is gone, or one has left this process of no more use.

    What is measured is the code in `code_path`, if given.
    """
    answer, reply = answering(code_path), None
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while not isinstance(reply, messages.Ended):
            reply = answer(channel.receive(messages.Request))
            channel.send(reply)


def answering(code_path: str) -> Callable[[messages.Request], messages.Reply]:
    """Return what answers requests: a worker or, where the measured code cannot be imported, why not."""
    try:
        from nncore_bench.worker.server import Worker  # noqa: PLC0415 - which imports the code that is measured
    except Exception as error:  # noqa: BLE001 - a revision may fail to import in any way
        refused = messages.Refused(f"its code cannot be imported ({type(error).__name__}: {error})")
        return lambda _: refused
    measured = sys.modules["nncore"].__file__
    has_its_own = bool(code_path) and (Path(code_path) / "nncore").is_dir()
    if has_its_own and not (measured and Path(measured).resolve().is_relative_to(Path(code_path).resolve())):
        return lambda _: messages.Refused(f"its code has no package nncore (Python found {measured} instead)")
    return Worker().answer


def launch_workers(sock: socket.socket, *, of_any_code: bool) -> None:
    """Import what a step needs once, then fork a worker for every request until the other side is gone.

    Where the workers are `of_any_code`, each imports the code that it measures itself, from where it is told.
    """
    channel = messages.Channel(sock)
    if not of_any_code:
        import nncore_bench.worker.server  # noqa: F401, PLC0415 - for the workers, which share it
    ask_as_usual = ask_driver_for_cuda()
    hello = messages.Hello(torch.get_num_threads(), torch.cuda.is_available(), torch_facts())
    torch.set_num_threads(1)  # a fork is safe only where no thread pool was started
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # the first optimizer of a process imports for 1 s
    gc.freeze()
    channel.send(hello)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            request = channel.receive(messages.Fork | messages.Reap | messages.Probe)
            if isinstance(request, messages.Fork):
                channel.send(messages.Forked(_fork(sock, request, ask_as_usual)))
            elif isinstance(request, messages.Probe):
                channel.send(messages.Probed(hello.cuda and a_fork_can(use_cuda)))
            else:
                channel.send(messages.Reaped(_exit_code(request.pid)))


def _exit_code(pid: int) -> int:
    """Return how a worker ended; whoever asks twice is told that it was killed."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return -signal.SIGKILL


def _fork(control: socket.socket, request: messages.Fork, ask_as_usual: Callable[[], None]) -> int:
    _, fds, _, _ = socket.recv_fds(control, 1, 1)
    pid = os.fork()
    if pid:
        os.close(fds[0])
        return pid
    control.close()
    rebuild_thread_pool(request.threads)
    ask_as_usual()
    die_with_parent()
    go_first_when_memory_runs_out()
    if request.code_path:
        measure_code_in(request.code_path)
    if request.cores:
        os.sched_setaffinity(0, request.cores)
    serve(messages.Channel(socket.socket(fileno=fds[0])), request.code_path)
    os._exit(0)


def a_fork_can(use: Callable[[], None], timeout_s: float = PROBE_TIMEOUT_S) -> bool:
    """Tell whether a process forked from this one can do something without failing, in some seconds.

    One that has initialised CUDA cannot, and is not asked to: its forks may hang.
    """
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return False
    pid = os.fork()
    if not pid:
        die_with_parent()
        with suppress(BaseException):
            rebuild_thread_pool(1)
            use()
            os._exit(0)
        os._exit(1)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def use_cuda() -> None:
    """Differentiate a small product on the GPU, on autograd's own thread; raises where that goes wrong."""
    matrix = torch.ones(64, 64, device="cuda", requires_grad=True)
    torch.autograd.backward((matrix @ matrix).sum())
    if matrix.grad is None or float(matrix.grad.sum()) != 2 * 64**3:  # each of 64² entries: 64 twice
        raise ArithmeticError("a product in a forked process came out wrong")


def rebuild_thread_pool(threads: int) -> None:
    """Have torch replace the thread pool that a fork has left without its threads.

    It does so when the number of threads is set next. Where threads of autograd's are first, two at a time,
    one finds none and ends the process ("Invalid thread pool!"), as after a compiled network was loaded.
    """
    torch.set_num_threads(threads)


def measure_code_in(folder: str) -> None:
    """Have imports, and the paths of files, begin in a folder; code may lie in its `src` as well."""
    sys.path[:0] = [folder, str(Path(folder) / "src")]
    os.chdir(folder)


def ask_driver_for_cuda() -> Callable[[], None]:
    """Have `is_available()` ask the driver's library, and return what makes it ask as usual again.

    A fork is usable only while CUDA is not initialised, which the usual way does. In the workers, though, it
    must be the usual one: Adam asks several times a step, and the other way takes 30 times as long.
    """
    usual = os.environ.get(NVML_CHECK)
    os.environ[NVML_CHECK] = "1"

    def ask_as_usual() -> None:
        os.environ.pop(NVML_CHECK)
        if usual is not None:
            os.environ[NVML_CHECK] = usual

    return ask_as_usual


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def go_first_when_memory_runs_out() -> None:
    """Ask Linux to pick this process, and not the session, when it must end one to get memory back."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def main(role: str, fd: str, code_path: str = "") -> None:
    """Be a launcher, one of workers of any code, or a worker by itself; Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    sock = socket.socket(fileno=int(fd))
    if role in LAUNCHERS:
        launch_workers(sock, of_any_code=role == OF_ANY_CODE)
        return
    go_first_when_memory_runs_out()
    if code_path:
        measure_code_in(code_path)
    channel = messages.Channel(sock)
    channel.send(messages.Hello(torch.get_num_threads(), torch.cuda.is_available(), torch_facts()))
    gc.freeze()
    serve(channel, code_path)
