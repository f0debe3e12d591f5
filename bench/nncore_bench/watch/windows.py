"""Windows: which steps of a run are watched, and how.

Windows of steps with seams, with seams that are idle, and with none follow each other in rounds, in random
order: their difference is what watching costs. Bursts of rounds are spread over the whole run, with pauses
that grow with it.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

PAUSED, BARE, IDLE, WATCHED, EXAMINED = range(5)
"""Kinds of windows: steps are only counted; timed without seams; with seams that do nothing; watched; looked
at more closely than may be timed."""

LEADING = 1
"""Steps at the beginning of a window that do not count, as seams come and go within them."""

ROUNDS_IN_A_BURST = 2
EXAMINED_AT_MOST = 10
"""Windows in which steps are examined: each changes a class of torch, whose methods Python then looks up."""


@dataclass(frozen=True)
class Plan:
    """How much of a run is watched.

    `skip` steps come first, which are not watched; `steps` ends watching after so many watched ones, None
    never does. A window has `length` steps that count. After each burst a `pause` follows of that share of
    the steps so far.
    """

    skip: int = 10
    steps: int | None = None
    length: int = 10
    pause: float = 0.15
    seed: int = 0

    def windows(self) -> Iterator[tuple[int, int]]:
        """Yield kind and steps of the windows that follow the skipped steps, until enough are watched."""
        order = random.Random(self.seed)  # noqa: S311 - a coin, no secret; and not the script's generator
        done, watched, examined = self.skip, 0, 0
        while True:
            for number in range(ROUNDS_IN_A_BURST):
                for kind in order.sample((BARE, IDLE, WATCHED), 3):
                    yield kind, self.length + LEADING
                    done += self.length + LEADING
                watched += self.length
                if number == 0 and examined < EXAMINED_AT_MOST:
                    yield EXAMINED, self.length + LEADING
                    done += self.length + LEADING
                    examined += 1
                if self.steps is not None and watched >= self.steps:
                    return
            if pause := int(self.pause * done):
                yield PAUSED, pause
                done += pause
