"""Batches of many structures, each with a network that takes them."""

from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence

Pair = namedtuple("Pair", "left right")  # noqa: PYI024 - as old code has it


@dataclass
class Sample:
    image: Tensor
    label: Tensor


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


def made(model: nn.Module, batch: Any, loss: Any = functional.cross_entropy, **more: Any) -> SimpleNamespace:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return SimpleNamespace(model=model, batch=batch, loss=loss, optimizer=optimizer, **more)


def classes(count: int = 8) -> Tensor:
    return torch.arange(count) % 3


class TwoInputs(Net):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(left + right)


def two_inputs() -> SimpleNamespace:
    return made(TwoInputs(), ((torch.randn(8, 6), torch.randn(8, 6)), classes()))


def keywords() -> SimpleNamespace:
    return made(TwoInputs(), ({"left": torch.randn(8, 6), "right": torch.randn(8, 6)}, classes()))


class TakesAMapping(Net):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        return super().forward(batch["x"] * batch["scale"])


def a_mapping_as_one_argument() -> SimpleNamespace:
    return made(TakesAMapping(), ({"x": torch.randn(8, 6), "scale": torch.ones(8, 1)}, classes()))


def an_ordered_mapping() -> SimpleNamespace:
    inputs = OrderedDict(left=torch.randn(8, 6), right=torch.randn(8, 6))
    return made(TwoInputs(), (inputs, classes()))


class TakesAPair(Net):
    def forward(self, pair: Pair) -> Tensor:  # type: ignore[override]
        return super().forward(pair.left - pair.right)


def a_named_tuple() -> SimpleNamespace:
    return made(TakesAPair(), (Pair(torch.randn(8, 6), torch.randn(8, 6)), classes()))


class TakesASample(Net):
    def forward(self, sample: Sample) -> Tensor:  # type: ignore[override]
        return functional.cross_entropy(super().forward(sample.image), sample.label)


def a_dataclass_without_targets() -> SimpleNamespace:
    return made(TakesASample(), Sample(torch.randn(8, 6), classes()), loss=None)


class Nested(Net):
    def forward(self, parts: list[Any]) -> Tensor:  # type: ignore[override]
        return super().forward(parts[0]["x"] + parts[1][0])


def nested() -> SimpleNamespace:
    return made(Nested(), (([{"x": torch.randn(8, 6)}, (torch.randn(8, 6),)],), classes()))


def flags_beside_tensors() -> SimpleNamespace:
    class Flagged(Net):
        def forward(self, x: Tensor, double: bool, name: str, rest: None) -> Tensor:  # type: ignore[override]  # noqa: FBT001 - as users write it
            assert name == "a name"
            assert rest is None
            return super().forward(2 * x if double else x)

    return made(Flagged(), ((torch.randn(8, 6), True, "a name", None), classes()))


def targets_in_a_tuple() -> SimpleNamespace:
    def loss(outputs: Tensor, targets: tuple[Tensor, Tensor]) -> Tensor:
        return functional.cross_entropy(outputs, targets[0]) + 0.1 * functional.mse_loss(
            outputs[:, 0], targets[1]
        )

    return made(Net(), (torch.randn(8, 6), (classes(), torch.randn(8))), loss)


def no_targets_and_a_loss_of_outputs() -> SimpleNamespace:
    return made(Net(), torch.randn(8, 6), lambda outputs: outputs.square().mean())


class OwnLoss(Net):
    def forward(self, x: Tensor, y: Tensor) -> Any:  # type: ignore[override]
        return functional.cross_entropy(super().forward(x), y)


def the_loss_is_the_output() -> SimpleNamespace:
    return made(OwnLoss(), {"x": torch.randn(8, 6), "y": classes()}, loss=None)


def a_mapping_with_the_loss() -> SimpleNamespace:
    class Mapped(OwnLoss):
        def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            return {"loss": super().forward(x, y), "extra": x}

    return made(Mapped(), {"x": torch.randn(8, 6), "y": classes()}, loss=None)


def a_mapping_of_losses() -> SimpleNamespace:
    class Losses(OwnLoss):
        def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            return {"main": super().forward(x, y), "penalty": self.first.weight.square().mean()}

    return made(Losses(), {"x": torch.randn(8, 6), "y": classes()}, loss=None)


def logits_and_loss() -> SimpleNamespace:
    class Both(Net):
        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            logits = super().forward(x)
            return logits, functional.cross_entropy(logits, y)

    return made(Both(), {"x": torch.randn(8, 6), "y": classes()}, loss=None)


def inputs_with_gradients() -> SimpleNamespace:
    class Slope(Net):
        def forward(self, x: Tensor) -> Tensor:
            return torch.autograd.grad(super().forward(x).sum(), x, create_graph=True)[0]

    return made(Slope(), (torch.randn(8, 6, requires_grad=True), torch.zeros(8, 6)), functional.mse_loss)


def time_first() -> SimpleNamespace:
    class Steps(Net):
        def forward(self, x: Tensor) -> Tensor:  # [time, samples, features]
            return super().forward(x.mean(0))

    return made(Steps(), (torch.randn(4, 8, 6), classes()))


def a_loader_of_ragged_lists() -> SimpleNamespace:
    class Ragged(Net):
        def forward(self, parts: list[Tensor]) -> Tensor:  # type: ignore[override]
            return torch.stack([super(Ragged, self).forward(part).mean(0) for part in parts])

    def loader(batch_size: int) -> Iterator[Any]:
        for _ in range(3):
            yield ([torch.randn(1 + sample % 3, 6) for sample in range(batch_size)],), classes(batch_size)

    return made(Ragged(), None, loader=loader)


def a_loader_of_packed_sequences() -> SimpleNamespace:
    class Packed(Net):
        def forward(self, packed: PackedSequence) -> Tensor:  # type: ignore[override]
            return super().forward(pad_packed_sequence(packed, batch_first=True)[0].mean(1))

    def loader(batch_size: int) -> Iterator[Any]:
        lengths = sorted((1 + sample % 4 for sample in range(batch_size)), reverse=True)
        yield pack_sequence([torch.randn(length, 6) for length in lengths]), classes(batch_size)

    return made(Packed(), None, loader=loader)


class Graph:
    """A batch of graphs as an object of its own, with `to`."""

    def __init__(self, nodes: Tensor, edges: Tensor, of: Tensor) -> None:
        self.nodes, self.edges, self.of = nodes, edges, of

    def to(self, device: torch.device, *, non_blocking: bool = False) -> "Graph":
        return Graph(
            *(part.to(device, non_blocking=non_blocking) for part in (self.nodes, self.edges, self.of))
        )


def a_loader_of_graphs() -> SimpleNamespace:
    class Passing(Net):
        def forward(self, graph: Graph) -> Tensor:  # type: ignore[override]
            source, target = graph.edges
            messages = graph.nodes.index_add(0, target, graph.nodes[source])
            count = int(graph.of.max()) + 1
            return super().forward(messages.new_zeros(count, 6).index_add(0, graph.of, messages))

    def loader(batch_size: int) -> Iterator[Any]:
        of = torch.arange(batch_size).repeat_interleave(3)
        yield Graph(torch.randn(len(of), 6), torch.randint(len(of), (2, 20)), of), classes(batch_size)

    return made(Passing(), None, loader=loader)


def one_sample() -> SimpleNamespace:
    return made(Net(), (torch.randn(1, 6), classes(1)))


def strided_inputs() -> SimpleNamespace:
    return made(Net(), (torch.randn(6, 8).t(), classes()))


def integers_as_inputs() -> SimpleNamespace:
    class Embedded(Net):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.EmbeddingBag(30, 6)

        def forward(self, tokens: Tensor) -> Tensor:
            return super().forward(self.embed(tokens))

    return made(Embedded(), (torch.randint(30, (8, 4)), classes()))
