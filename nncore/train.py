"""The epoch loop."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from tqdm import tqdm

from nncore.step import TrainStep

Batches = Iterable[tuple[Tensor, Tensor]]

# Short epochs need no progress bar, which would only flash up.
_BAR_AFTER_S = 2.0


def train(
    step: TrainStep,
    loader: Batches,
    epochs: int,
    device: torch.device,
    *,
    log: Callable[[str], object] = print,
) -> list[float]:
    """Train for some epochs; log (`Epoch [1/5], Loss: 0.1234`) and return the mean loss of each.

    The loader yields (inputs [N, ...], targets [N]) and is iterated once per epoch. The model must already be
    on `device` and is left in train mode.

    Raises:
        ValueError: fewer than 1 epoch, or a loader without samples.

    """
    if epochs < 1:
        raise ValueError(f"epochs: {epochs} is below 1 (example: 5)")
    step.model.train()
    losses = []
    for epoch in range(1, epochs + 1):
        losses.append(_train_epoch(step, loader, device, title=f"Epoch [{epoch}/{epochs}]"))
        log(f"Epoch [{epoch}/{epochs}], Loss: {losses[-1]:.4f}")
    return losses


def _train_epoch(step: TrainStep, loader: Batches, device: torch.device, *, title: str) -> float:
    """Train one epoch and return the mean loss over its samples, each with its own step's parameters."""
    # The sum stays on the device: an .item() per batch would make the GPU idle at every step.
    total = torch.zeros((), dtype=torch.float64, device=device)
    samples = 0
    # disable=None: no bar if standard error is a file or a pipe.
    for inputs, targets in tqdm(loader, desc=title, delay=_BAR_AFTER_S, leave=False, disable=None):
        # From pinned memory the copy to a GPU overlaps the computation.
        loss = step(inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True))
        total += loss.detach() * len(targets)  # weighted, because the last batch may be smaller
        samples += len(targets)
    if samples == 0:
        raise ValueError("loader: it gives no samples (is the batch size above the data set with drop_last?)")
    return total.item() / samples
