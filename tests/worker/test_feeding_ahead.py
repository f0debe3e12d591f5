"""Batches that a loader holds ready when a block begins are not counted as free."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from fake_host import FakeHost
from test_subject_and_worker import CASE
from torch import Tensor

from nncore_bench.worker.blocks import run_block
from nncore_bench.worker.clock import HostClock
from nncore_bench.worker.subjects.subject import PREFETCHED, Subject

COST_NS = 5_000_000
READY = 4


class Ahead:
    """A loader whose batches take a while each, made one after another as soon as few enough are ready.

    `most` is how many it ever held ready when one was asked for.
    """

    def __init__(self, host: FakeHost, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        self.host, self.batches = host, batches
        self.ready_at = [host.ns + (n + 1) * COST_NS for n in range(READY)]
        self.most = 0

    def __iter__(self) -> "Ahead":
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        self.most = max(self.most, sum(at <= self.host.ns for at in self.ready_at))
        self.host.wait(max(0, self.ready_at.pop(0) - self.host.ns))
        # The next to be made begins when there is room for it, which is now, or when the last one is done.
        self.ready_at.append(max(self.host.ns, self.ready_at[-1]) + COST_NS)
        return next(self.batches)


def fed(variant: str, host: FakeHost) -> tuple[Subject, Ahead]:
    """Return a case that feeds from such a loader, after time enough for it to hold all it can."""
    subject = Subject(replace(CASE, variant=variant))
    loader = Ahead(host, subject.feed)
    subject.feed = loader
    return subject, loader


@pytest.mark.parametrize("iterations", [4, 40])
def test_a_batch_of_a_loader_that_works_ahead_takes_what_was_planted(iterations: int) -> None:
    """Where the loader sets the pace each batch takes its cost, the first of a block as the last."""
    host = FakeHost()
    subject, loader = fed("workers-2", host)
    for _ in range(2):
        host.wait(100 * COST_NS)  # other cases are measured meanwhile
        laps = run_block(subject, HostClock(host.now), "feed", iterations)
        assert laps.host[1:, 0].tolist() == [COST_NS] * iterations
        assert laps.wall_ns == iterations * COST_NS
    assert loader.most == READY == 2 * PREFETCHED


@pytest.mark.parametrize(
    ("variant", "kind", "taken"),
    [("eager", "feed", 0), ("workers-2", "plain", 0), ("workers-2", "feed", READY)],
)
def test_only_a_block_that_feeds_from_such_a_loader_takes_batches_before(
    variant: str, kind: str, taken: int
) -> None:
    """All others begin as before."""
    subject = Subject(replace(CASE, variant=variant))
    counted = Counted(subject.feed)
    subject.feed = counted
    iteration: Callable[[int, Callable[[], None]], None] = subject.iteration(kind)  # type: ignore[arg-type]
    assert counted.taken == taken
    iteration(0, lambda: None)
    assert counted.taken == taken + (kind == "feed")


class Counted:
    """Count the batches that are taken."""

    def __init__(self, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        self.batches, self.taken = batches, 0

    def __iter__(self) -> "Counted":
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        self.taken += 1
        return next(self.batches)
