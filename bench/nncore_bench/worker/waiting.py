"""How long this thread was ready to run while others had its core."""

import time
from pathlib import Path

SCHEDSTAT = Path("/proc/thread-self/schedstat")


def waited_ns(file: Path = SCHEDSTAT) -> int:
    """Return the nanoseconds this thread has waited for a core since it started; 0 without schedstat.

    The second number of Linux's schedstat (Documentation/scheduler/sched-stats.rst): time on a run queue. It
    excludes sleeping and blocking, and time that the host takes from a virtual machine.
    """
    try:
        return int(file.read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0


class Waiting:
    """A stopwatch for the time that other programs had this thread's core.

    The time that other threads of this process ran is subtracted, since this thread may have waited for them.
    """

    def __init__(self) -> None:
        self._waited, self._beside = waited_ns(), _beside_ns()

    def ns(self) -> int:
        """Return a lower bound of the nanoseconds that this thread waited for other programs."""
        return max(0, waited_ns() - self._waited - (_beside_ns() - self._beside))


def _beside_ns() -> int:
    """Return the CPU time of all other threads of this process, in nanoseconds."""
    return time.process_time_ns() - time.thread_time_ns()
