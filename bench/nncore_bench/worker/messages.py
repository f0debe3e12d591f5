"""The messages between the campaign and its worker processes, and the channel that carries them."""

import socket
import struct
from typing import Any, Self, TypeAlias, TypeVar

import msgspec
import numpy as np

from nncore_bench.cases import STEP_PHASES, BlockKind, Case
from nncore_bench.records import CaseCounters, CaseProfile
from nncore_bench.runs import Block, laps_of

_LENGTH = struct.Struct("!Q")
Message = TypeVar("Message")

HANDED_OVER = "measure_step"
"""The source of a subject that was passed as an object rather than named."""

SUBJECT_FILE = "NNCORE_BENCH_SUBJECT"
"""The environment variable with the file of such a subject."""

COMPILER_CACHE = "TORCHINDUCTOR_CACHE_DIR"
"""The environment variable with the folder of torch.compile's cache."""


class Prepare(msgspec.Struct, frozen=True, tag=True):
    """Load a case, check its results and, with `warm_up`, warm it up.

    `kinds` are the kinds of block to prepare for; empty means all that the case has. With `checked` another
    process has checked the results of the same case.
    """

    number: int
    case: Case
    warm_up: bool
    kinds: tuple[BlockKind, ...] = ()
    checked: bool = False


class Measure(msgspec.Struct, frozen=True, tag=True):
    """Run one block: one leading iteration and `iterations` counted ones."""

    number: int
    kind: BlockKind
    iterations: int


class SpinUp(msgspec.Struct, frozen=True, tag=True):
    """Keep the device busy until its clocks have risen."""

    seconds: float


class Profile(msgspec.Struct, frozen=True, tag=True):
    """Profile some steps of a case, and some batches being fetched, and write the trace to a file.

    A case that the worker does not hold is prepared first.
    """

    number: int
    case: Case
    steps: int
    trace: str
    fed: bool = True


class ReadClock(msgspec.Struct, frozen=True, tag=True):
    """Read the clock of the laps many times, and at both ends of some spans together with another clock."""

    readings: int
    spans: int
    span_ns: int


class Count(msgspec.Struct, frozen=True, tag=True):
    """Count the operators, memory and launches of a case; never in a process that also times."""

    number: int


class Forget(msgspec.Struct, frozen=True, tag=True):
    """Drop a case and the memory it holds."""

    number: int


class Look(msgspec.Struct, frozen=True, tag=True):
    """Say which GPU this process has, and how much of its memory is free."""


Request: TypeAlias = Prepare | Measure | SpinUp | Profile | Count | ReadClock | Forget | Look


class Hello(msgspec.Struct, frozen=True, tag=True):
    """Introduce a process that has imported torch: what torch sees of this machine."""

    all_threads: int
    cuda: bool
    facts: dict[str, Any]


class Prepared(msgspec.Struct, frozen=True, tag=True):
    """Answer Prepare: seconds of an iteration of each kind of block it has, checks, and assumed defaults.

    `parts` are those of its step; `optimizer_code` is the line of code that makes the subject's optimizer for
    the variant of the case.
    """

    seconds: dict[BlockKind, float]
    steady: bool
    correct: dict[str, float]
    assumed: tuple[str, ...] = ()
    optimizer_code: str = ""
    parts: tuple[str, ...] = STEP_PHASES


class Measured(msgspec.Struct, frozen=True, tag=True):
    """Answer Measure: a block, its laps as int64 nanoseconds, iteration after iteration.

    `thrown_out` is the number of blocks discarded before this one, as torch.compile recompiled within them.
    """

    host: bytes
    device: bytes | None
    wall_ns: int
    waited_ns: int = 0
    thrown_out: int = 0
    parts: tuple[str, ...] = STEP_PHASES

    @classmethod
    def of(cls, block: Block, thrown_out: int) -> Self:
        """Pack a block."""
        device = None if block.device is None else block.device.tobytes()
        return cls(block.host.tobytes(), device, block.wall_ns, block.waited_ns, thrown_out, block.parts)

    def block(self, kind: BlockKind, **place: int) -> Block:
        """Return the block of a kind; `case`, `launch` and `round` are its place in a campaign."""
        shape = -1, len(laps_of(kind, self.parts))
        host = np.frombuffer(self.host, np.int64).reshape(shape)
        device = None if self.device is None else np.frombuffer(self.device, np.int64).reshape(shape)
        return Block(kind, host, device, self.wall_ns, self.waited_ns, **place, parts=self.parts)


class Profiled(msgspec.Struct, frozen=True, tag=True):
    """Answer Profile."""

    profile: CaseProfile


class ClockRead(msgspec.Struct, frozen=True, tag=True):
    """Answer ReadClock: the nanoseconds between the readings as int64, and those of the spans.

    A span has its length by this clock, and the least and the most that it has by the other one, which is
    read before and after each end.
    """

    between: bytes
    spans_ns: list[tuple[int, int, int]]


class Seen(msgspec.Struct, frozen=True, tag=True):
    """Answer Look: the UUID of the GPU as torch reports it, and bytes of its memory.

    `held_bytes` is the most that this process has taken so far.
    """

    uuid: str
    free_bytes: int
    total_bytes: int
    held_bytes: int


class Counted(msgspec.Struct, frozen=True, tag=True):
    """Answer Count."""

    counters: CaseCounters


class Done(msgspec.Struct, frozen=True, tag=True):
    """Answer a request that has no result."""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """Answer a request that failed, with the reason in one sentence."""

    reason: str


class Ended(msgspec.Struct, frozen=True, tag=True):
    """Answer a request whose failure made the process unusable, with the reason; the process then ends."""

    reason: str


Reply: TypeAlias = (
    Hello | Prepared | Measured | Profiled | Counted | ClockRead | Seen | Done | Refused | Ended
)


class Fork(msgspec.Struct, frozen=True, tag=True):
    """Ask the launcher for a worker; the worker's end of its pipe travels along.

    `code_path` is the folder searched first for the measured code, `cores` are the ones it may use (empty:
    any), and `threads` is its number of threads until a case asks for another.
    """

    code_path: str = ""
    cores: tuple[int, ...] = ()
    threads: int = 1


class Forked(msgspec.Struct, frozen=True, tag=True):
    """Answer Fork."""

    pid: int


class Probe(msgspec.Struct, frozen=True, tag=True):
    """Ask the launcher whether a process forked from it can use CUDA."""


class Probed(msgspec.Struct, frozen=True, tag=True):
    """Answer Probe."""

    works: bool


class Reap(msgspec.Struct, frozen=True, tag=True):
    """Ask the launcher how a worker ended."""

    pid: int


class Reaped(msgspec.Struct, frozen=True, tag=True):
    """Answer Reap: the exit code, negative for a signal."""

    code: int


class Channel:
    """Send and receive messages over a connected socket; the end of the other side is an EOFError."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def send(self, message: msgspec.Struct) -> None:
        """Send one message; raises BrokenPipeError when nobody listens any more."""
        body = msgspec.msgpack.encode(message)
        self.sock.sendall(_LENGTH.pack(len(body)) + body)

    def receive(self, kind: Any, timeout: float | None = None) -> Any:  # noqa: ANN401 - a type or a union of types
        """Return the next message, of the given type or union; raises EOFError or TimeoutError."""
        self.sock.settimeout(timeout)
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        return msgspec.msgpack.decode(self._exactly(length), type=kind)

    def close(self) -> None:
        """Close this side; the other side reads the end of the file."""
        self.sock.close()

    def _exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = self.sock.recv(min(size - len(parts), 1 << 20))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)
