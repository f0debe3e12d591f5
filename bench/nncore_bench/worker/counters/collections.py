"""Counts of what the host's Python does beside the step: calls of the garbage collector."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from nncore_bench.worker.counters.steps import Countable, count_once


def count_collections(work: Countable) -> dict[str, int]:
    """Return how often each phase has garbage collected; the collector's own times are held by the caller."""
    collections: dict[str, int] = {}

    @contextmanager
    def around(phase: str) -> Iterator[None]:
        before = collections_so_far()
        yield
        collections[phase] = collections_so_far() - before

    count_once(work, around)
    return collections


def collections_so_far() -> int:
    """Return how often this process has collected garbage, in all generations."""
    return sum(generation["collections"] for generation in gc.get_stats())
