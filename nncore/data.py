"""Data sets as tensors, and two ways to batch them.

`make_loader` is a DataLoader that collates samples one by one, as in every tutorial; `to_device` and
`resident_batches` keep all data on the device from before the first step.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils import data as torch_data
from torch.utils.data import DataLoader, Sampler

from nncore.digits import read_digits
from nncore.mnist import DatasetError, read_mnist

Batch = tuple[Tensor, Tensor]  # inputs [batch_size, ...] float32, targets [batch_size] int64

DATASETS = ("digits", "mnist", "fashion-mnist", "synthetic")

# Enough different batches to exceed any cache; without a limit, batch size 1 would mean thousands of views.
_MOST_RESIDENT_BATCHES = 64


@dataclass(frozen=True)
class Dataset:
    """A data set: per sample a row of values 0..1 (synthetic: about -3..3) and a class index."""

    name: str
    train_inputs: Tensor  # [N, 784] float32
    train_targets: Tensor  # [N] int64, 0..9
    test_inputs: Tensor  # [M, 784] float32
    test_targets: Tensor  # [M] int64, 0..9


def load_dataset(
    name: str = "digits", *, data_dir: Path | None = None, download: bool = False, seed: int = 0
) -> Dataset:
    """Load the data set `name` on the CPU: digits (the default), mnist, fashion-mnist or synthetic.

    digits and synthetic are split 80/20 by the seed; mnist and fashion-mnist come with their own split. Files
    are in `data_dir`, else in the folder NNCORE_DATA, else in ~/.cache/nncore. Missing files are downloaded
    only with `download`.

    Raises:
        DatasetError: the name is unknown, or files are missing, broken, or cannot be downloaded or written.

    """
    folder = _data_folder(data_dir)
    match name:
        case "digits":
            return _digits(folder, seed)
        case "synthetic":
            return _synthetic(seed)
        case "mnist" | "fashion-mnist":
            return Dataset(name, *read_mnist(name, folder, download=download))
    raise DatasetError(f"dataset: {name!r} is unknown (choose one of {', '.join(DATASETS)})")


def to_device(dataset: Dataset, device: torch.device) -> Dataset:
    """Return the data set with all its tensors on `device`."""
    return replace(
        dataset,
        train_inputs=dataset.train_inputs.to(device),
        train_targets=dataset.train_targets.to(device),
        test_inputs=dataset.test_inputs.to(device),
        test_targets=dataset.test_targets.to(device),
    )


def make_loader(  # noqa: PLR0913 - the DataLoader's own options
    inputs: Tensor,
    targets: Tensor,
    batch_size: int,
    *,
    shuffle: bool,
    seed: int,
    drop_last: bool = False,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader[Batch]:
    """Return a DataLoader over the samples; with `shuffle` in an order fixed by the seed.

    The last batch of an epoch is smaller if batch_size does not divide N, unless `drop_last`.

    Raises:
        ValueError: there are no samples, or not as many targets as inputs, or the batch size is below 1.

    """
    _check(inputs, targets, batch_size)
    return DataLoader(
        _pairs(inputs, targets),
        batch_size,
        shuffle=shuffle,
        generator=torch.Generator().manual_seed(seed),
        drop_last=drop_last,
        num_workers=num_workers,
        pin_memory=pin_memory,
    )


def endless_loader(  # noqa: PLR0913 - the same
    inputs: Tensor,
    targets: Tensor,
    batch_size: int,
    *,
    seed: int,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Return an endless iterator over a DataLoader whose batches are all full.

    Each pass over the N samples has a new order fixed by the seed. A batch may span two passes, and with
    batch_size above N hold a sample twice.

    Raises:
        ValueError: there are no samples, or not as many targets as inputs, or the batch size is below 1.

    """
    _check(inputs, targets, batch_size)
    loader = DataLoader(
        _pairs(inputs, targets),
        batch_size,
        sampler=_EndlessSampler(len(inputs), seed),
        generator=torch.Generator().manual_seed(seed),  # else the workers' seeds come from the global one
        num_workers=num_workers,
        pin_memory=pin_memory,
    )
    return iter(loader)


def resident_batches(inputs: Tensor, targets: Tensor, batch_size: int, *, seed: int) -> list[Batch]:
    """Return full batches to cycle through: views into one shuffled copy on the device of `inputs`.

    There are ceil(N / batch_size) batches, which hold every sample, but at most 64, so that a small
    batch_size covers only the first 64 * batch_size samples of the shuffled order. The last batch is filled
    up from the start of the order.

    Raises:
        ValueError: there are no samples, or not as many targets as inputs, or the batch size is below 1.

    """
    _check(inputs, targets, batch_size)
    samples = len(inputs)
    rows = min(ceil(samples / batch_size), _MOST_RESIDENT_BATCHES) * batch_size
    # Drawn on the CPU, so that all devices get the same batches.
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(seed))
    order = order[torch.arange(rows) % samples].to(inputs.device)
    return list(
        zip(torch.split(inputs[order], batch_size), torch.split(targets[order], batch_size), strict=True)
    )


class _EndlessSampler(Sampler[int]):
    """Endless passes over the indices 0..N-1, each in a new random order."""

    def __init__(self, samples: int, seed: int) -> None:
        self.samples = samples
        self.seed = seed

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            yield from torch.randperm(self.samples, generator=generator).tolist()


def _check(inputs: Tensor, targets: Tensor, batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size: {batch_size} is below 1 (example: 32)")
    if not len(inputs) == len(targets) > 0:
        raise ValueError(
            f"inputs and targets: {len(inputs)} and {len(targets)} make no pairs (give as many of both)"
        )


def _pairs(inputs: Tensor, targets: Tensor) -> torch_data.Dataset[Batch]:
    # torch types the samples as tuples of any length; these are pairs.
    return cast("torch_data.Dataset[Batch]", torch_data.TensorDataset(inputs, targets))


def _data_folder(data_dir: Path | None) -> Path:
    return (data_dir or Path(os.environ.get("NNCORE_DATA") or "~/.cache/nncore")).expanduser()


def _digits(folder: Path, seed: int) -> Dataset:
    images, targets = read_digits(folder)
    small = torch.from_numpy(images).float().div(16)  # [1797, 8, 8], 0..1
    large = functional.interpolate(small.unsqueeze(1), size=(28, 28), mode="bilinear")  # [1797, 1, 28, 28]
    return _split("digits", large.flatten(1), torch.from_numpy(targets).long(), seed)


def _synthetic(seed: int) -> Dataset:
    """Draw inputs that vary in 32 dimensions only, as images do, and label them with a random linear teacher.

    With all 784 dimensions 4,000 samples would not be enough to learn the teacher.
    """
    generator = torch.Generator().manual_seed(seed)
    causes = torch.randn(5000, 32, generator=generator)
    inputs = causes @ torch.randn(32, 784, generator=generator) / 32**0.5  # [5000, 784], variance about 1
    targets = (causes @ torch.randn(32, 10, generator=generator)).argmax(dim=1)
    return _split("synthetic", inputs, targets, seed)


def _split(name: str, inputs: Tensor, targets: Tensor, seed: int) -> Dataset:
    """Put a random 80 % into the training set and the rest into the test set."""
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    train, test = order.tensor_split([len(order) * 4 // 5])
    return Dataset(name, inputs[train], targets[train], inputs[test], targets[test])
