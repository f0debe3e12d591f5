"""Lines that read the value of a tensor, and how batches are handed over."""

import linecache
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from nncore_bench.watch.examine import READS, Examination


def failed(error: BaseException) -> None:
    raise error


def looked_at(steps: int, *lines: Any) -> list[tuple[str, str, int]]:  # noqa: ANN401 - functions without arguments
    """Return the lines that were seen, what they call, and how often."""
    examination = Examination(failed)
    with ExitStack() as undo:
        examination.put(undo)
        for _ in range(steps):
            for line in lines:
                line()
    found = []
    for one in examination.seen(steps)["reads"]:
        file, line = one["where"].rsplit(":", 1)
        assert Path(file) == Path(__file__)
        assert one["device"] == "cpu"
        found.append((linecache.getline(file, int(line)).strip(), one["call"], one["calls"]))
    return sorted(found)


LOSS = torch.tensor(2.0)


def by_item() -> float:
    return LOSS.item()


def by_float() -> float:
    return float(LOSS)


def by_branch() -> bool:
    return bool(LOSS > 1)


def by_printing() -> str:
    return f"{LOSS:.3f}"


def test_each_line_that_reads_is_counted_at_the_users_own_line() -> None:
    assert looked_at(3, by_item, by_float, by_branch, by_printing) == [
        ("return LOSS.item()", "item", 3),
        ("return bool(LOSS > 1)", "bool", 3),
        ('return f"{LOSS:.3f}"', "item", 3),
        ("return float(LOSS)", "float", 3),
    ]


def test_values_are_what_they_are_and_nothing_stays() -> None:
    before = {name: getattr(torch.Tensor, name) for name in READS}
    assert looked_at(1, lambda: None) == []
    assert {name: getattr(torch.Tensor, name) for name in before} == before
    assert "item" not in vars(torch.Tensor)
    examination = Examination(failed)
    with ExitStack() as undo:
        examination.put(undo)
        assert (LOSS.item(), float(LOSS), bool(LOSS > 3), LOSS.to(torch.float64).dtype) == (
            2.0, 2.0, False, torch.float64,
        )  # fmt: skip


def fetched(*loaders: DataLoader[Any]) -> int:
    """Return how many batches are counted where some loaders are gone through in turn."""
    examination = Examination(failed)
    with ExitStack() as undo:
        examination.put(undo)
        for loader in loaders:
            list(loader)
    return sum(one["batches"] for one in examination.seen(1)["fetched"])


def test_batches_of_two_datasets_are_not_taken_for_one() -> None:
    """Such as those of an evaluation among those of the training."""
    training, other = (DataLoader(TensorDataset(torch.zeros(40, 2)), 4) for _ in range(2))
    assert fetched(training, training) == 20
    assert fetched(training, other) == 0


def test_a_batch_that_was_there_is_told_from_one_that_was_late() -> None:
    """All of a DataLoader's batches are handed over, one way or the other."""
    examination = Examination(failed)
    with ExitStack() as undo:
        examination.put(undo)
        assert len(list(DataLoader(TensorDataset(torch.zeros(40, 2)), 4, num_workers=1))) == 10
    handed = examination.seen(10)["handed"]
    assert handed["ready"] + handed["late"] == 10
