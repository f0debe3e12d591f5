"""Read the events of a trace that torch.profiler wrote, in the format that Perfetto opens.

It is Chrome's Trace Event Format; categories and arguments are Kineto's: libkineto/src/output_json.cpp and
torch/csrc/profiler/kineto_shim.cpp.
"""

import gzip
import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

LABEL, OPERATOR = "user_annotation", "cpu_op"
KERNEL, COPY, MEMSET = "kernel", "gpu_memcpy", "gpu_memset"
RUNTIME = ("cuda_runtime", "cuda_driver")
ON_DEVICE = (KERNEL, COPY, MEMSET)
ON_HOST = (LABEL, OPERATOR, *RUNTIME)
NANOSECONDS = 1_000
"""Nanoseconds per unit of a trace, which has microseconds with three decimals."""


class TraceError(ValueError):
    """The trace cannot be read; the message is one sentence."""


@dataclass(frozen=True)
class Event:
    """An event with a duration; `thread` is a thread of the host or a stream of the device.

    `sequence` is autograd's number, shared by a forward operator and its backward node, which came from
    `forward_thread`; `correlation` is shared by a runtime call and the work that it starts on the device.
    """

    name: str
    category: str
    thread: str
    start_ns: int
    end_ns: int
    sequence: int | None = None
    forward_thread: int | None = None
    correlation: int | None = None

    @property
    def length_ns(self) -> int:
        """The duration."""
        return self.end_ns - self.start_ns


class _Raw(msgspec.Struct):
    ph: str = ""
    cat: str = ""
    name: str = ""
    tid: int | str = ""
    ts: float = 0.0
    dur: float = 0.0
    args: dict[str, Any] = {}


class _Trace(msgspec.Struct):
    traceEvents: list[_Raw]  # noqa: N815 - the format's name


def read_trace(path: Path) -> list[Event]:
    """Read the events of a trace, gzipped or not; raises TraceError."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        raw = msgspec.json.decode(content, type=_Trace).traceEvents
    except OSError as error:
        raise TraceError(f"{str(path)!r} cannot be read ({error.strerror or error})") from None
    except (EOFError, zlib.error, msgspec.DecodeError) as error:
        raise TraceError(f"{str(path)!r} is not a complete trace ({error})") from None
    return [_event(one) for one in raw if one.ph == "X" and one.cat in (*ON_HOST, *ON_DEVICE)]


def _event(raw: _Raw) -> Event:
    start = round(raw.ts * NANOSECONDS)
    return Event(
        raw.name,
        raw.cat,
        str(raw.tid),
        start,
        start + round(raw.dur * NANOSECONDS),
        raw.args.get("Sequence number"),
        raw.args.get("Fwd thread id"),
        raw.args.get("correlation"),
    )


@dataclass(eq=False)
class Node:
    """A host event with its caller and the events it called."""

    event: Event
    parent: "Node | None"
    children: list["Node"]

    def above(self) -> Iterable["Node"]:
        """Yield the callers, nearest first."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent


def nested(events: Iterable[Event]) -> list[Node]:
    """Return the host's events as nodes in the order in which they begin, each below its caller.

    The caller is the last event of the same thread that began before and has not ended.
    """
    nodes: list[Node] = []
    running: dict[str, list[Node]] = defaultdict(list)
    on_host = (event for event in events if event.category in ON_HOST)
    for event in sorted(on_host, key=lambda event: (event.start_ns, -event.end_ns)):
        callers = running[event.thread]
        while callers and callers[-1].event.end_ns <= event.start_ns:
            callers.pop()
        node = Node(event, callers[-1] if callers else None, [])
        if node.parent is not None:
            node.parent.children.append(node)
        nodes.append(node)
        callers.append(node)
    return nodes
