"""Optimizers of every kind on a small network, in two groups with settings of their own."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import (
    ASGD,
    SGD,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Muon,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
    Rprop,
)

DECAYED, OTHER = {"lr": 0.05, "weight_decay": 0.1}, {"lr": 0.01, "weight_decay": 0.0}
BETAS = {"betas": (0.8, 0.95)}
SETTINGS: dict[type[Optimizer], tuple[dict[str, Any], dict[str, Any]]] = {
    Adam: ({**DECAYED, **BETAS}, {**OTHER, "amsgrad": True}),
    AdamW: ({**DECAYED, **BETAS}, {**OTHER, "betas": (0.7, 0.9)}),
    NAdam: ({**DECAYED, **BETAS}, {**OTHER, "decoupled_weight_decay": True}),
    RAdam: ({**DECAYED, **BETAS}, OTHER),
    Adamax: ({**DECAYED, **BETAS}, OTHER),
    SGD: (
        {**DECAYED, "momentum": 0.9, "nesterov": True},
        {**OTHER, "momentum": 0.5, "dampening": 0.3, "nesterov": False},
    ),
    Adagrad: ({**DECAYED, "initial_accumulator_value": 0.1}, {**OTHER, "lr_decay": 0.1}),
    RMSprop: ({**DECAYED, "centered": True}, {**OTHER, "momentum": 0.9}),
    Adadelta: (DECAYED, {**OTHER, "rho": 0.8}),
    ASGD: ({**DECAYED, "alpha": 0.6}, OTHER),
    Adafactor: (DECAYED, {**OTHER, "beta2_decay": -0.5}),
    Rprop: ({"lr": 0.05}, {"lr": 0.01, "etas": (0.4, 1.3)}),
    Muon: ({**DECAYED, "momentum": 0.8}, OTHER),
}
"""For each kind the settings of the optimizer, and what its second group has of its own."""


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False))


def in_two_groups(kind: type[Optimizer], model: nn.Sequential, **more: object) -> Optimizer:
    first, second = SETTINGS[kind]
    groups = [{"params": model[0].parameters()}, {"params": model[1].parameters(), "name": "head", **second}]
    return kind(groups, **{**first, **more})  # type: ignore[arg-type]


def trained(model: nn.Module, optimizer: Optimizer, steps: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


def settings(optimizer: Optimizer, *left_out: str) -> list[dict[str, object]]:
    return [
        {name: value for name, value in group.items() if name not in {"params", *left_out}}
        for group in optimizer.param_groups
    ]


def executed(line: str, model: nn.Module, optimizer: Optimizer) -> Optimizer:
    """Run a line with nothing known but torch, the network and its optimizer."""
    scope: dict[str, Any] = {"torch": torch, "model": model, "optimizer": optimizer}
    exec(line, scope)  # noqa: S102 - the code under test
    made: Optimizer = scope["optimizer"]
    return made
