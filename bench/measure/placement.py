"""Placement: on which core a block runs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def placed(threads: int | None, launch: int) -> Iterator[None]:
    """Keep a block of one thread on one core, another one for every launch; leave all others alone.

    A step that hops from core to core finds cold caches. Two launches on two cores see both, should the
    host's other tenants favour one.
    """
    if threads != 1 or not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(allowed)[launch % len(allowed)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
