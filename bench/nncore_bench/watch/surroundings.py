"""What surrounds the steps of a watched process: its memory, and what torch.compile does beside them."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KILO = 1024
LONGEST = 300
"""Characters of a reason of torch's that are kept."""


def resident_kb() -> int:
    """Return the kB that this process has in RAM, 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // KILO


def allocated_kb(runtime: Any) -> int:  # noqa: ANN401 - torch.cuda, or a fake
    """Return the kB that tensors of this process have on the device."""
    return int(runtime.memory_allocated()) // KILO


def graphs_compiled() -> int:
    """Return how many frames torch.compile has compiled in this process."""
    utils = sys.modules.get("torch._dynamo.utils")
    return utils.counters["frames"]["ok"] if utils and "frames" in utils.counters else 0


def compilations() -> Iterator[dict[str, Any]]:
    """Yield the latest compilations of torch.compile: what, why again if it was, and the seconds."""
    utils = sys.modules.get("torch._dynamo.utils")
    for one in utils.get_compilation_metrics() if utils else ():
        if getattr(one, "is_forward", True) is not False and one.co_filename:
            yield {
                "where": f"{one.co_filename}:{one.co_firstlineno}",
                "function": one.co_name,
                "again": str(getattr(one, "recompile_reason", None) or "")[:LONGEST],
                "took_s": one.entire_frame_compile_time_s,
            }


def graph_breaks() -> Iterator[dict[str, str]]:
    """Yield where compiled code falls back to Python, and why."""
    utils = sys.modules.get("torch._dynamo.utils")
    for one in getattr(utils, "graph_break_reasons", ()):
        if one.user_stack:
            frame = one.user_stack[-1]
            where = f"{frame.filename}:{frame.lineno}"
            yield {"where": where, "line": frame.line or "", "why": one.reason.splitlines()[0][:LONGEST]}
