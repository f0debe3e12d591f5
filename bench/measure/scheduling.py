"""How long this thread was ready to run while others had its core, and the cores where that is least."""

import random
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


class Cores:
    """Choose the core of one measurement after another: a coin among those where others are least in the way.

    What was measured on a core tells how long it had to wait there. A core that was not tried yet may be as
    good as any; on a machine that nobody else uses all of them stay in the game.
    """

    def __init__(self, numbers: Sequence[int | None], coins: random.Random) -> None:
        self.numbers = numbers
        self._coins = coins
        self._waited: Counter[int | None] = Counter()
        self._wall: Counter[int | None] = Counter()

    def choose(self) -> int | None:
        """Return the core to measure on next."""
        least = min(map(self._waiting, self.numbers))
        return self._coins.choice([core for core in self.numbers if self._waiting(core) <= least + TOLERATED])

    def note(self, core: int | None, waited_ns: int, wall_ns: int) -> None:
        """Take down how long a measurement on a core waited for it, and how long it took."""
        self._waited[core] += waited_ns
        self._wall[core] += wall_ns

    def _waiting(self, core: int | None) -> float:
        return self._waited[core] / self._wall[core] if self._wall[core] else 0.0
