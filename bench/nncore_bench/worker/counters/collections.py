"""Count the garbage collections of each phase."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from nncore_bench.worker.counters.steps import Countable, count_once


def count_collections(work: Countable) -> dict[str, int]:
    """Return the garbage collections in each phase; the caller disables automatic ones."""
    collections: dict[str, int] = {}

    @contextmanager
    def around(phase: str) -> Iterator[None]:
        before = collections_so_far()
        yield
        collections[phase] = collections_so_far() - before

    count_once(work, around)
    return collections


def collections_so_far() -> int:
    """Return the number of garbage collections in this process so far, over all generations."""
    return sum(generation["collections"] for generation in gc.get_stats())
