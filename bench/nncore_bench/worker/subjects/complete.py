"""Complete what a factory returns to a training step: add example data, loss and optimizer."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from nncore_bench.worker.blocks import SubjectError
from nncore_bench.worker.subjects.batches import Samples, Structure, anew, called, leaves, shapes_of, split
from nncore_bench.worker.subjects.default_loss import Loss, LossOfOutputs, default_loss, takes_two
from nncore_bench.worker.subjects.state import State
from nncore_bench.worker.users_code import line_of

TORCHVISION = "torchvision"
IMAGE_SIZE = 224
EXAMPLES = 8
"""Samples in a synthetic example batch."""

LEARNING_RATE = 0.001

Loader: TypeAlias = Callable[[int], Iterable[Any]]
"""Returns batches of a size, each a pair of inputs and targets, or one mapping or tensor of inputs."""


@dataclass(kw_only=True)
class Fed:
    """The batches of a subject, on the CPU: an example that is cut or repeated to any size, or a loader.

    `samples` says where its samples are; a `loader` of the subject's own yields batches of a size instead.
    `assumed` lists the defaults used and what is unusual, one phrase each.
    """

    inputs: Structure
    targets: Structure = None
    samples: Samples | None = None
    loader: Loader | None = None
    assumed: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Made(Fed):
    """A network with loss and optimizer; `whole` if it takes a mapping or sequence as one argument."""

    model: nn.Module
    loss: Loss
    optimizer: Optimizer
    whole: bool = False


@dataclass(kw_only=True)
class Loop(Fed):
    """An object with a training step of its own."""

    loop: Any


def completed_loop(made: Any) -> Loop:  # noqa: ANN401 - an object with a training_step
    """Return an own step with its batches; raises SubjectError for one without."""
    loader, batch = getattr(made, "loader", None), getattr(made, "batch", None)
    if loader is not None:
        if not callable(loader):
            raise _no_loader(loader)
        return Loop(loop=made, inputs=None, loader=loader)
    if batch is None:
        raise SubjectError(
            f"{type(made).__name__} has a training_step and no batches (give it an attribute `batch`, an"
            " example that is cut or repeated to any size, or a method loader(batch_size) that returns"
            " batches)"
        )
    pair = isinstance(batch, tuple | list) and len(batch) == 2  # noqa: PLR2004 - inputs and targets
    samples = Samples.of(*batch) if pair else Samples.of(batch, None)
    return Loop(loop=made, inputs=batch, samples=samples, assumed=samples.said(batch))


def completed(subject: str, made: object) -> Made:
    """Complete the result of a factory with defaults: synthetic data, cross-entropy, Adam.

    A bare network is enough if its first layer with weights is a Linear or a Conv2d. An object has a
    `model` and may have a `batch` or a `loader`, a `loss` and an `optimizer`; a loss that the network returns
    is found in its outputs. Raises SubjectError.
    """
    given: Mapping[str, Any] = {"model": made} if isinstance(made, nn.Module) else _attributes(made)
    model: nn.Module = given["model"]
    assumed: list[str] = []
    inputs, targets = _example(given)
    if inputs is None:
        inputs, assumption = _synthetic(subject, model)
        assumed.append(assumption)
    loader = given.get("loader")
    if loader is None:
        Samples.of(inputs, targets)
    whole = _is_taken_whole(model, inputs)
    outputs = _outputs(model, inputs, whole=whole) if _is_incomplete(given, model) else None
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise SubjectError("its model has no trainable parameters (return one that has)")
    loss = given.get("loss")
    if loss is None:
        targets, loss, assumptions = default_loss(model, outputs, targets)
        assumed += assumptions
    elif targets is None and not takes_two(loss):
        loss = LossOfOutputs(loss)
    optimizer = given.get("optimizer")
    if optimizer is None:
        optimizer = Adam(parameters, lr=LEARNING_RATE)
        assumed.append(f"optimizer: Adam, lr {LEARNING_RATE}")
    _check_optimizer(optimizer, model)
    samples = None if loader else Samples.of(inputs, targets)
    assumed += samples.said((inputs, targets)) if samples else []
    if given.get("scheduler") is not None:
        assumed.append("scheduler: not part of the step (give a training_step that calls it)")
    batches = {"inputs": inputs, "targets": targets, "samples": samples, "loader": loader}
    return Made(model=model, loss=loss, optimizer=optimizer, whole=whole, assumed=assumed, **batches)


def _attributes(made: object) -> Mapping[str, Any]:
    names = ("model", "batch", "loader", "loss", "optimizer", "scheduler")
    found = {name: getattr(made, name, None) for name in names}
    if not isinstance(found["model"], nn.Module):
        raise SubjectError(
            f"it returned {type(made).__name__}, which is neither an nn.Module nor has one as its attribute"
            " `model` (return a network, or an object with model, batch, loss and optimizer)"
        )
    if found["loader"] is not None and not callable(found["loader"]):
        raise _no_loader(found["loader"])
    return found


def _no_loader(found: object) -> SubjectError:
    return SubjectError(
        f"its loader is {type(found).__name__} (give a method loader(batch_size) that returns batches of that"
        " size)"
    )


def _example(given: Mapping[str, Any]) -> tuple[Structure, Structure]:
    if given.get("batch") is not None:
        return split(given["batch"])
    if given.get("loader") is not None:
        return split(next(iter(given["loader"](EXAMPLES))))
    return None, None


def _is_incomplete(given: Mapping[str, Any], model: nn.Module) -> bool:
    """Return whether the outputs of a call are needed: for a loss, or to give lazy layers their shapes."""
    return _is_lazy(model) or given.get("loss") is None


def _is_lazy(model: nn.Module) -> bool:
    tensors = (*model.parameters(), *model.buffers())
    return any(isinstance(one, nn.UninitializedParameter | nn.UninitializedBuffer) for one in tensors)


def _is_taken_whole(model: nn.Module, inputs: Structure) -> bool:
    """Return whether the network takes a mapping or sequence as one argument, since nothing else fits."""
    if not isinstance(inputs, Mapping | tuple | list):
        return False
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):
        return False
    try:
        signature.bind(**inputs) if isinstance(inputs, Mapping) else signature.bind(*inputs)
    except TypeError:
        try:
            signature.bind(inputs)
        except TypeError:
            return False
        return True
    return False


def _synthetic(subject: str, model: nn.Module) -> tuple[Tensor, str]:
    """Return synthetic inputs, shaped for the first layer with weights, and a description of them."""
    generator = torch.Generator().manual_seed(0)
    layers = (layer for layer in model.modules() if next(layer.parameters(recurse=False), None) is not None)
    match next(layers, None):
        case nn.Linear(in_features=features) if features:
            shape: tuple[int, ...] = (features,)
        case nn.Conv2d(in_channels=channels) if channels:
            size = 299 if subject == f"{TORCHVISION}:inception_v3" else IMAGE_SIZE
            shape = (channels, size, size)
        case None:
            raise SubjectError("its model has no trainable parameters (return one that has)")
        case layer:
            raise SubjectError(
                f"its first layer is {type(layer).__name__}, which does not tell the shape of a batch (return"
                " an object with a model and a batch, a pair of example inputs and targets)"
            )
    assumption = f"inputs: synthetic, {' x '.join(map(str, shape))} a sample"
    return torch.randn(EXAMPLES, *shape, generator=generator), assumption


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Undo whatever calls of the network change: its buffers and attributes, and the random generators."""
    state = State(model)
    state.save()
    try:
        yield
    finally:
        state.restore()


def _outputs(model: nn.Module, inputs: Structure, *, whole: bool) -> Any:  # noqa: ANN401 - what the network returns
    """Run the network once on its example batch; only the shapes of lazy layers are left behind."""
    needed = [leaf.requires_grad for leaf in leaves(inputs)]
    try:
        if _is_lazy(model):
            called(model, anew(inputs, needed), whole=whole)
        with unchanged(model):
            return called(model, anew(inputs, needed), whole=whole)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SubjectError(
            f"its model cannot be called with inputs of shape {shapes_of(inputs)}: {reason}{_hint(error)}"
        ) from error


def _hint(error: Exception) -> str:
    at = f" at {line}" if (line := line_of(error)) else ""
    return f"{at} (give a batch that fits)" if isinstance(error, RuntimeError | TypeError) else at


def _check_optimizer(optimizer: object, model: nn.Module) -> None:
    if isinstance(optimizer, tuple | list | Mapping) and all(
        isinstance(one, Optimizer)
        for one in (optimizer.values() if isinstance(optimizer, Mapping) else optimizer)
    ):
        raise SubjectError(
            f"it has {len(optimizer)} optimizers, and this step takes one (return an object with a"
            " training_step(batch) that steps each, or one optimizer with a parameter group for each part)"
        )
    if not isinstance(optimizer, Optimizer):
        raise SubjectError(f"its optimizer is {type(optimizer).__name__}, not a torch.optim.Optimizer")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise SubjectError(
            f"its optimizer {type(optimizer).__name__} needs a closure that computes the loss again (return"
            " an object with a training_step(batch) that calls optimizer.step(closure), or take Adam or SGD)"
        )
    own = {id(parameter) for parameter in model.parameters()}
    if not any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"]):
        raise SubjectError("its optimizer holds no parameter of its model (build it from model.parameters())")
