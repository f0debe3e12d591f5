"""How long this thread was ready to run while others had its core."""

import time
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


class Waiting:
    """Tell for how long others have had the core since this was made.

    What other threads of this process ran meanwhile may be what this one waited for: it is the program's own.
    """

    def __init__(self) -> None:
        self._waited, self._beside = waited_ns(), _beside_ns()

    def ns(self) -> int:
        """Return the nanoseconds that this thread waited for other programs, at least."""
        return max(0, waited_ns() - self._waited - (_beside_ns() - self._beside))


def _beside_ns() -> int:
    """Return what all other threads of this process have run, in nanoseconds."""
    return time.process_time_ns() - time.thread_time_ns()
