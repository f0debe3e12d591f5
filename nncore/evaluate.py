"""Evaluate a network: predictions, accuracy and loss."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Evaluation:
    """Accuracy (share of correct predictions, 0..1) and mean cross-entropy on some data."""

    accuracy: float
    mean_loss: float


def predict(model: nn.Module, inputs: Tensor) -> Tensor:  # [N, input_size], on the model's device
    """Return the most likely class of each input, [N] int64."""
    with evaluating(model):
        return _logits(model, inputs).argmax(dim=1)


def evaluate(model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]], device: torch.device) -> Evaluation:
    """Evaluate the model on all samples of a loader of (inputs [N, ...], targets [N]).

    Every sample has the same weight, also in a smaller last batch.

    Raises:
        ValueError: the loader has no samples.

    """
    right = torch.zeros((), dtype=torch.int64, device=device)
    total = torch.zeros((), dtype=torch.float64, device=device)
    samples = 0
    with evaluating(model):
        for inputs, targets in loader:
            logits = _logits(model, inputs.to(device))  # [N, classes]
            expected = targets.to(device)  # [N]
            right += (logits.argmax(dim=1) == expected).sum()
            total += functional.cross_entropy(logits, expected, reduction="sum")
            samples += len(targets)
    if samples == 0:
        raise ValueError("loader: it gives no samples to evaluate")
    return Evaluation(accuracy=right.item() / samples, mean_loss=total.item() / samples)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set eval mode without gradients, and restore the training mode of every module afterwards.

    Module by module, since a part that was frozen in eval mode must not return to train mode.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, was_training in modes:
            module.training = was_training


def _logits(model: nn.Module, inputs: Tensor) -> Tensor:
    logits: Tensor = model(inputs)
    return logits
