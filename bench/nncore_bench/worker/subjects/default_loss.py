"""The loss of a network that was given none: the one in its outputs, or else cross-entropy."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from nncore_bench.worker.blocks import SubjectError
from nncore_bench.worker.subjects.batches import Structure

AUXILIARY_SHARE = 0.3

Loss: TypeAlias = Callable[[Any, Any], Tensor]
"""Returns a scalar from the network's outputs and the targets, which are None where a batch has none."""


def default_loss(
    model: nn.Module,
    outputs: Any,  # noqa: ANN401 - what the network returns
    targets: Structure,
) -> tuple[Structure, nn.Module, list[str]]:
    """Return targets and a loss: the network's own if its outputs carry one, or else cross-entropy."""
    if within := _loss_within(outputs)[0]:
        return targets, LossWithin(), [f"loss: {within} of the network's outputs"]
    assumed = []
    if targets is None:
        targets, classes = _random_targets(outputs[0] if getattr(model, "aux_logits", False) else outputs)
        assumed.append(f"targets: random classes of {classes}")
    _refuse_one_output(outputs)
    loss, assumption = _cross_entropy(model)
    return targets, loss, [*assumed, assumption]


def _cross_entropy(model: nn.Module) -> tuple[nn.Module, str]:
    if getattr(model, "aux_logits", False):
        return OverAllOutputs(), f"loss: cross-entropy, with {AUXILIARY_SHARE} of the auxiliary outputs'"
    return nn.CrossEntropyLoss(), "loss: cross-entropy over the outputs"


def takes_two(loss: Callable[..., Any]) -> bool:
    """Return whether a loss takes targets beside the outputs."""
    try:
        signature = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss)
        signature.bind(None, None)
    except (TypeError, ValueError):
        return False
    return True


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


def _random_targets(outputs: object) -> tuple[Tensor, int]:
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
