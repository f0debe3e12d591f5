"""How long this thread was ready to run while others had its core, and the cores where that is least."""

import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

SCHEDSTAT = Path("/proc/thread-self/schedstat")
TOLERATED = 0.02
"""The share of its time that a core may take longer to be had than the best, and still be chosen."""


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


class Cores:
    """Choose cores for one measurement after another, by coins among those where others are least in the way.

    What was measured on a core tells how long it had to wait there. A core that was not tried yet may be as
    good as any; on a machine that nobody else uses all of them stay in the game.
    """

    def __init__(self, numbers: Sequence[int], coins: random.Random) -> None:
        self.numbers = numbers
        self._coins = coins
        self._waited: Counter[int] = Counter()
        self._wall: Counter[int] = Counter()

    def choose(self, count: int) -> tuple[int, ...]:
        """Return the cores to measure on next, so many or all that there are."""
        left, chosen = list(self.numbers), list[int]()
        while left and len(chosen) < count:
            least = min(map(self._waiting, left))
            chosen.append(self._coins.choice([n for n in left if self._waiting(n) <= least + TOLERATED]))
            left.remove(chosen[-1])
        return tuple(chosen)

    def note(self, cores: Sequence[int], waited_ns: int, wall_ns: int) -> None:
        """Take down how long a measurement on some cores waited for them, and how long it took."""
        for core in cores:
            self._waited[core] += waited_ns
            self._wall[core] += wall_ns

    def _waiting(self, core: int) -> float:
        return self._waited[core] / self._wall[core] if self._wall[core] else 0.0
