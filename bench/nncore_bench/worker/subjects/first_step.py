"""Check the first step of a network before any time is trusted, and explain what is wrong with it."""

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nncore.step import TrainStep
from nncore_bench.worker.blocks import IncorrectError
from nncore_bench.worker.subjects.batches import Structure
from nncore_bench.worker.subjects.numerical_error import Whole

MOST_STEPS_UNMOVED = 16
"""Refuse a step after which no parameter has moved for this many steps; accumulation moves them rarely."""


@dataclass(frozen=True)
class FirstStep:
    """The first step of a network: its loss is one finite number, gradients reach it, and it moves.

    `run` runs a whole step, by itself or as a captured graph; `least_trained` is the share of the parameter
    tensors that must get a gradient and change, where 0 asks it of those alone that can.
    """

    step: TrainStep
    run: Whole
    batches: list[tuple[Structure, Any]]
    least_trained: float

    def checked(self) -> tuple[dict[str, float], tuple[str, ...]]:
        """Run it; return its figures and what is unusual, one phrase each; raises IncorrectError.

        The figures are the loss, the shares of parameter tensors that got a gradient and that changed, and
        the seconds of the very first step, including compilation or capture.
        """
        trained = {
            name: parameter
            for name, parameter in self.step.model.named_parameters()
            if parameter.requires_grad or self.least_trained
        }
        before = [parameter.detach().clone() for parameter in trained.values()]
        begin = time.perf_counter()
        try:
            loss = self.run(*self.batches[0])
        except (RuntimeError, TypeError):
            self._explain_loss()
            raise
        first_s = time.perf_counter() - begin
        check_loss(loss, "of the first step")
        gradients = {name: gradient_of(parameter) for name, parameter in trained.items()}
        finite = [one is not None and bool(one.isfinite().all()) for one in gradients.values()]
        steps = self._until_something_moves(before, list(trained.values()))
        moved = [not torch.equal(old, new) for old, new in zip(before, trained.values(), strict=True)]
        figures = {
            "loss": float(loss.detach()),
            "gradients": sum(finite) / len(finite),
            "moved": sum(moved) / len(moved),
            "first_step_s": first_s,
        }
        unusual: tuple[str, ...] = (
            () if any(moved) else (self._why_nothing_moves(gradients, figures["loss"]),)
        )
        if figures["gradients"] < self.least_trained:
            raise IncorrectError(f"only {figures['gradients']:.0%} of the parameters got a finite gradient")
        if figures["moved"] < self.least_trained:
            raise IncorrectError(f"only {figures['moved']:.0%} of the parameters moved in the first step")
        if steps > 1:
            unusual += (f"parameters move in step {steps} first",)
        return figures, unusual

    def _until_something_moves(self, before: list[Tensor], trained: list[Tensor]) -> int:
        """Run further steps, since a schedule or accumulation may move nothing in the first ones."""
        for number in range(1, MOST_STEPS_UNMOVED):
            if not all(torch.equal(old, new) for old, new in zip(before, trained, strict=True)):
                return number
            if is_at_rest(self.step.torch_optimizer):
                return 1
            self.run(*self.batches[number % len(self.batches)])
        return MOST_STEPS_UNMOVED

    def _explain_loss(self) -> None:
        """Raise IncorrectError if it is the loss that backward cannot use."""
        inputs, targets = self.batches[0]
        found: object = None
        with suppress(RuntimeError, TypeError):
            found = self.step.loss(self.step.forward(inputs), targets)
        if found is not None:
            check_loss(found, "of the first step")

    def _why_nothing_moves(self, gradients: dict[str, Tensor | None], loss: float) -> str:
        """Return why no parameter moves, if that is no mistake; raises IncorrectError otherwise."""
        if is_at_rest(self.step.torch_optimizer):
            return "the learning rate is 0 in the first step, so that nothing moves"
        found = {name: one for name, one in gradients.items() if one is not None}
        broken = [name for name, one in found.items() if not bool(one.isfinite().all())]
        if not found:
            raise IncorrectError(
                f"no parameter of its network got a gradient in {MOST_STEPS_UNMOVED} steps, since backward"
                " does not reach it (does the loss use another network, or outputs that were detached?)"
            )
        if broken:
            raise IncorrectError(
                f"the gradient of {broken[0]} is not finite in the first step, where the loss is {loss:.3g}"
                " (scale the inputs, or choose a loss that stays finite)"
            )
        if not any(bool(one.any()) for one in found.values()):
            raise IncorrectError(
                f"all gradients are 0, with a loss of {loss:.3g}, so that nothing is trained (does the"
                " loss depend on the outputs? cross-entropy of a single output does not)"
            )
        raise IncorrectError(
            f"no parameter moved in {MOST_STEPS_UNMOVED} steps, though there are gradients (does its"
            " optimizer hold the parameters of its network, and does its step update them?)"
        )


def is_at_rest(*optimizers: torch.optim.Optimizer) -> bool:
    """Return whether the learning rate of every group is 0; without an optimizer it is not."""
    return bool(optimizers) and all(g.get("lr") == 0 for one in optimizers for g in one.param_groups)


def gradient_of(parameter: Tensor) -> Tensor | None:
    """Return the gradient's values; of a sparse one those that are stored."""
    gradient = parameter.grad
    if gradient is not None and gradient.is_sparse:
        return gradient.coalesce().values()
    return gradient


def check_loss(loss: object, of_which: str) -> None:
    """Raise IncorrectError unless the loss is one finite number."""
    if not isinstance(loss, Tensor):
        raise IncorrectError(
            f"the loss {of_which} is {type(loss).__name__} (let the loss return a tensor of one number)"
        )
    if loss.numel() != 1:
        raise IncorrectError(
            f"the loss {of_which} has the shape {list(loss.shape)} (let the loss return a tensor of one"
            " number, such as its mean)"
        )
    if not torch.isfinite(loss.detach()):
        raise IncorrectError(f"the loss {of_which} is {float(loss.detach())}, so its times mean nothing")
