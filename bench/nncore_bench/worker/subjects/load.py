"""Load the subject that a case names: network, example batch, loss and optimizer.

`torchvision:NAME` is any classification network of torchvision.models, with random weights;
`package.module:factory` and `./file.py:factory` are the user's own functions.
"""

import importlib
import importlib.util
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias, cast

import torch
import torch.hub
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.utils._pytree import tree_leaves, tree_map

from nncore_bench.worker.blocks import IncorrectError
from nncore_bench.worker.messages import HANDED_OVER, SUBJECT_FILE

TORCHVISION = "torchvision"
IMAGE_SIZE = 224
EXAMPLES = 8
"""Samples in a synthetic example batch."""

LEARNING_RATE = 0.001
AUXILIARY_SHARE = 0.3
Inputs: TypeAlias = Any
"""A tensor, or a tuple or dict of tensors, with the batch dimension first."""


class SubjectError(IncorrectError):
    """What is wrong with the result of a factory, and what to write instead, in one sentence."""


@dataclass
class Made:
    """The parts of a training step, on the CPU; the example batch is cut or repeated to any size.

    `inputs` and `targets` have the samples first. `assumed` lists the defaults used, one phrase each.
    """

    model: nn.Module
    inputs: Inputs
    targets: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: Optimizer
    assumed: list[str] = field(default_factory=list)


def make(subject: str) -> Made:
    """Load a subject; raises SubjectError, which names the factory and the way out."""
    name, _, detail = subject.partition(":")
    if name == TORCHVISION:
        factory = _torchvision(detail)
    else:
        factory = _handed_over(subject) if name == HANDED_OVER else _imported(subject)
    try:
        with nothing_downloaded():
            made = factory()
    except SubjectError as error:
        raise SubjectError(f"{subject}: {error}") from None
    except Exception as error:  # noqa: BLE001 - the user's code may fail in any way
        raise SubjectError(f"{subject} raised {type(error).__name__}: {error} (call it by itself)") from None
    try:
        return completed(subject, made)
    except SubjectError as error:
        raise SubjectError(f"{subject}: {error}") from None


@contextmanager
def nothing_downloaded() -> Iterator[None]:
    """Refuse downloads by a factory: the time of a step does not depend on its weights."""

    def refuse(url: str, *_: object, **__: object) -> None:
        raise SubjectError(f"it would download {url} (give weights=None: weights do not change a time)")

    usual = torch.hub.download_url_to_file
    torch.hub.download_url_to_file = refuse
    try:
        yield
    finally:
        torch.hub.download_url_to_file = usual


def _torchvision(name: str) -> Callable[[], nn.Module]:
    from torchvision import models  # noqa: PLC0415 - takes a second to import, and few subjects need it

    known = models.list_models(module=models)
    if name not in known:
        near = [other for other in known if other[:3] == name[:3]] or known
        raise SubjectError(
            f"torchvision:{name} is not a classification network (choose one such as {', '.join(near[:5])})"
        )
    return lambda: models.get_model(name, weights=None)


def _imported(subject: str) -> Callable[[], Any]:
    """Import the factory `package.module:name` or `path/to/file.py:name`."""
    source, _, name = subject.rpartition(":")
    module = _from_file(subject, Path(source)) if source.endswith(".py") else _from_package(subject, source)
    factory: Any = getattr(module, name, None)
    if factory is None:
        public = [other for other, value in vars(module).items() if callable(value) and other[0] != "_"]
        raise SubjectError(
            f"{subject}: {source} has no {name} (it has {', '.join(public[:8]) or 'no functions'})"
        )
    return _callable(factory)


def _handed_over(subject: str) -> Callable[[], Any]:
    """Unpickle the factory that `measure_step` left in a file, along with its `sys.path`."""
    file = os.environ.get(SUBJECT_FILE)
    if not file:
        raise SubjectError(
            f"{subject}: only nncore_bench.measure_step can hand over a subject (name its factory instead,"
            " such as ./my_net.py:make)"
        )
    folders, pickled = pickle.loads(Path(file).read_bytes())  # noqa: S301 - the user's own measure_step wrote it
    sys.path += [folder for folder in folders if folder not in sys.path]
    return _callable(_imported_by(subject, lambda: pickle.loads(pickled)))  # noqa: S301 - the same


def _callable(found: Any) -> Callable[[], Any]:  # noqa: ANN401 - whatever the user named
    """Return a factory unchanged; wrap a network or another object in a factory."""
    if isinstance(found, nn.Module) or not callable(found):
        return lambda: found
    return cast("Callable[[], Any]", found)


def _from_file(subject: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise SubjectError(f"{subject}: no file {str(path)!r} (paths start from {str(Path.cwd())!r})")
    name = f"subject_{path.stem}"  # so that a file called random.py does not replace Python's own
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SubjectError(f"{subject}: {str(path)!r} is not a Python file (its name should end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # so that it finds its neighbours, as a script does
    sys.modules[name] = module
    _imported_by(subject, lambda: spec.loader.exec_module(module))  # type: ignore[union-attr] # checked above
    return module


def _from_package(subject: str, name: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return cast("ModuleType", _imported_by(subject, lambda: importlib.import_module(name)))


def _imported_by(subject: str, load: Callable[[], Any]) -> Any:  # noqa: ANN401 - what an import returns
    try:
        return load()
    except ModuleNotFoundError as error:
        raise SubjectError(
            f"{subject} needs the module {error.name!r}, which is not installed here (install it, or correct"
            " the name)"
        ) from None
    except Exception as error:  # noqa: BLE001 - the user's code may fail in any way
        raise SubjectError(f"{subject} cannot be imported ({type(error).__name__}: {error})") from None


def completed(subject: str, made: object) -> Made:
    """Complete the result of a factory with defaults: synthetic data, cross-entropy, Adam.

    A bare network is enough if its first layer with weights is a Linear or a Conv2d. An object has a
    `model` and may have a `batch` (inputs, targets), a `loss` and an `optimizer`. Raises SubjectError.
    """
    given: Mapping[str, Any] = {"model": made} if isinstance(made, nn.Module) else _attributes(made)
    model: nn.Module = given["model"]
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise SubjectError("its model has no trainable parameters (return one that has)")
    assumed: list[str] = []
    inputs, targets = given.get("batch") or (None, None)
    if inputs is None:
        inputs, assumption = _examples(subject, model)
        assumed.append(assumption)
    outputs = _outputs(model, inputs)
    if targets is None:
        targets = _targets(outputs)
        assumed.append(f"targets: random classes of {outputs.shape[1]}")
    loss = given.get("loss")
    if loss is None:
        loss, assumption = _loss(model)
        assumed.append(assumption)
    optimizer = given.get("optimizer")
    if optimizer is None:
        optimizer = Adam(parameters, lr=LEARNING_RATE)
        assumed.append(f"optimizer: Adam, lr {LEARNING_RATE}")
    _check(inputs, targets, optimizer, model)
    return Made(model, inputs, targets, loss, optimizer, assumed)


class OverAllOutputs(nn.CrossEntropyLoss):
    """Cross-entropy for a network with auxiliary outputs during training.

    Each auxiliary loss is weighted by 0.3 (Szegedy et al., Going deeper with convolutions, section 5).
    """

    def forward(self, outputs: Sequence[Tensor | None], targets: Tensor) -> Tensor:  # type: ignore[override]
        """Return the loss of outputs [B, classes]: the network's own first; None is skipped."""
        own, *auxiliary = (super(OverAllOutputs, self).forward(o, targets) for o in outputs if o is not None)
        return own + AUXILIARY_SHARE * sum(auxiliary)


def _loss(model: nn.Module) -> tuple[nn.Module, str]:
    if getattr(model, "aux_logits", False):
        return OverAllOutputs(), f"loss: cross-entropy, with {AUXILIARY_SHARE} of the auxiliary outputs'"
    return nn.CrossEntropyLoss(), "loss: cross-entropy over the outputs"


def _attributes(made: object) -> Mapping[str, Any]:
    found = {name: getattr(made, name, None) for name in ("model", "batch", "loss", "optimizer")}
    if not isinstance(found["model"], nn.Module):
        raise SubjectError(
            f"it returned {type(made).__name__}, which is neither an nn.Module nor has one as its attribute"
            " `model` (return a network, or an object with model, batch, loss and optimizer)"
        )
    batch = found["batch"]
    if batch is not None and not (isinstance(batch, tuple | list) and len(batch) == 2):  # noqa: PLR2004
        raise SubjectError(f"its batch is {type(batch).__name__} (give a pair of inputs and targets)")
    return found


def _examples(subject: str, model: nn.Module) -> tuple[Tensor, str]:
    """Return synthetic inputs, shaped for the first layer with weights, and a description of them."""
    generator = torch.Generator().manual_seed(0)
    layers = (layer for layer in model.modules() if next(layer.parameters(recurse=False), None) is not None)
    match next(layers, None):
        case nn.Linear(in_features=features):
            shape: tuple[int, ...] = (features,)
        case nn.Conv2d(in_channels=channels):
            size = 299 if subject == f"{TORCHVISION}:inception_v3" else IMAGE_SIZE
            shape = (channels, size, size)
        case layer:
            raise SubjectError(
                f"its first layer is {type(layer).__name__}, which does not tell the shape of a batch (return"
                " an object with a model and a batch, a pair of example inputs and targets)"
            )
    assumption = f"inputs: synthetic, {' x '.join(map(str, shape))} a sample"
    return torch.randn(EXAMPLES, *shape, generator=generator), assumption


def called(model: nn.Module, inputs: Inputs) -> Any:  # noqa: ANN401 - what the user's network returns
    """Call the network on a tensor, a tuple of tensors (positional) or a dict (keywords)."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def _outputs(model: nn.Module, inputs: Inputs) -> Tensor:
    """Run the network on its example batch in eval mode, which leaves its buffers alone."""
    mode = model.training
    try:
        with torch.no_grad():
            outputs = called(model.eval(), inputs)
    except Exception as error:  # noqa: BLE001 - the user's code may fail in any way
        shapes = ", ".join(str(list(leaf.shape)) for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor))
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SubjectError(
            f"its model cannot be called with inputs of shape {shapes}: {reason} (give a batch that fits)"
        ) from None
    finally:
        model.train(mode)
    return cast("Tensor", outputs)  # checked where it is used


def _targets(outputs: object) -> Tensor:
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:  # noqa: PLR2004 - samples and classes
        what = (
            f"outputs of shape {list(outputs.shape)}"
            if isinstance(outputs, Tensor)
            else type(outputs).__name__
        )
        raise SubjectError(
            f"its model returns {what}, not one score per class (give a batch with targets, and a loss)"
        )
    generator = torch.Generator().manual_seed(0)
    return torch.randint(outputs.shape[1], (len(outputs),), generator=generator)


def _check(inputs: Inputs, targets: object, optimizer: object, model: nn.Module) -> None:
    leaves = [*tree_leaves(inputs), *tree_leaves(targets)]
    if not leaves or not all(isinstance(leaf, Tensor) and leaf.ndim for leaf in leaves):
        raise SubjectError(
            "its batch holds something other than tensors with the samples first (give tensors)"
        )
    counts = sorted({len(leaf) for leaf in leaves})
    if len(counts) > 1 or counts[0] == 0:
        raise SubjectError(f"its batch holds {' and '.join(map(str, counts))} samples (give as many of each)")
    if not isinstance(optimizer, Optimizer):
        raise SubjectError(f"its optimizer is {type(optimizer).__name__}, not a torch.optim.Optimizer")
    own = {id(parameter) for parameter in model.parameters()}
    if not any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"]):
        raise SubjectError("its optimizer holds no parameter of its model (build it from model.parameters())")


def repeated(examples: Any, samples: int, start: int = 0) -> Any:  # noqa: ANN401 - any structure of tensors
    """Return `samples` samples of a batch of any structure, cycling through it from index `start`."""
    return tree_map(lambda tensor: tensor[torch.arange(start, start + samples) % len(tensor)], examples)
