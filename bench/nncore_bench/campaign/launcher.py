"""The parent's side of the worker processes: start them, ask them, and see how they end.

Imports no torch: the process that the user starts never measures.
"""

import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from functools import cached_property
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from packaging.version import Version

from nncore_bench.errors import UserError
from nncore_bench.worker import messages

ALLOCATOR_POLICY = {
    # glibc may give large tensors back to the kernel at every step, and the page faults that follow can cost
    # each process another share. Not seen on the machine of the README's figures, so kept as a precaution.
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
}
START = Path(__file__).parents[1] / "worker" / "start.py"
START_TIMEOUT_S = 300.0
REQUEST_TIMEOUT_S = 180.0
COMPILING_TIMEOUT_S = 600.0
"""For torch.compile: a cold search for the fastest kernels of a ResNet takes minutes."""

OLDEST_TORCH = (2, 11)

NO_ANSWER = "gave no answer"
"""How the ending of a worker begins that took too long."""

Answer = TypeVar("Answer", bound=messages.Reply)
ENDED_BY = {6: "was aborted", 9: "was killed", 11: "crashed"}
"""What a signal does to a process, in words, by its number."""

GRACE_S = 2.0
"""Seconds for a process that has closed its pipe to end by itself, so that its exit code is its own."""


def patience(request: messages.Request, compile_by: float = inf) -> float:
    """Return the timeout of a request in seconds.

    One that names its case may have to compile its network, which has to be done by a moment of the
    monotonic clock.
    """
    compiles = isinstance(request, messages.Prepare | messages.Profile) and request.case.form.compiled
    left = max(1.0, compile_by - time.monotonic())
    return min(COMPILING_TIMEOUT_S, left) if compiles else REQUEST_TIMEOUT_S


def allocator_can_be_chosen() -> bool:
    """Return whether the policy has a meaning for this machine's C library."""
    return platform.libc_ver()[0] == "glibc"


class WorkerError(UserError):
    """How a worker process ended before it had answered."""


class Asked(Protocol):
    """A worker process, or in tests an object that behaves like one."""

    def ask(self, request: messages.Request) -> messages.Reply:
        """Send a request and return the reply; raises WorkerError when the worker is gone or hangs."""

    def close(self) -> None:
        """End the worker, which gives its memory back."""


def answer_of(
    kind: type[Answer],
    workers: MutableMapping[str, Asked],
    start: Callable[[str], Asked],
    device: str,
    *requests: messages.Request,
) -> Answer | str:
    """Send requests to the worker of a device; return the reply of this kind, or why there is none.

    If `workers` has none, one is started; one that dies is removed.
    """
    try:
        if device not in workers:
            workers[device] = start(device)
        replies = [workers[device].ask(request) for request in requests]
    except WorkerError as error:
        workers.pop(device, None)
        return f"its worker process {error}"
    refused = [reply.reason for reply in replies if isinstance(reply, messages.Refused)]
    return refused[0] if refused else next((r for r in replies if isinstance(r, kind)), "no answer")


class Worker:
    """One worker process, asked over its socket."""

    def __init__(
        self,
        channel: messages.Channel,
        ending: "ForkedEnding | SpawnedEnding",
        patience: Callable[[messages.Request], float],
    ) -> None:
        self._channel = channel
        self._ending = ending
        self._patience = patience

    def ask(self, request: messages.Request, timeout: float | None = None) -> messages.Reply:
        """Send a request and return the reply; raises WorkerError when the worker is gone or hangs."""
        timeout = timeout or self._patience(request)
        try:
            self._channel.send(request)
            reply: messages.Reply = self._channel.receive(messages.Reply, timeout)
        except TimeoutError:
            self._ending.kill()
            raise WorkerError(f"{NO_ANSWER} within {timeout:.0f} s and was killed") from None
        except (EOFError, OSError):
            raise WorkerError(self._ending.describe()) from None
        if isinstance(reply, messages.Ended):
            raise WorkerError(f"had to end: {reply.reason}")
        return reply

    def close(self) -> None:
        """End the worker and wait until it is gone: another may need its memory, or its GPU for itself."""
        self.hang_up()
        self._ending.kill()
        self._ending.describe()

    def hang_up(self) -> None:
        """Close the pipe, upon which the worker ends by itself."""
        self._channel.close()


def refuse_old_torch(found: str) -> None:
    """Raise UserError for a torch that can be watched, but not measured."""
    if Version(found).release < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise UserError(
            f"torch {found} is installed, and measuring needs {oldest} or newer (run, Watch, loader, report"
            " and compare work with it)"
        )


class Launcher:
    """The process that imported torch once, and the workers forked from it or spawned.

    `policy` and `more` are added to the user's environment. Workers `of_any_code` import the code that they
    measure themselves, each from its own folder; `python` is the interpreter whose torch they run.
    """

    def __init__(
        self,
        policy: Mapping[str, str] = ALLOCATOR_POLICY,
        *,
        of_any_code: bool = False,
        python: str = sys.executable,
        more: Mapping[str, str] | None = None,
    ) -> None:
        if python == sys.executable:
            refuse_old_torch(version("torch"))
        self._more = more or {}
        self._policy = {**policy, **self._more}
        self._python = python
        self._beside: Launcher | None = None
        self._workers: list[Worker] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self.compile_by = inf
        """The moment of the monotonic clock by which a network has to be compiled."""

        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._control, self._process = self._start("launcher-of-any-code" if of_any_code else "launcher")

    @cached_property
    def hello(self) -> messages.Hello:
        """Return what torch sees of this machine, waiting for its import where need be."""
        return self._greeting(self._control, self._process)

    def fork(self, code_path: str = "", cores: tuple[int, ...] = (), threads: int = 1) -> Worker:
        """Return a new worker forked from the process that has imported torch; raises WorkerError.

        It looks first in `code_path` for the code that it measures, may use no cores but `cores`, and has
        `threads` threads until a case asks for another number.
        """
        _ = self.hello
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._control.send(messages.Fork(code_path, cores, threads))
                socket.send_fds(self._control.sock, [b"F"], [theirs.fileno()])
            pid = self._control.receive(messages.Forked, START_TIMEOUT_S).pid
        except (EOFError, OSError):
            ours.close()
            raise WorkerError(
                f"the launcher of the workers {SpawnedEnding(self._process).describe()}"
            ) from None
        self._workers.append(Worker(messages.Channel(ours), ForkedEnding(self._control, pid), self._patience))
        return self._workers[-1]

    def _patience(self, request: messages.Request) -> float:
        return patience(request, self.compile_by)

    def beside(self) -> "Launcher":
        """Return a launcher whose workers have the default allocator, started when first asked for."""
        if self._beside is None:
            self._beside = Launcher(policy={}, more=self._more)
        return self._beside

    def start(self, device: str, code_path: str = "", cores: tuple[int, ...] = ()) -> Worker:
        """Return a new worker for a device; raises WorkerError.

        For CUDA it is forked only where a probe has shown that a fork can use it, and spawned elsewhere. It
        may use every core and thread then: its backward runs on a thread of its own.
        """
        if device == "cpu":
            return self.fork(code_path, cores)
        if self.forks_use_cuda:
            return self.fork(code_path, threads=self.hello.all_threads)
        return self.spawn(code_path)

    @cached_property
    def forks_use_cuda(self) -> bool:
        """Return whether workers forked from this launcher can use CUDA; tried once, in a fork."""
        _ = self.hello
        try:
            self._control.send(messages.Probe())
            probed: messages.Probed = self._control.receive(messages.Probed, START_TIMEOUT_S)
        except (EOFError, OSError):
            return False
        return probed.works

    def spawn(self, code_path: str = "") -> Worker:
        """Return a new worker in a process that has imported all by itself; raises WorkerError."""
        channel, process = self._start("worker", *([code_path] if code_path else []))
        self._greeting(channel, process)
        self._workers.append(Worker(channel, SpawnedEnding(process), self._patience))
        return self._workers[-1]

    def memory_bytes(self) -> int | None:
        """Return the memory of this process and all workers now, pages they share counted once (PSS)."""
        import psutil  # noqa: PLC0415 - only a campaign asks

        try:
            own = psutil.Process()
            return sum(process.memory_full_info().pss for process in (own, *own.children(recursive=True)))
        except (psutil.Error, AttributeError):
            return None

    def close(self) -> None:
        """End all workers and the launcher, and leave none behind."""
        if self._beside is not None:
            self._beside.close()
        for worker in self._workers:
            worker.hang_up()
        self._control.close()
        for process in self._processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._errors.close()

    def _start(self, role: str, *arguments: str) -> tuple[messages.Channel, subprocess.Popen[bytes]]:
        ours, theirs = socket.socketpair()
        allocator = ("MALLOC_", "GLIBC_TUNABLES")  # what steers glibc's is ours to choose
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(allocator)}
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - this project's own program
                [self._python, "-P", str(START), role, str(theirs.fileno()), *arguments],
                pass_fds=(theirs.fileno(),),
                env={**inherited, **self._policy},
                stdin=subprocess.DEVNULL,
                stderr=self._errors,
            )
        self._processes.append(process)
        return messages.Channel(ours), process

    def _greeting(self, channel: messages.Channel, process: subprocess.Popen[bytes]) -> messages.Hello:
        try:
            hello: messages.Hello = channel.receive(messages.Hello, START_TIMEOUT_S)
        except (EOFError, OSError):
            end = SpawnedEnding(process).describe()
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
            raise WorkerError(": ".join([f"the measuring process did not start: it {end}", *said])) from None
        return hello


def memory_left() -> int | None:
    """Return the bytes of memory available on this machine, or None where unknown."""
    import psutil  # noqa: PLC0415 - only a campaign asks

    try:
        return int(psutil.virtual_memory().available)
    except (psutil.Error, OSError):
        return None


class ForkedEnding:
    """The ending of a forked worker, which its parent, the launcher, is asked for."""

    def __init__(self, control: messages.Channel, pid: int) -> None:
        self._control = control
        self._pid = pid
        self._ended = ""
        self._kills_before = kills_by_kernel()

    def kill(self) -> None:
        """Kill the worker, unless its end is known: another process may have its number by then."""
        if not self._ended:
            with suppress(ProcessLookupError):
                os.kill(self._pid, 9)

    def describe(self) -> str:
        """Return how the worker ended; one that has closed its pipe but does not end is killed."""
        if not self._ended:
            wait_for_end(self._pid)
            self.kill()
            try:
                self._control.send(messages.Reap(self._pid))
                code = self._control.receive(messages.Reaped, timeout=10).code
                self._ended = how_it_ended(code, kills_by_kernel() - self._kills_before)
            except (EOFError, OSError):
                self._ended = "ended, and so did the process that had started it"
            except msgspec.DecodeError:
                self._ended = "was ended"  # an interrupt left another answer to be read first
        return self._ended


class SpawnedEnding:
    """The ending of a spawned worker, which the operating system reports."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def kill(self) -> None:
        """Kill the worker."""
        self._process.kill()

    def describe(self) -> str:
        """Return how the worker ended."""
        try:
            return how_it_ended(self._process.wait(timeout=10))
        except subprocess.TimeoutExpired:
            return "closed its pipe and went on"


def how_it_ended(code: int, kills_by_kernel: int = 0) -> str:
    """Return an exit code in words; a negative one is a signal.

    Memory is only named as the cause of signal 9 if the kernel killed processes for it meanwhile.
    """
    if code >= 0:
        return f"ended with exit code {code}"
    because = (
        " by the kernel, since memory ran out" if code == -signal.SIGKILL and kills_by_kernel > 0 else ""
    )
    return f"{ENDED_BY.get(-code, 'ended')}{because or f' by signal {-code}'}"


def kills_by_kernel() -> int:
    """Return how many processes the kernel has killed for memory so far; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def wait_for_end(pid: int) -> None:
    """Wait until a process has ended or is a zombie, at most GRACE_S."""
    import psutil  # noqa: PLC0415 - only where a worker ends

    deadline = time.monotonic() + GRACE_S
    with suppress(psutil.Error):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.01)
