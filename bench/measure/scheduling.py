"""How long this thread was ready to run while others had its core."""

from pathlib import Path

SCHEDSTAT = Path("/proc/thread-self/schedstat")


def waited_ns(file: Path = SCHEDSTAT) -> int:
    """Return the nanoseconds this thread has waited for a core since it began; 0 where nobody counts them.

    The second number of Linux's schedstat (Documentation/scheduler/sched-stats.rst): time on a run queue.
    What a thread sleeps or waits for by itself is not in it, nor what the host of a virtual machine takes.
    """
    try:
        return int(file.read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
