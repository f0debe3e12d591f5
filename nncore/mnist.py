"""MNIST and Fashion-MNIST: torchvision downloads and reads the files, this module explains failures.

Pixels are divided by 255 and not normalised further: with Adam, one hidden layer reaches 97-98 % on MNIST
without it, and all image data sets here have the same range.
"""

import gzip
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryFile
from typing import Any, NamedTuple
from zlib import error as ZlibError  # noqa: N812 - zlib spells its exception in lower case

import torch
from torch import Tensor

from nncore.digits import write_whole

# The errors that torchvision raises for broken files; they have no common base.
_BROKEN = (
    AssertionError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    UnpicklingError,
    ValueError,
    ZlibError,
)
_OFFLINE = "or choose the data set 'digits', which needs no files"


class DatasetError(Exception):
    """Which data set is unavailable, where it was looked for, and what to do, in one sentence."""


class Tensors(NamedTuple):
    """The training and the test set."""

    train_inputs: Tensor  # [60000, 784] float32, 0..1
    train_targets: Tensor  # [60000] int64, 0..9
    test_inputs: Tensor  # [10000, 784] float32, 0..1
    test_targets: Tensor  # [10000] int64, 0..9


def read_mnist(name: str, folder: Path, *, download: bool) -> Tensors:
    """Read "mnist" or "fashion-mnist" in the official split, from `folder`/MNIST/raw or FashionMNIST/raw.

    Missing files are downloaded with `download`; without it, .gz files in that folder are unpacked.

    Raises:
        DatasetError: the files are missing, broken, cannot be downloaded, or the folder cannot be written.

    """
    from torchvision import datasets  # noqa: PLC0415 - takes seconds, and is needed only here

    kind = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[name]
    raw = folder / kind.__name__ / "raw"
    try:
        if not _is_complete(kind, raw):
            if download:
                _download(name, kind, folder)
            else:
                _unpack(raw)
        if not _is_complete(kind, raw):
            raise DatasetError(
                f"{name}: no complete files in {raw} (download them with `{_download_by(name)}`, {_OFFLINE})"
            )
        train, test = kind(folder, train=True), kind(folder, train=False)
        return Tensors(*_tensors(train.data, train.targets), *_tensors(test.data, test.targets))
    except _BROKEN as error:
        raise DatasetError(
            f"{name}: the files in {raw} are broken or unreadable, {_reason(error)}"
            f" (delete that folder and download them again with `{_download_by(name)}`, {_OFFLINE})"
        ) from error


def _is_complete(kind: Any, raw: Path) -> bool:  # noqa: ANN401 - torchvision has no types
    return all((raw / name).with_suffix("").is_file() for name, _md5 in kind.resources)


def _unpack(raw: Path) -> None:
    for packed in sorted(raw.glob("*-ubyte.gz")):
        write_whole(packed.with_suffix(""), gzip.decompress(packed.read_bytes()))


def _download(name: str, kind: Any, folder: Path) -> None:  # noqa: ANN401 - as above
    raw = folder / kind.__name__ / "raw"
    try:
        raw.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=raw).close()
    except OSError as error:
        raise DatasetError(
            f"{name}: the folder {raw} cannot be written, {_reason(error)}"
            f" (name another one with --data-dir or NNCORE_DATA, {_OFFLINE})"
        ) from error
    try:
        kind(folder, download=True)
    except (OSError, RuntimeError, HTTPException) as error:
        raise DatasetError(
            f"{name}: the download into {raw} failed, {_reason(error)} (check the network, {_OFFLINE})"
        ) from error


def _tensors(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return inputs [N, 784] and targets [N]; raises ValueError if images and labels do not match."""
    if images.shape != (len(targets), 28, 28) or len(targets) == 0:
        raise ValueError(f"{len(targets)} labels for images of shape {tuple(images.shape)}")
    if int(targets.max()) > 9:  # noqa: PLR2004 - ten classes
        raise ValueError(f"label {int(targets.max())} is above 9")
    return images.flatten(1).to(torch.float32).div_(255), targets


def _download_by(name: str) -> str:
    return f"python -m nncore --dataset {name} --download"


def _reason(error: BaseException) -> str:
    """Return an exception's message on one line."""
    return " ".join((str(error) or type(error).__name__).split())
