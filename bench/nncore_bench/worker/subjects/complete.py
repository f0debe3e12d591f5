"""Complete what a factory returns to a training step: add example data, loss and optimizer."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from nncore_bench.worker.blocks import IncorrectError
from nncore_bench.worker.subjects.batches import Samples, Structure, leaves, mapped, shapes_of
from nncore_bench.worker.subjects.state import State
from nncore_bench.worker.users_code import line_of

TORCHVISION = "torchvision"
IMAGE_SIZE = 224
EXAMPLES = 8
"""Samples in a synthetic example batch."""

LEARNING_RATE = 0.001
AUXILIARY_SHARE = 0.3

Loss: TypeAlias = Callable[[Any, Any], Tensor]
"""Returns a scalar from the network's outputs and the targets, which are None where a batch has none."""

Loader: TypeAlias = Callable[[int], Iterable[Any]]
"""Returns batches of a size, each a pair of inputs and targets, or one mapping or tensor of inputs."""


class SubjectError(IncorrectError):
    """What is wrong with the result of a factory, and what to write instead, in one sentence."""


@dataclass
class Made:
    """The parts of a training step, on the CPU; the example batch is cut or repeated to any size.

    `samples` says where its samples are; a `loader` of the subject's own yields batches of a size instead.
    `whole` tells that the network takes a mapping or sequence of inputs as one argument. `assumed` lists the
    defaults used and what is unusual, one phrase each.
    """

    model: nn.Module
    inputs: Structure
    targets: Structure
    loss: Loss
    optimizer: Optimizer
    assumed: list[str] = field(default_factory=list)
    samples: Samples | None = None
    loader: Loader | None = None
    whole: bool = False


@dataclass
class Loop:
    """An object with a training step of its own, and its batches as in Made: an example, or a loader."""

    loop: Any
    inputs: Structure
    assumed: list[str] = field(default_factory=list)
    samples: Samples | None = None
    loader: Loader | None = None
    targets: None = None


def completed_loop(made: Any) -> Loop:  # noqa: ANN401 - an object with a training_step
    """Return an own step with its batches; raises SubjectError for one without."""
    loader, batch = getattr(made, "loader", None), getattr(made, "batch", None)
    if loader is not None:
        if not callable(loader):
            raise _no_loader(loader)
        return Loop(made, None, loader=loader)
    if batch is None:
        raise SubjectError(
            f"{type(made).__name__} has a training_step and no batches (give it an attribute `batch`, an"
            " example that is cut or repeated to any size, or a method loader(batch_size) that returns"
            " batches)"
        )
    pair = isinstance(batch, tuple | list) and len(batch) == 2  # noqa: PLR2004 - inputs and targets
    samples = Samples.of(*batch) if pair else Samples.of(batch, None)
    return Loop(made, batch, samples.said(batch), samples)


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
        targets, loss, assumptions = _default_loss(model, outputs, targets)
        assumed += assumptions
    elif targets is None and not _takes_two(loss):
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
    return Made(model, inputs, targets, loss, optimizer, assumed, samples, loader, whole)


class OverAllOutputs(nn.CrossEntropyLoss):
    """Cross-entropy for a network with auxiliary outputs during training.

    Each auxiliary loss is weighted by 0.3 (Szegedy et al., Going deeper with convolutions, section 5).
    """

    def forward(self, outputs: Sequence[Tensor | None], targets: Tensor) -> Tensor:  # type: ignore[override]
        """Return the loss of outputs [B, classes]: the network's own first; None is skipped."""
        own, *auxiliary = (super(OverAllOutputs, self).forward(o, targets) for o in outputs if o is not None)
        return own + AUXILIARY_SHARE * sum(auxiliary)


class LossWithin(nn.Module):
    """The loss that a network computes itself and returns among its outputs."""

    def forward(self, outputs: Any, _targets: Any) -> Tensor:  # noqa: ANN401 - what the network returns
        """Return `.loss`, `["loss"]`, the scalar itself, or the sum of a mapping of scalars."""
        loss: Tensor = _loss_within(outputs)[1]
        return loss


class LossOfOutputs(nn.Module):
    """A loss that takes the outputs alone."""

    def __init__(self, loss: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, outputs: Any, _targets: Any) -> Tensor:  # noqa: ANN401 - what the network returns
        """Return the loss of the outputs."""
        return self.loss(outputs)


def _loss_within(outputs: Any) -> tuple[str, Any]:  # noqa: ANN401 - what the network returns
    """Return where outputs carry their loss, and the loss; an empty text if they carry none."""
    found: list[tuple[str, Any]] = []
    if _is_scalar(outputs):
        found = [("the scalar", outputs)]
    elif isinstance(outputs, Mapping) and "loss" in outputs:
        found = [('["loss"]', outputs["loss"])]
    elif isinstance(outputs, Mapping) and outputs and all(map(_is_scalar, outputs.values())):
        found = [("the sum", sum(outputs.values()))]
    elif hasattr(outputs, "loss"):
        found = [(".loss", outputs.loss)]
    elif isinstance(outputs, tuple | list):
        trained = [(at, one) for at, one in enumerate(outputs) if _is_scalar(one) and one.requires_grad]
        found = [(f"[{at}]", one) for at, one in trained]
    return found[0] if len(found) == 1 and _is_scalar(found[0][1]) else ("", None)


def _is_scalar(value: object) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1 and value.ndim <= 1 and value.is_floating_point()


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


def _takes_two(loss: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss)
        signature.bind(None, None)
    except (TypeError, ValueError):
        return False
    return True


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


def _default_loss(
    model: nn.Module,
    outputs: Any,  # noqa: ANN401 - what the network returns
    targets: Structure,
) -> tuple[Structure, nn.Module, list[str]]:
    """Return targets and a loss: the network's own if its outputs carry one, or else cross-entropy."""
    if within := _loss_within(outputs)[0]:
        return targets, LossWithin(), [f"loss: {within} of the network's outputs"]
    assumed = []
    if targets is None:
        targets, classes = _targets(outputs[0] if getattr(model, "aux_logits", False) else outputs)
        assumed.append(f"targets: random classes of {classes}")
    _refuse_one_output(outputs)
    loss, assumption = _cross_entropy(model)
    return targets, loss, [*assumed, assumption]


def _cross_entropy(model: nn.Module) -> tuple[nn.Module, str]:
    if getattr(model, "aux_logits", False):
        return OverAllOutputs(), f"loss: cross-entropy, with {AUXILIARY_SHARE} of the auxiliary outputs'"
    return nn.CrossEntropyLoss(), "loss: cross-entropy over the outputs"


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


def _targets(outputs: object) -> tuple[Tensor, int]:
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:  # noqa: PLR2004 - samples and classes
        what = (
            f"outputs of shape {list(outputs.shape)}"
            if isinstance(outputs, Tensor)
            else type(outputs).__name__
        )
        raise SubjectError(
            f"its model returns {what}, not one score per class (give a batch with targets, and a loss)"
        )
    _refuse_one_output(outputs)
    generator = torch.Generator().manual_seed(0)
    classes = outputs.shape[1]
    return torch.randint(classes, (len(outputs),), generator=generator), classes


def _refuse_one_output(outputs: object) -> None:
    if isinstance(outputs, Tensor) and outputs.ndim == 2 and outputs.shape[1] == 1:  # noqa: PLR2004 - samples and classes
        raise SubjectError(
            "its model returns one output, whose cross-entropy is always 0 (give a batch with targets, and a"
            " loss such as nn.BCEWithLogitsLoss() or nn.MSELoss())"
        )


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
