"""Forms of a step: what the words of a variant and a precision do to network, optimizer and step."""

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from bench.measure.blocks import IncorrectError
from bench.measure.making import Inputs, called
from bench.measure.workers import COMPILER_CACHE
from nncore.step import TrainStep

COMPILE_MODES: Mapping[str, str] = {"compile": "default", "compile-max": "max-autotune"}
IMAGE_DIMENSIONS = 4
Words = tuple[str, ...]


def formed_model(model: nn.Module, words: Words) -> nn.Module:
    """Return the network in the memory format and compiled as the words say; raises IncorrectError."""
    if "channels-last" in words:
        if not any(parameter.ndim == IMAGE_DIMENSIONS for parameter in model.parameters()):
            raise IncorrectError("channels-last: the network has no weights of four dimensions, so no images")
        model = model.to(memory_format=torch.channels_last)
    for word, mode in COMPILE_MODES.items():
        if word in words:
            return cast("nn.Module", torch.compile(model, mode=mode, dynamic=False))
    return model


def formed_inputs(inputs: Inputs, words: Words) -> Inputs:
    """Return inputs in the memory format that the words say."""
    if "channels-last" not in words:
        return inputs
    return tree_map(
        lambda tensor: (
            tensor.to(memory_format=torch.channels_last) if tensor.ndim == IMAGE_DIMENSIONS else tensor
        ),
        inputs,
    )


class _KeepsGradients(TrainStep):
    def zero_grad(self) -> None:
        self.torch_optimizer.zero_grad(set_to_none=False)


class _Structured(TrainStep):
    def forward(self, inputs: Inputs) -> Tensor:
        return cast("Tensor", called(self.model, inputs))


class _Autocast(TrainStep):
    autocast: torch.autocast

    def forward(self, inputs: Inputs) -> Tensor:
        with self.autocast:
            return super().forward(inputs)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        with self.autocast:
            return super().loss(logits, targets)


def formed_step(  # noqa: PLR0913, PLR0917 - a step is made of these
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: Optimizer,
    words: Words,
    precision: str,
    inputs: Inputs,
) -> TrainStep:
    """Return the training step; its phases are the plain ones unless a word changes them."""
    kinds: list[type[TrainStep]] = []
    if precision == "bfloat16":
        kinds.append(_Autocast)
    if not isinstance(inputs, Tensor):
        kinds.append(_Structured)
    if "set-to-none=false" in words:
        kinds.append(_KeepsGradients)
    kind = type("Step", (*kinds, TrainStep), {}) if len(kinds) > 1 else (kinds or [TrainStep])[0]
    step: TrainStep = kind(model, cast("nn.Module", loss), optimizer)
    if isinstance(step, _Autocast):
        device = next(model.parameters()).device.type
        step.autocast = torch.autocast(device, dtype=torch.bfloat16)
    return step


@contextmanager
def compiler_cache_of(words: Words) -> Iterator[None]:
    """Give each way to compile a part of its own in a cache that was set, and import the compiler beforehand.

    Else what one compiled would make the first step of another look cheap, and the first of them slow.
    """
    compiler = next((word for word in COMPILE_MODES if word in words), None)
    folder = os.environ.get(COMPILER_CACHE)
    if compiler is None or folder is None:
        yield
        return
    importlib.import_module("torch._inductor.compile_fx")
    os.environ[COMPILER_CACHE] = str(Path(folder) / compiler)
    try:
        yield
    finally:
        os.environ[COMPILER_CACHE] = folder


@contextmanager
def precision_set(precision: str) -> Iterator[None]:
    """Set what a precision sets for a whole process while a case runs, and put it back."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def inference_mode(words: Words) -> Any:  # noqa: ANN401 - torch types both as different classes
    """Return the context of inference: without gradients, or without version counters besides."""
    return torch.inference_mode() if "inference-mode" in words else torch.no_grad()
