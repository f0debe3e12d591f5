"""Apply a variant and a precision: what each word changes about the model, the inputs and the step."""

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nncore.step import TrainStep
from nncore_bench.variants import HALVES, form_of
from nncore_bench.worker.blocks import IncorrectError
from nncore_bench.worker.messages import COMPILER_CACHE
from nncore_bench.worker.subjects.batches import Structure, anew, called, mapped

IMAGE_DIMENSIONS = 4
PASSES = 32
"""Halve the loss scale at most this often: from 65536, GradScaler's initial scale, to far below 1."""

Words = tuple[str, ...]


def formed_model(model: nn.Module, words: Words) -> nn.Module:
    """Apply memory format and compilation; raises IncorrectError for channels-last without 4-D weights."""
    in_channels_last([model], words)
    mode = form_of(words).compile_mode
    return cast("nn.Module", torch.compile(model, mode=mode, dynamic=False)) if mode else model


def in_channels_last(models: Sequence[nn.Module], words: Words) -> Sequence[nn.Module]:
    """Return the networks, in the memory format of the variant; raises IncorrectError without 4-D weights."""
    if "channels-last" in words:
        if not any(one.ndim == IMAGE_DIMENSIONS for model in models for one in model.parameters()):
            raise IncorrectError("channels-last: the network has no weights of four dimensions, so no images")
        for model in models:
            model.to(memory_format=torch.channels_last)
    return models


def formed_inputs(inputs: Structure, words: Words) -> Structure:
    """Return the inputs in the variant's memory format."""
    if "channels-last" not in words:
        return inputs
    return mapped(
        lambda tensor: (
            tensor.to(memory_format=torch.channels_last) if tensor.ndim == IMAGE_DIMENSIONS else tensor
        ),
        inputs,
    )


class _KeepsGradients(TrainStep):
    def zero_grad(self) -> None:
        self.torch_optimizer.zero_grad(set_to_none=False)


class _Structured(TrainStep):
    whole = False

    def forward(self, inputs: Structure) -> Tensor:
        return cast("Tensor", called(self.model, inputs, whole=self.whole))


class _NeedsInputGradients(TrainStep):
    needed: Sequence[bool]

    def forward(self, inputs: Structure) -> Tensor:
        return super().forward(anew(inputs, self.needed))


class _Autocast(TrainStep):
    autocast: torch.autocast

    def forward(self, inputs: Structure) -> Tensor:
        with self.autocast:
            return super().forward(inputs)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        with self.autocast:
            return super().loss(logits, targets)


class ScaledStep(_Autocast):
    """A step with a scaled loss, so that small gradients do not underflow; an overflow skips the update."""

    scaler: torch.amp.GradScaler

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of the scaled loss."""
        super().backward(self.scaler.scale(loss))

    def optimizer(self) -> None:
        """Unscale the gradients, update the parameters, and adapt the scale."""
        self.scaler.step(self.torch_optimizer)
        self.scaler.update()

    def settle(self, batches: Sequence[tuple[Structure, Tensor]]) -> None:
        """Train until no gradient overflows, as the first steps may; raises IncorrectError if they all do."""
        for _ in range(PASSES):
            before = self.scaler.get_scale()
            for inputs, targets in batches:
                self(inputs, targets)
            if self.scaler.get_scale() >= before:
                return
        raise IncorrectError(
            f"float16: gradients overflow even where the loss is scaled by {before:.0e} (train in bfloat16)"
        )

    def scaling(self) -> list[Tensor]:
        """Return the scale, and the number of steps since it last changed, as the scaler's own tensors."""
        scaler: Any = self.scaler  # whose public accessors return copies
        return [scaler._scale, scaler._growth_tracker]  # noqa: SLF001


def casting(precision: str, device: str) -> torch.autocast:
    """Return the autocast context for a precision, disabled for float32 and tf32."""
    dtype = getattr(torch, precision) if precision in HALVES else None
    return torch.autocast(device, dtype, enabled=dtype is not None)


def formed_step(  # noqa: PLR0913, PLR0917 - the parts of a step
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: Optimizer,
    words: Words,
    precision: str,
    inputs: Structure,
    *,
    whole: bool = False,
    needed: Sequence[bool] = (),
) -> TrainStep:
    """Build the training step, overriding only the phases that the variant or precision changes."""
    kinds: list[type[TrainStep]] = []
    if precision in HALVES:
        kinds.append(ScaledStep if precision == "float16" else _Autocast)
    if any(needed):
        kinds.append(_NeedsInputGradients)
    if not isinstance(inputs, Tensor):
        kinds.append(_Structured)
    if "set-to-none=false" in words:
        kinds.append(_KeepsGradients)
    kind = type("Step", (*kinds, TrainStep), {}) if len(kinds) > 1 else (kinds or [TrainStep])[0]
    step: TrainStep = kind(model, cast("nn.Module", loss), optimizer)
    if isinstance(step, _Structured):
        step.whole = whole
    if isinstance(step, _NeedsInputGradients):
        step.needed = needed
    if isinstance(step, _Autocast):
        device = next(model.parameters()).device.type
        step.autocast = casting(precision, device)
        if isinstance(step, ScaledStep):
            step.scaler = torch.amp.GradScaler(device)
    return step


@contextmanager
def compiler_cache_of(words: Words) -> Iterator[None]:
    """Give each compile mode its own compiler cache, if one is configured, and import the compiler first.

    Otherwise one mode's cached kernels would make the next one's first step look cheap, and the import would
    be charged to whichever compiles first.
    """
    mode, folder = form_of(words).compile_mode, os.environ.get(COMPILER_CACHE)
    if not mode or folder is None:
        yield
        return
    importlib.import_module("torch._inductor.compile_fx")
    os.environ[COMPILER_CACHE] = str(Path(folder) / mode)
    try:
        yield
    finally:
        os.environ[COMPILER_CACHE] = folder


BACKENDS: Any = torch.backends  # its attributes are created dynamically, invisible to type checkers
ON_CUDA: tuple[Any, ...] = (BACKENDS.cuda.matmul, BACKENDS.cudnn.conv, BACKENDS.cudnn.rnn)
ON_CPU: tuple[Any, ...] = (BACKENDS.mkldnn.matmul, BACKENDS.mkldnn.conv, BACKENDS.mkldnn.rnn)
"""Backends with a float32 precision setting of their own: matmul, convolutions, recurrent layers."""


@contextmanager
def precision_set(precision: str) -> Iterator[None]:
    """Set the process-wide float32 precision while a case runs, and restore it afterwards.

    By default torch computes convolutions and recurrent layers in TF32 on CUDA, and matmuls in float32; here
    all of them use TF32 for tf32 and float32 otherwise. The CPU always computes in float32.
    """
    # The legacy settings cannot be read where a factory chose something they cannot express; assume defaults.
    products, tf32_layers = "highest", True
    with suppress(RuntimeError):
        products = torch.get_float32_matmul_precision()
    with suppress(RuntimeError):
        tf32_layers = torch.backends.cudnn.allow_tf32
    found = [backend.fp32_precision for backend in (*ON_CUDA, *ON_CPU)]
    tf32 = precision == "tf32"
    on_cuda, on_cpu = ["tf32" if tf32 else "ieee"] * len(ON_CUDA), ["ieee"] * len(ON_CPU)
    _set_precision("high" if tf32 else "highest", tf32, on_cuda + on_cpu)
    try:
        yield
    finally:
        _set_precision(products, tf32_layers, found)


def _set_precision(products: str, tf32_layers: bool, each: Sequence[str]) -> None:  # noqa: FBT001 - as torch has it
    """Set the legacy settings too: the compiler reads those, and raises if old and new disagree."""
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = tf32_layers
    for backend, value in zip((*ON_CUDA, *ON_CPU), each, strict=True):
        backend.fp32_precision = "none"  # inherit from torch.backends, which may already be this value
        if backend.fp32_precision != value:
            backend.fp32_precision = value


def plain_tf32(model: nn.Module) -> bool:
    """Return whether current settings make part of this float32 network compute in TF32 on CUDA."""
    kinds = (nn.Module, nn.modules.conv._ConvNd, nn.RNNBase)  # noqa: SLF001 - the base of all convolutions
    return any(
        backend.fp32_precision == "tf32" and any(isinstance(layer, kind) for layer in model.modules())
        for backend, kind in zip(ON_CUDA, kinds, strict=True)
    )


def inference_mode(words: Words) -> Any:  # noqa: ANN401 - two unrelated classes in torch
    """Return the inference context: `no_grad`, or `inference_mode`, which also drops version counters."""
    return torch.inference_mode() if "inference-mode" in words else torch.no_grad()
