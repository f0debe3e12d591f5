"""What every pass that counts has in common: what it counts on, and a step with each phase held apart.

Passes must not disturb each other (a dispatch mode adds operators, a profiler memory), so each runs its
own steps from the restored state. None of them runs in a process that also times.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from nncore.step import TrainStep
from nncore_bench.cases import BlockKind

SETTLING_STEPS = 2
"""Steps before the counted one: an optimizer makes its state in the first, and allocators settle."""

Batch: TypeAlias = tuple[Tensor, Tensor]
Around: TypeAlias = Callable[[str], AbstractContextManager[object]]
"""Return the context that a phase, given by its name, runs in."""


class Countable(Protocol):
    """Offer a training step to be counted: a Subject does, and so can any model with its batches."""

    @property
    def step(self) -> TrainStep:
        """Return the training step."""

    @property
    def batches(self) -> Sequence[Batch]:
        """Return batches of one size, resident on the device."""

    @property
    def device(self) -> torch.device:
        """Return the device that computes."""

    @property
    def replays(self) -> bool:
        """Tell whether the step was captured as a whole and is replayed, without its phases."""

    def restore(self) -> None:
        """Put parameters and optimizer state back to where every pass starts."""

    def mode(self, kind: BlockKind) -> AbstractContextManager[object]:
        """Return the context that iterations of a kind run in."""


def batch(work: Countable, number: int) -> Batch:
    """Return the batch of a step; they come in a cycle."""
    return work.batches[number % len(work.batches)]


def settle(work: Countable) -> None:
    """Restore the state, and run the steps that are not counted."""
    work.restore()
    for number in range(SETTLING_STEPS):
        work.step(*batch(work, number))


def train_once(work: Countable, number: int, around: Around) -> None:
    """Run one step with each phase in its context: the calls of TrainStep.__call__, and its lifetimes."""
    inputs, targets = batch(work, number)
    step = work.step
    with around("zero_grad"):
        step.zero_grad()
    with around("forward"):
        logits = step.forward(inputs)
    with around("loss"):
        loss = step.loss(logits, targets)
    with around("backward"):
        step.backward(loss)
    with around("optimizer"):
        step.optimizer()


def infer_once(work: Countable, number: int, around: Around) -> None:
    """Run the model on one batch as inference does; its output dies within the phase."""
    inputs, _targets = batch(work, number)
    with work.mode("inference"), around("inference"):
        work.step.model(inputs)


def count_once(work: Countable, around: Around) -> None:
    """Run one settled step and one inference with each phase in its context."""
    settle(work)
    train_once(work, SETTLING_STEPS, around)
    infer_once(work, SETTLING_STEPS, around)
