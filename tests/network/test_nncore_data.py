"""The data sets and their batches."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import chain, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import sklearn.datasets
import torch

from nncore import (
    Dataset,
    DatasetError,
    endless_loader,
    load_dataset,
    make_loader,
    resident_batches,
    to_device,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder which holds the digits after their first load."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def digits(folder: Path) -> Dataset:
    """Return the digits."""
    return load_dataset("digits", data_dir=folder)


def rows(inputs: torch.Tensor) -> Counter[bytes]:
    """Return how often each sample occurs."""
    return Counter(row.tobytes() for row in inputs.numpy())


def bilinear_matrix() -> npt.NDArray[np.float64]:
    """Return the [28, 8] matrix that scales a column of 8 pixels up to 28, pixel centres at halves."""
    matrix = np.zeros((28, 8))
    for i in range(28):
        source = min(max((i + 0.5) * 8 / 28 - 0.5, 0.0), 7.0)
        below = min(int(source), 6)
        matrix[i, below : below + 2] = 1 - (source - below), source - below
    return matrix


def labelled(images: npt.NDArray[np.float64], targets: npt.NDArray[np.int64]) -> Counter[tuple[bytes, int]]:
    """Return how often each pair of image and label occurs."""
    flat = images.reshape(len(images), -1).astype(np.int8)
    return Counter((image.tobytes(), int(target)) for image, target in zip(flat, targets, strict=True))


def test_digits_are_the_1797_of_scikit_learn(digits: Dataset) -> None:
    """Undoing the bilinear scaling gives back every original 8 x 8 image, with its label."""
    inputs = torch.cat([digits.train_inputs, digits.test_inputs])
    targets = torch.cat([digits.train_targets, digits.test_targets])
    assert list(inputs.shape) == [1797, 784]
    assert (inputs.dtype, targets.dtype) == (torch.float32, torch.int64)
    assert (inputs.min().item(), inputs.max().item()) == (0.0, 1.0)
    large = inputs.numpy().reshape(-1, 28, 28).astype(np.float64)
    matrix = bilinear_matrix()
    undo = np.linalg.pinv(matrix)
    small = (16 * undo @ large @ undo.T).round()
    np.testing.assert_allclose(large, matrix @ small @ matrix.T / 16, atol=1e-6)
    original = sklearn.datasets.load_digits()
    assert labelled(small, targets.numpy()) == labelled(original.images, original.target)


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_split_is_complete_disjoint_and_fixed_by_the_seed(name: str, folder: Path) -> None:
    """80 % train, 20 % test; the same seed gives the same split, another seed another of the same samples."""
    first, again, other = (load_dataset(name, data_dir=folder, seed=seed) for seed in (0, 0, 1))
    count = {"digits": (1437, 360), "synthetic": (4000, 1000)}[name]
    assert (len(first.train_targets), len(first.test_targets)) == count
    assert torch.equal(first.train_inputs, again.train_inputs)
    assert torch.equal(first.test_targets, again.test_targets)
    assert not torch.equal(first.train_targets, other.train_targets)
    assert not rows(first.train_inputs) & rows(first.test_inputs)


def test_seeds_split_the_same_digits(folder: Path, digits: Dataset) -> None:
    """No sample is lost or doubled by a split."""
    other = load_dataset("digits", data_dir=folder, seed=7)
    whole, other_whole = (rows(torch.cat([data.train_inputs, data.test_inputs])) for data in (digits, other))
    assert whole == other_whole


@pytest.mark.machine
def test_later_loads_import_neither_sklearn_nor_torchvision(folder: Path, digits: Dataset) -> None:
    """The cache file, found through NNCORE_DATA, is enough."""
    program = (
        "import sys, nncore; d = nncore.load_dataset(); print(float(d.train_inputs.double().sum()));"
        "print([m for m in ('sklearn', 'pandas', 'scipy', 'torchvision') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "NNCORE_DATA": str(folder)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    total, imported = done.stdout.splitlines()
    assert float(total) == float(digits.train_inputs.double().sum())
    assert imported == "[]"


def break_empty(path: Path) -> None:
    """Leave an empty file."""
    path.write_bytes(b"")


def break_half(path: Path) -> None:
    """Cut the file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def break_bytes(path: Path) -> None:
    """Overwrite a stretch in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = b"\xff" * 200
    path.write_bytes(content)


def break_shape(path: Path) -> None:
    """Leave a sound file of something else."""
    np.savez(path, images=np.zeros((3, 8, 8), np.uint8), targets=np.zeros(3, np.uint8))


def break_values(path: Path) -> None:
    """Leave shades that no digit has."""
    np.savez(path, images=np.full((1797, 8, 8), 200, np.uint8), targets=np.zeros(1797, np.uint8))


def break_kind(path: Path) -> None:
    """Leave a plain array under the name of an archive."""
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


@pytest.mark.parametrize(
    "damage", [break_empty, break_half, break_bytes, break_shape, break_values, break_kind]
)
def test_broken_cache_is_rebuilt(damage: Callable[[Path], None], tmp_path: Path, digits: Dataset) -> None:
    """Whatever the file holds, the digits are right and the next load finds a sound file, and only it."""
    cache = tmp_path / "digits.npz"
    load_dataset("digits", data_dir=tmp_path)
    sound = cache.read_bytes()
    damage(cache)
    assert torch.equal(load_dataset("digits", data_dir=tmp_path).train_inputs, digits.train_inputs)
    with np.load(cache) as arrays, np.load(_written(tmp_path / "sound.npz", sound)) as expected:
        assert all(np.array_equal(arrays[name], expected[name]) for name in ("images", "targets"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits.npz", "sound.npz"]


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_folder_that_cannot_be_written_is_no_obstacle(tmp_path: Path, digits: Dataset) -> None:
    """The digits come without a cache."""
    blocked = _written(tmp_path / "file", b"") / "folder"
    assert torch.equal(load_dataset("digits", data_dir=blocked).test_inputs, digits.test_inputs)
    assert not blocked.exists()


def test_synthetic_labels_can_be_learned_linearly() -> None:
    """Least squares on the training set predicts the test set far better than the 10 % of chance."""
    data = load_dataset("synthetic", seed=3)
    one_hot = torch.nn.functional.one_hot(data.train_targets, 10).float()
    weights = torch.linalg.lstsq(data.train_inputs, one_hot, driver="gelsd").solution
    right = (data.test_inputs @ weights).argmax(dim=1) == data.test_targets
    assert right.float().mean() > 0.7
    assert set(data.train_targets.tolist()) == set(range(10))


def test_unknown_dataset_is_one_sentence_with_the_names() -> None:
    """A typing error is answered by what can be had."""
    with pytest.raises(DatasetError, match=r"'minst'.*digits, mnist, fashion-mnist, synthetic"):
        load_dataset("minst")


def test_to_device_moves_all_tensors(digits: Dataset) -> None:
    """The name stays, the tensors are there (torch's device without memory stands in for a GPU)."""
    moved = to_device(digits, torch.device("meta"))
    assert moved.name == "digits"
    tensors = (moved.train_inputs, moved.train_targets, moved.test_inputs, moved.test_targets)
    assert [t.device.type for t in tensors] == ["meta"] * 4


def numbered(samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return samples whose input and target are their number."""
    numbers = torch.arange(samples)
    return numbers.float().unsqueeze(1), numbers


def test_loader_gives_each_sample_once_in_an_order_fixed_by_the_seed() -> None:
    """The last batch is smaller or dropped, and every pass has another order."""
    inputs, targets = numbered(10)
    passes = [make_loader(inputs, targets, 4, shuffle=True, seed=5) for _ in range(2)]
    first, again = ([t.tolist() for _, t in loader] for loader in passes)
    second = [t.tolist() for _, t in passes[0]]
    assert first == again != second
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(10))
    assert [len(batch) for batch in first] == [4, 4, 2]
    full = make_loader(inputs, targets, 4, shuffle=False, seed=0, drop_last=True)
    assert [t.tolist() for _, t in full] == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("batch_size", [1, 1024, 4096])
def test_endless_loader_gives_full_batches_evenly(batch_size: int) -> None:
    """Always full, also above N, and at any moment no sample was seen more than once more than another."""
    loader = endless_loader(*numbered(1437), batch_size, seed=0)
    seen: Counter[int] = Counter()
    for inputs, targets in islice(loader, max(3, 2000 // batch_size)):
        assert inputs.shape == (batch_size, 1)
        assert torch.equal(inputs[:, 0].long(), targets)
        seen.update(targets.tolist())
        counts = [seen[i] for i in range(1437)]
        assert max(counts) - min(counts) <= 1


def test_endless_loader_is_fixed_by_its_seed_and_leaves_the_global_one_alone() -> None:
    """Passes differ from one another, iterators with the same seed do not."""
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, again = ([t.tolist() for _, t in islice(endless_loader(*numbered(6), 6, seed=2), 3)] for _ in "ab")
    assert first == again
    assert first[0] != first[1]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("batch_size", "batches"), [(1, 64), (32, 45), (1024, 2), (1437, 1), (4096, 1)])
def test_resident_batches_are_full_views_into_one_tensor(batch_size: int, batches: int) -> None:
    """They share one storage, lie one after another in it, and hold the samples evenly."""
    found = resident_batches(*numbered(1437), batch_size, seed=0)
    assert [len(i) for i, _ in found] == [len(t) for _, t in found] == [batch_size] * batches
    for part in (0, 1):
        tensors = [batch[part] for batch in found]
        assert len({t.untyped_storage().data_ptr() for t in tensors}) == 1
        assert [t.storage_offset() for t in tensors] == [i * batch_size for i in range(batches)]
        assert all(t.is_contiguous() for t in tensors)
    assert all(torch.equal(i[:, 0].long(), t) for i, t in found)
    counts = Counter(torch.cat([t for _, t in found]).tolist())
    assert max(counts.values()) - min(counts[i] for i in range(1437)) <= 1


def test_resident_batches_are_fixed_by_the_seed() -> None:
    """Another seed, another order."""
    first, again, other = (resident_batches(*numbered(50), 50, seed=s)[0][1] for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_batches_of_nothing_are_refused() -> None:
    """No samples, unpaired samples and batch sizes below 1 are refused by all three."""
    inputs, targets = numbered(5)
    for make in (
        lambda *a: make_loader(*a, shuffle=True, seed=0),
        lambda *a: endless_loader(*a, seed=0),
        lambda *a: resident_batches(*a, seed=0),
    ):
        with pytest.raises(ValueError, match="batch_size: 0 "):
            make(inputs, targets, 0)
        with pytest.raises(ValueError, match="0 and 0 make no pairs"):
            make(inputs[:0], targets[:0], 4)
        with pytest.raises(ValueError, match="5 and 4 make no pairs"):
            make(inputs, targets[:4], 4)
