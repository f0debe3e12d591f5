"""Batches of any structure: where their samples are, how to move, cut and repeat them, and call a network."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader, Dataset, RandomSampler, default_collate

from nncore_bench.worker.blocks import IncorrectError, SubjectError

Structure: TypeAlias = Any
"""A tensor, or tuples, lists, mappings and dataclasses of tensors, nested; other values stay as they are."""


def mapped(function: Callable[[Any], Any], structure: Structure, *, opaque: bool = False) -> Structure:
    """Return the structure with `function` applied to each tensor; with `opaque` to movable objects, too.

    Movable objects have a method `to` of their own, such as a packed sequence or a graph.
    """
    if isinstance(structure, Tensor) or (opaque and hasattr(structure, "to")):
        return function(structure)
    if isinstance(structure, PackedSequence):
        return structure
    if isinstance(structure, tuple | list):
        values = [mapped(function, value, opaque=opaque) for value in structure]
        return type(structure)(*values) if hasattr(structure, "_fields") else type(structure)(values)
    if isinstance(structure, Mapping):
        changed: Any = copy(structure)
        for key, value in structure.items():
            changed[key] = mapped(function, value, opaque=opaque)
        return changed
    if is_dataclass(structure) and not isinstance(structure, type):
        changed = copy(structure)
        for field in fields(structure):
            value = mapped(function, getattr(structure, field.name), opaque=opaque)
            object.__setattr__(changed, field.name, value)
        return changed
    return structure


def leaves(structure: Structure) -> list[Tensor]:
    """Return the tensors of a structure in order."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    mapped(keep, structure)
    return found


def moved(structure: Structure, device: torch.device, *, non_blocking: bool = False) -> Structure:
    """Return the structure with all its tensors on a device."""
    return mapped(lambda leaf: leaf.to(device, non_blocking=non_blocking), structure, opaque=True)


def shapes_of(structure: Structure) -> str:
    """Return the shapes of a structure's tensors as text, such as `[8, 4], [8]`."""
    return ", ".join(str(list(leaf.shape)) for leaf in leaves(structure)) or "no tensors"


@dataclass(frozen=True)
class Samples:
    """The samples of an example batch: their number, and the dimension of each tensor that counts them.

    The dimension is 0 or 1, and None for a tensor that all samples share.
    """

    number: int
    dimensions: tuple[int | None, ...]

    @classmethod
    def of(cls, inputs: Structure, targets: Structure) -> "Samples":
        """Find the samples; raises IncorrectError if no dimension of the inputs counts them.

        Targets say how many samples there are, by their first dimension; without targets the most common
        first dimension of the inputs does.
        """
        every = [leaf for leaf in leaves(inputs) if leaf.ndim]
        if not every:
            raise IncorrectError(f"its batch holds {type(inputs).__name__} without tensors (give tensors)")
        firsts = [len(leaf) for leaf in leaves(targets) if leaf.ndim]
        number = firsts[0] if firsts else Counter(len(leaf) for leaf in every).most_common(1)[0][0]
        ragged = next(_lists_of_samples((inputs, targets), number), None)
        if ragged is not None:
            raise IncorrectError(
                f"its batch holds a list of {len(ragged)} samples, which no dimension of a tensor counts"
                " (stack them into one tensor, or give it a method loader(batch_size) that yields such lists)"
            )
        dimensions = tuple(_dimension(leaf, number) for leaf in leaves((inputs, targets)))
        counted = [leaf for leaf in every if _dimension(leaf, number) is not None]
        if not counted or not number:
            counts = sorted({len(leaf) for leaf in every} | {number})
            raise IncorrectError(
                f"its batch holds {' and '.join(map(str, counts))} samples (give as many of each, or a method"
                " loader(batch_size) that yields batches)"
            )
        return cls(number, dimensions)

    def said(self, batch: Structure) -> list[str]:
        """Return what is not obvious: samples not in the first dimension, and tensors that all share."""
        odd: dict[str, list[str]] = {}
        for leaf, dimension in zip(leaves(batch), self.dimensions, strict=True):
            if dimension is None:
                odd.setdefault("shared by all samples", []).append(str(list(leaf.shape)))
            elif dimension:
                odd.setdefault("samples in the second dimension", []).append(str(list(leaf.shape)))
        return [f"{what}: the tensor of shape {', '.join(shapes)}" for what, shapes in odd.items()]

    def taken(self, batch: Structure, size: int, start: int = 0) -> Structure:
        """Return `size` samples of the batch, cycling through it from sample `start`."""
        chosen = torch.arange(start, start + size) % self.number
        return self._each(batch, lambda leaf, at: leaf.detach().index_select(at, chosen.to(leaf.device)))

    def _each(self, batch: Structure, function: Callable[[Tensor, int], Tensor]) -> Structure:
        dimensions = iter(self.dimensions)

        def change(leaf: Tensor) -> Tensor:
            dimension = next(dimensions)
            return leaf if dimension is None else function(leaf, dimension)

        return mapped(change, batch)


def _dimension(leaf: Tensor, number: int) -> int | None:
    return next((index for index, length in enumerate(leaf.shape[:2]) if length == number), None)


def _lists_of_samples(structure: Structure, number: int) -> Iterator[Sequence[Any]]:
    """Yield the lists that hold one entry per sample, as detection's lists of images and of dicts."""
    if isinstance(structure, list) and structure:
        first_dimensions = [leaf.shape[:1] for leaf in leaves(structure)]
        of_samples = len(structure) == number and all(first != (number,) for first in first_dimensions)
        if first_dimensions and (of_samples or all(isinstance(entry, Mapping) for entry in structure)):
            yield structure
    parts = structure.values() if isinstance(structure, Mapping) else structure
    if isinstance(parts, list | tuple) or isinstance(structure, Mapping):
        for part in parts:
            yield from _lists_of_samples(part, number)


class _One(Dataset[Any]):
    """The samples of an example batch, one by one, each as a list of its tensors."""

    def __init__(self, batch: Structure, samples: Samples) -> None:
        pairs = zip(leaves(batch), samples.dimensions, strict=True)
        self.tensors = [leaf.detach().movedim(at, 0) for leaf, at in pairs if at is not None]

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> list[Tensor]:
        return [tensor[index] for tensor in self.tensors]


def loader_of(  # noqa: PLR0913 - the DataLoader's own options
    batch: Structure, samples: Samples, batch_size: int, *, seed: int, num_workers: int, pin_memory: bool
) -> Iterator[Structure]:
    """Return an endless iterator over a DataLoader that draws and collates samples of an example batch."""
    one_by_one = _One(batch, samples)
    generator = torch.Generator().manual_seed(seed)

    def collate(drawn: list[list[Tensor]]) -> Structure:
        stacked = iter(default_collate(drawn))
        return samples._each(batch, lambda _, dimension: next(stacked).movedim(0, dimension))  # noqa: SLF001 - its own

    loader = DataLoader(
        one_by_one,
        batch_size,
        sampler=RandomSampler(one_by_one, replacement=True, num_samples=2**40, generator=generator),
        generator=generator,
        num_workers=num_workers,
        pin_memory=pin_memory,
        collate_fn=collate,
    )
    return iter(loader)


def called(model: nn.Module, inputs: Structure, *, whole: bool = False) -> Any:  # noqa: ANN401 - what the network returns
    """Call the network on a tensor, a tuple (positional) or a mapping (keywords), or on either as a whole."""
    if whole:
        return model(inputs)
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def anew(inputs: Structure, needed: Iterable[bool]) -> Structure:
    """Return the inputs with those that need gradients, of all tensors in order, as new leaves of a graph."""
    each = iter(needed)
    return mapped(lambda leaf: leaf.detach().requires_grad_() if next(each) else leaf, inputs)


def split(batch: Any) -> tuple[Structure, Structure]:  # noqa: ANN401 - whatever the user gives
    """Return the inputs and targets of a batch; one mapping, tensor or object has no targets."""
    if isinstance(batch, tuple | list) and not hasattr(batch, "_fields"):
        if len(batch) == 2:  # noqa: PLR2004 - inputs and targets
            return batch[0], batch[1]
        raise SubjectError(
            f"its batch is a {type(batch).__name__} of {len(batch)} (give a pair of inputs and targets, where"
            " inputs may be a tuple, or one mapping of keywords)"
        )
    if batch is None or isinstance(batch, str | int | float):
        raise SubjectError(f"its batch is {type(batch).__name__} (give a pair of inputs and targets)")
    return batch, None
