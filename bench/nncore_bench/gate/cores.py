"""Choose the cores to measure a pair on: those that other processes use least."""

import random
from collections import Counter
from collections.abc import Sequence

TOLERATED = 0.02
"""A core stays a candidate if its waiting exceeds that of the best one by this share of its time at most."""


class Cores:
    """The cores of each measurement, drawn from those with the least waiting so far.

    An untried core counts as the best; on an otherwise idle machine all of them stay candidates.
    """

    def __init__(self, numbers: Sequence[int], coins: random.Random) -> None:
        self.numbers = numbers
        self._coins = coins
        self._waited: Counter[int] = Counter()
        self._wall: Counter[int] = Counter()

    def choose(self, count: int) -> tuple[int, ...]:
        """Return `count` cores to measure on next, or all if there are fewer."""
        left, chosen = list(self.numbers), list[int]()
        while left and len(chosen) < count:
            least = min(map(self._waiting, left))
            chosen.append(self._coins.choice([n for n in left if self._waiting(n) <= least + TOLERATED]))
            left.remove(chosen[-1])
        return tuple(chosen)

    def note(self, cores: Sequence[int], waited_ns: int, wall_ns: int) -> None:
        """Record how long a measurement waited for its cores, and how long it took."""
        for core in cores:
            self._waited[core] += waited_ns
            self._wall[core] += wall_ns

    def _waiting(self, core: int) -> float:
        return self._waited[core] / self._wall[core] if self._wall[core] else 0.0
