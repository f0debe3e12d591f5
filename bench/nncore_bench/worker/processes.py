"""The measuring processes: how they start, what they share, and how they end.

A `launcher` imports torch once and forks a worker per request. A `launcher-of-any-code` does so without the
measured code, which each worker imports from a given folder. A `worker` is a single process, for CUDA where a
fork cannot use it (a process that has initialised CUDA cannot fork). All end when the other side of their
pipe does, so a killed parent leaves no orphans. `start.py` starts them.
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

LAUNCHER, OF_ANY_CODE = LAUNCHERS = ("launcher", "launcher-of-any-code")
NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
PROBE_TIMEOUT_S = 30.0
"""Creating a context takes up to 2 s; many GPUs or a cold disk take several times that."""


def serve(channel: messages.Channel, code_path: str = "") -> None:
    """Answer requests until the other side closes, or until a request has made this process unusable.

    `code_path` is the folder of the measured code, if it is not the installed one.
    """
    answer, reply = answering(code_path), None
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while not isinstance(reply, messages.Ended):
            reply = answer(channel.receive(messages.Request))
            channel.send(reply)


def answering(code_path: str) -> Callable[[messages.Request], messages.Reply]:
    """Return the function that answers requests: a worker's, or a refusal if its code cannot be imported."""
    try:
        from nncore_bench.worker.server import Worker  # noqa: PLC0415 - imports the measured code
    except Exception as error:  # noqa: BLE001 - a revision may fail to import in any way
        refused = messages.Refused(f"its code cannot be imported ({type(error).__name__}: {error})")
        return lambda _: refused
    measured = sys.modules["nncore"].__file__
    has_its_own = bool(code_path) and (Path(code_path) / "nncore").is_dir()
    if has_its_own and not (measured and Path(measured).resolve().is_relative_to(Path(code_path).resolve())):
        return lambda _: messages.Refused(f"its code has no package nncore (Python found {measured} instead)")
    return Worker().answer


def launch_workers(sock: socket.socket, *, of_any_code: bool) -> None:
    """Import torch once, then fork a worker per request until the other side closes.

    With `of_any_code` each worker imports the measured code itself, from the folder in its request.
    """
    channel = messages.Channel(sock)
    if not of_any_code:
        import nncore_bench.worker.server  # noqa: F401, PLC0415 - shared by all workers
    ask_as_usual = ask_driver_for_cuda()
    hello = messages.Hello(torch.get_num_threads(), torch.cuda.is_available(), torch_facts())
    torch.set_num_threads(1)  # forking is safe only before a thread pool has started
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # a process's first optimizer imports for 1 s
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
    """Return a worker's exit code, and -SIGKILL if it has been asked for before."""
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
    """Return whether `use` succeeds in a fork of this process within the timeout.

    False without trying if this process has initialised CUDA, since its forks may hang.
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
    """Differentiate a small matrix product on the GPU, in autograd's own thread; raises if that fails."""
    matrix = torch.ones(64, 64, device="cuda", requires_grad=True)
    torch.autograd.backward((matrix @ matrix).sum())
    if matrix.grad is None or float(matrix.grad.sum()) != 2 * 64**3:  # each of 64² entries: 64 twice
        raise ArithmeticError("a product in a forked process came out wrong")


def rebuild_thread_pool(threads: int) -> None:
    """Make torch replace the thread pool, whose threads did not survive the fork, by setting its size.

    If autograd's threads came first, two at a time, one would find no pool and abort the process ("Invalid
    thread pool!"), as happened after loading a compiled network.
    """
    torch.set_num_threads(threads)


def measure_code_in(folder: str) -> None:
    """Make imports and relative paths start from a folder, whose code may also be in its `src`."""
    sys.path[:0] = [folder, str(Path(folder) / "src")]
    os.chdir(folder)


def ask_driver_for_cuda() -> Callable[[], None]:
    """Make `torch.cuda.is_available()` query NVML, and return a function that undoes it.

    The usual check initialises CUDA, after which a process must not fork. Workers need the usual check
    nevertheless: Adam calls it several times per step, and NVML takes 30 times as long.
    """
    usual = os.environ.get(NVML_CHECK)
    os.environ[NVML_CHECK] = "1"

    def ask_as_usual() -> None:
        os.environ.pop(NVML_CHECK)
        if usual is not None:
            os.environ[NVML_CHECK] = usual

    return ask_as_usual


def die_with_parent() -> None:
    """Make Linux kill this process when its parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def go_first_when_memory_runs_out() -> None:
    """Make Linux kill this process, rather than the session, when memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def main(role: str, fd: str, code_path: str = "") -> None:
    """Run as a launcher or a single worker; Ctrl-C is left to the parent."""
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
