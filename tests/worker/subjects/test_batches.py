"""Batches of any structure: where their samples are, and what moves, cuts and repeats them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from nncore_bench.worker.blocks import IncorrectError
from nncore_bench.worker.subjects.batches import Samples, leaves, loader_of, mapped, moved


class Pair(NamedTuple):
    """Two tensors by name."""

    left: Tensor
    right: Tensor


@dataclass(frozen=True)
class Sample:
    """A tensor and a text."""

    image: Tensor
    name: str


NESTED: Any = {
    "a": [torch.zeros(4), (torch.ones(4, 2), "text", None)],
    "b": Pair(torch.zeros(4), torch.ones(4)),
}


def test_every_tensor_is_changed_and_everything_else_is_kept() -> None:
    """Types too: a named tuple stays one, a frozen dataclass stays one, and the original is not touched."""
    batch = (NESTED, Sample(torch.zeros(4), "a name"))
    changed = mapped(lambda tensor: tensor + 1, batch)
    assert [float(leaf.sum()) for leaf in leaves(batch)] == [0, 8, 0, 4, 0]
    assert [float(leaf.sum()) for leaf in leaves(changed)] == [4, 16, 4, 8, 4]
    assert isinstance(changed[0]["b"], Pair)
    assert changed[0]["a"][1][1:] == ("text", None)
    assert (changed[1].name, type(changed[1])) == ("a name", Sample)


def test_an_object_with_a_method_to_moves_as_a_whole() -> None:
    """The lengths of a packed sequence stay on the host, as torch wants them; only its own `to` knows."""
    packed = pack_sequence([torch.zeros(3, 2), torch.ones(1, 2)])
    there = moved((packed, torch.zeros(2)), torch.device("meta"))
    assert there[0].data.device.type == "meta"
    assert there[0].batch_sizes.device.type == "cpu"
    assert there[1].device.type == "meta"


@pytest.mark.parametrize(
    ("inputs", "targets", "number", "dimensions"),
    [
        (torch.zeros(8, 3), torch.zeros(8), 8, (0, 0)),
        (torch.zeros(5, 8, 3), torch.zeros(8), 8, (1, 0)),
        ((torch.zeros(8, 5), torch.zeros(5, 5)), torch.zeros(8), 8, (0, None, 0)),
        ({"x": torch.zeros(8, 5), "scale": torch.tensor(2.0)}, None, 8, (0, None)),
        ([torch.zeros(2, 3), torch.zeros(2, 3)], torch.zeros(2), 2, (0, 0, 0)),
        (torch.zeros(8, 8), torch.zeros(8), 8, (0, 0)),
    ],
)
def test_targets_say_how_many_samples_there_are_or_else_most_inputs(
    inputs: Any,  # noqa: ANN401 - any structure
    targets: Any,  # noqa: ANN401 - any structure
    number: int,
    dimensions: tuple[int | None, ...],
) -> None:
    """Time first is the second dimension; a mask or a scale belongs to all samples."""
    samples = Samples.of(inputs, targets)
    assert (samples.number, samples.dimensions) == (number, dimensions)


def test_unusual_samples_are_said() -> None:
    """With the shape of the tensor, so that a wrong guess is seen."""
    batch = ((torch.zeros(5, 8, 3), torch.zeros(5, 5)), torch.zeros(8))
    assert Samples.of(*batch).said(batch) == [
        "samples in the second dimension: the tensor of shape [5, 8, 3]",
        "shared by all samples: the tensor of shape [5, 5]",
    ]
    usual = (torch.zeros(8, 3), torch.zeros(8))
    assert Samples.of(*usual).said(usual) == []


@pytest.mark.parametrize(
    ("inputs", "targets", "sentence"),
    [
        ([torch.zeros(3, 9, 9) for _ in range(4)], torch.zeros(4), "a list of 4 samples"),
        ((torch.zeros(2, 3), [{"boxes": torch.zeros(2, 4)}]), None, "a list of 1 samples"),
        (torch.zeros(3, 2), torch.zeros(4), "3 and 4 samples"),
        ("text", None, "str without tensors"),
    ],
)
def test_a_batch_whose_samples_no_dimension_counts_is_refused(
    inputs: Any,  # noqa: ANN401 - any structure
    targets: Any,  # noqa: ANN401 - any structure
    sentence: str,
) -> None:
    """With what it holds."""
    with pytest.raises(IncorrectError, match=sentence):
        Samples.of(inputs, targets)


def test_samples_are_taken_along_their_own_dimension() -> None:
    """Sample k of 4 is k in each tensor that counts them; what all share stays as it is."""
    batch = {"time first": torch.arange(4).expand(3, 4), "mask": torch.ones(2, 2)}, torch.arange(4)
    inputs, targets = Samples.of(*batch).taken(batch, 6, start=3)
    assert targets.tolist() == [3, 0, 1, 2, 3, 0]
    assert inputs["time first"].tolist() == [[3, 0, 1, 2, 3, 0]] * 3
    assert inputs["mask"] is batch[0]["mask"]


def test_a_loader_draws_whole_samples_of_any_structure() -> None:
    """Each tensor holds the number of its sample: after drawing and collating they still belong together."""
    number = torch.arange(5)
    batch = (Pair(number.repeat(3, 1), number[:, None].repeat(1, 2)), {"t": number, "m": torch.ones(7)})
    loader = loader_of(batch, Samples.of(*batch), 4, seed=0, num_workers=0, pin_memory=False)
    seen = set()
    for _ in range(20):
        inputs, targets = next(loader)
        assert isinstance(inputs, Pair)
        assert torch.equal(inputs.left, targets["t"].repeat(3, 1))
        assert torch.equal(inputs.right[:, 1], targets["t"])
        assert targets["m"].shape == (7,)
        seen |= set(targets["t"].tolist())
    assert seen == {0, 1, 2, 3, 4}
