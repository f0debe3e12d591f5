"""Subjects that cannot be measured, each for one reason that a sentence should name."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def network(outputs: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, outputs))


def made(model: nn.Module, batch: Any, **more: Any) -> SimpleNamespace:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return SimpleNamespace(**{"model": model, "batch": batch, "optimizer": optimizer, **more})


def classes(count: int = 8) -> Tensor:
    return torch.arange(count) % 3


def lazy_without_a_batch() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))


def nan_in_the_third_batch() -> SimpleNamespace:
    inputs = torch.randn(32, 12)
    inputs[20] = torch.nan
    return made(network(), (inputs, classes(32)))


def one_output_with_cross_entropy() -> SimpleNamespace:
    return made(
        network(1), (torch.randn(8, 12), torch.zeros(8, dtype=torch.long)), loss=nn.CrossEntropyLoss()
    )


def one_output_of_a_bare_network() -> nn.Module:
    return network(1)


def detached_outputs() -> SimpleNamespace:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x).detach().requires_grad_()

    return made(Detached(), (torch.randn(8, 12), classes()))


def a_loss_without_reduction() -> SimpleNamespace:
    return made(network(), (torch.randn(8, 12), classes()), loss=nn.CrossEntropyLoss(reduction="none"))


def a_loss_that_is_a_number() -> SimpleNamespace:
    def loss(outputs: Tensor, targets: Tensor) -> float:
        return functional.cross_entropy(outputs, targets).item()

    return made(network(), (torch.randn(8, 12), classes()), loss=loss)


def parameters_of_another_network() -> SimpleNamespace:
    return made(network(), (torch.randn(8, 12), classes()), optimizer=torch.optim.SGD(network().parameters()))


def a_wrong_width() -> SimpleNamespace:
    return made(network(), (torch.randn(8, 10), classes()))


def a_list_of_images() -> SimpleNamespace:
    return made(network(), ([torch.randn(3, 4, 4) for _ in range(8)], classes()))


def two_optimizers() -> SimpleNamespace:
    model = network()
    halves = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (model[0], model[2])]
    return made(model, (torch.randn(8, 12), classes()), optimizer=halves)


def a_batch_of_three() -> SimpleNamespace:
    return made(network(), (torch.randn(8, 12), classes(), torch.ones(8)))


def an_empty_loader() -> SimpleNamespace:
    return made(network(), (torch.randn(8, 12), classes()), loader=lambda _size: [])


def raises_in_its_forward() -> SimpleNamespace:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)[:, 99]

    return made(Broken(), (torch.randn(8, 12), classes()))


def leaves_the_process() -> nn.Module:
    raise SystemExit(3)


def downloads() -> nn.Module:
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn  # noqa: PLC0415 - takes a second

    return fasterrcnn_mobilenet_v3_large_fpn(weights_backbone="DEFAULT")
