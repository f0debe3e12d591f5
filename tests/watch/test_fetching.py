"""What a batch takes to fetch, in the loop itself and in workers, by a clock made by hand."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, _utils

from nncore_bench.watch import fetching
from nncore_bench.watch.fetching import FETCHERS, Fetched, Fetching
from nncore_bench.watching import Watch

NOW = [0]


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "perf_counter_ns", lambda: NOW[0])


def spend(ns: int) -> None:
    NOW[0] += ns


class Numbers(Dataset[float]):
    """A sample takes 5 ns of its own and 20 of a transform, which is called twice where asked."""

    def __init__(self, *, nested: bool = False) -> None:
        self.nested = nested
        self.transform = self.shift

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> float:
        spend(5)
        return self.transform(float(index))

    def shift(self, value: float) -> float:
        spend(20)
        return value + 1


class Stream(IterableDataset[float]):
    """The same without a transform."""

    def __iter__(self) -> Iterator[float]:
        for number in range(12):
            spend(5)
            yield float(number)


def collate(samples: list[float]) -> torch.Tensor:
    spend(7)
    return torch.tensor(samples)


@pytest.mark.parametrize("dataset", [Numbers(), Subset(Numbers(), range(12))])
def test_dataset_transforms_and_collating_are_told_apart(dataset: Dataset[float]) -> None:
    counts = Fetching()
    with counts.counted():
        batches = list(DataLoader(dataset, 4, collate_fn=collate))
    assert torch.cat(batches).tolist() == [float(number + 1) for number in range(12)]
    assert counts.seen() == [Fetched(3, 3 * (4 * 25 + 7), 3 * 4 * 20, 3 * 7)]


def test_an_iterable_dataset_is_counted_and_ends() -> None:
    counts = Fetching()
    with counts.counted():
        assert len(list(DataLoader(Stream(), 4, collate_fn=collate))) == 3
    assert counts.seen() == [Fetched(3, 3 * 27, 0, 3 * 7)]


def test_nothing_is_counted_and_nothing_there_otherwise() -> None:
    before = [fetcher.fetch for fetcher in FETCHERS]
    counts, dataset = Fetching(), Numbers()
    with counts.counted():
        pass
    list(DataLoader(dataset, 4, collate_fn=collate))
    assert counts.seen() == [Fetched(0, 0, 0, 0)]
    assert [fetcher.fetch for fetcher in FETCHERS] == before
    assert vars(dataset)["transform"] == dataset.shift


def test_workers_count_what_they_fetch(tmp_path: Path) -> None:
    with Watch(results=tmp_path) as watch:
        assert watch._watcher is not None
        counts = watch._watcher._examination.fetching
        with counts.counted():
            batches = list(DataLoader(Numbers(), 4, collate_fn=collate, num_workers=2))
        idle = list(DataLoader(Numbers(), 4, collate_fn=collate, num_workers=2))
    assert (
        torch.cat(batches).tolist() == torch.cat(idle).tolist() == [float(number + 1) for number in range(12)]
    )
    main, *workers = counts.seen()
    assert main == Fetched(0, 0, 0, 0)
    assert sorted(one.batches for one in workers) == [1, 2]
    assert all(one == Fetched(n := one.batches, n * (4 * 25 + 7), n * 4 * 20, n * 7) for one in workers)


class Failing(Numbers):
    """Its transform fails."""

    def shift(self, _value: float) -> float:
        raise ValueError("a sample that cannot be read")


@pytest.mark.parametrize("counting", [False, True])
def test_an_exception_of_a_worker_reads_as_without_us(tmp_path: Path, *, counting: bool) -> None:
    def failure() -> str:
        with pytest.raises(ValueError, match="cannot be read") as failed:
            list(DataLoader(Failing(), 4, collate_fn=collate, num_workers=1))
        return str(failed.value)

    alone = failure()
    with Watch(results=tmp_path) as watch:
        assert watch._watcher is not None
        if counting:
            with watch._watcher._examination.fetching.counted():
                watched = failure()
        else:
            watched = failure()
    assert watched == alone


def test_a_dataset_unlike_others_is_fetched_and_not_counted() -> None:
    class Odd(Numbers):
        datasets = property(lambda _: None)

    dataset = Odd()
    vars(dataset)["datasets"] = 3  # nothing to go through
    counts = Fetching()
    with counts.counted():
        assert len(list(DataLoader(dataset, 4, collate_fn=collate))) == 3
    assert counts.seen() == [Fetched(0, 0, 0, 0)]


def test_torchs_own_worker_is_as_it_was() -> None:
    """In this process, only those that were forked are changed."""
    assert _utils.worker.ExceptionWrapper is torch._utils.ExceptionWrapper
