"""MNIST's real loading code, on small files in its own format (idx: magic, sizes, bytes)."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
import pytest
import torch

from nncore import DatasetError, load_dataset

DOWNLOAD = "torchvision.datasets.mnist.download_and_extract_archive"
NAMES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    """Return the array in idx format: 0, 0, type 8 (uint8), dimensions, sizes in big-endian, values."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def arrays() -> dict[str, npt.NDArray[np.uint8]]:
    """Return a set of 20 training and 10 test samples by the names of their files."""
    random = np.random.default_rng(0)
    return {
        "train-images-idx3-ubyte": random.integers(0, 256, (20, 28, 28), np.uint8),
        "train-labels-idx1-ubyte": random.integers(0, 10, 20, np.uint8),
        "t10k-images-idx3-ubyte": random.integers(0, 256, (10, 28, 28), np.uint8),
        "t10k-labels-idx1-ubyte": random.integers(0, 10, 10, np.uint8),
    }


def write(folder: Path, *, packed: bool = False, name: str = "mnist") -> Path:
    """Write the files where torchvision looks for them and return their folder."""
    raw = folder / NAMES[name] / "raw"
    raw.mkdir(parents=True)
    for file, array in arrays().items():
        path = raw / (f"{file}.gz" if packed else file)
        path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    return raw


def refusal(folder: Path, *, download: bool = False) -> str:
    """Return the sentence with which mnist is refused, checked to be one line that shows the way out."""
    with pytest.raises(DatasetError) as caught:
        load_dataset("mnist", data_dir=folder, download=download)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert str(folder / "MNIST" / "raw") in sentence
    assert "choose the data set 'digits'" in sentence
    return sentence


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_files_are_read_as_they_are(name: str, tmp_path: Path, *, packed: bool) -> None:
    """Pixels come flat and divided by 255, in the official split, from idx files as from .gz files."""
    write(tmp_path, packed=packed, name=name)
    data = load_dataset(name, data_dir=tmp_path)
    expected = arrays()
    for half, inputs, targets in (
        ("train", data.train_inputs, data.train_targets),
        ("t10k", data.test_inputs, data.test_targets),
    ):
        pixels = expected[f"{half}-images-idx3-ubyte"].reshape(-1, 784)
        torch.testing.assert_close(inputs, torch.from_numpy(pixels / 255).float())
        assert (inputs.dtype, targets.dtype) == (torch.float32, torch.int64)
        assert targets.tolist() == expected[f"{half}-labels-idx1-ubyte"].tolist()


def test_absent_files_are_one_sentence(tmp_path: Path) -> None:
    """It says how to get them, whether all are absent or one."""
    assert "--download" in refusal(tmp_path)
    (write(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    assert "no complete files" in refusal(tmp_path)


def cut(content: bytes) -> bytes:
    """Lose the second half."""
    return content[: len(content) // 2]


def cut_header(content: bytes) -> bytes:
    """Lose all but three bytes."""
    return content[:3]


def empty(content: bytes) -> bytes:
    """Lose everything."""
    return content[:0]


def garble(content: bytes) -> bytes:
    """Overwrite everything."""
    return b"<html>not found</html>" + content[:0]


def append(content: bytes) -> bytes:
    """Leave more bytes than the header says."""
    return content + b"\x00" * 5


@pytest.mark.parametrize("damage", [cut, cut_header, empty, garble, append])
@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_broken_files_are_one_sentence(file: str, damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """Whatever torchvision raises for them; and a download does not replace them unasked."""
    path = write(tmp_path) / file
    path.write_bytes(damage(path.read_bytes()))
    assert "broken or unreadable" in refusal(tmp_path)
    assert "broken or unreadable" in refusal(tmp_path, download=True)


@pytest.mark.parametrize("damage", [cut, cut_header, empty, garble])
def test_broken_gz_files_are_one_sentence(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """And leave no half unpacked file behind."""
    path = write(tmp_path, packed=True) / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    sentence = refusal(tmp_path)
    assert "broken or unreadable" in sentence or "no complete files" in sentence
    assert not path.with_suffix("").exists() or path.with_suffix("").stat().st_size == 0


@pytest.mark.parametrize(
    ("file", "array"),
    [
        ("train-labels-idx1-ubyte", np.zeros(19, np.uint8)),
        ("train-images-idx3-ubyte", np.zeros((20, 28, 27), np.uint8)),
        ("t10k-labels-idx1-ubyte", np.full(10, 10, np.uint8)),
        ("t10k-labels-idx1-ubyte", np.zeros((10, 1), np.uint8)),
    ],
)
def test_files_that_do_not_fit_are_one_sentence(
    file: str, array: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    """Sound files with other counts, sizes or classes train nothing."""
    (write(tmp_path) / file).write_bytes(idx(array))
    assert "broken or unreadable" in refusal(tmp_path)


def test_failed_download_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network, torchvision's own download ends here."""

    def no_network(url: str, **_: object) -> None:
        raise URLError(f"{url}:\nno route to host")

    monkeypatch.setattr(DOWNLOAD, no_network)
    assert "the download into" in refusal(tmp_path, download=True)
    assert "no route to host" in refusal(tmp_path, download=True)


def test_download_fetches_what_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are asked for only once, and only with download."""
    asked = []

    def network(url: str, *, download_root: str, filename: str, md5: str) -> None:
        assert len(md5) == 32
        asked.append(url.rsplit("/", 1)[1])
        file = filename.removesuffix(".gz")
        (Path(download_root) / file).write_bytes(idx(arrays()[file]))

    monkeypatch.setattr(DOWNLOAD, network)
    for _ in range(2):
        assert len(load_dataset("mnist", data_dir=tmp_path, download=True).train_targets) == 20
    assert asked == [f"{file}.gz" for file in arrays()]


def test_download_into_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """It names the folder before anything is fetched."""
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    assert "cannot be written" in refusal(blocked, download=True)
