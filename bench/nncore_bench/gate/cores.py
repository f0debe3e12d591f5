"""The cores to measure a pair on: those that others are least in the way of."""

import random
from collections import Counter
from collections.abc import Sequence

TOLERATED = 0.02
"""The share of its time that a core may take longer to be had than the best, and still be chosen."""


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
