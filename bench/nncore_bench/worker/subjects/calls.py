"""Calls of the user's own step: what they return, and after how many of them parameters move."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from itertools import pairwise
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nncore_bench.worker.blocks import IncorrectError, SubjectError
from nncore_bench.worker.subjects.first_step import MOST_STEPS_UNMOVED, check_loss, is_at_rest

MOVES_SEEN = 3
"""How often parameters must have moved to tell every how many calls they do."""


@dataclass(frozen=True)
class Learned:
    """How many calls make a step, figures of the first calls, and what is unusual, one phrase each.

    The figures are the seconds of the first call, its loss if it returned one, the share of parameter tensors
    that moved, and the calls of a step.
    """

    calls: int
    figures: dict[str, float]
    assumed: tuple[str, ...]


def learned(
    call: Callable[[int], object], trained: Sequence[Tensor], optimizers: Sequence[Optimizer]
) -> Learned:
    """Run calls until the trained tensors have moved several times; raises IncorrectError if none does."""
    if not trained:
        raise SubjectError(
            "its training_step has no trainable parameters that its object refers to (keep the model and the"
            " optimizer as attributes of the object)"
        )
    start = [one.detach().clone() for one in trained]
    figures: dict[str, float] = {}
    moves: list[int] = []
    made, begin = 0, time.perf_counter()
    while len(moves) < MOVES_SEEN and made < MOST_STEPS_UNMOVED * (len(moves) + 1):
        before = [one.detach().clone() for one in trained]
        loss = checked(call(made), f"of call {made + 1} of its training_step")
        made += 1
        figures.setdefault("first_step_s", time.perf_counter() - begin)
        if loss is not None:
            figures.setdefault("loss", loss)
        if not all(map(torch.equal, before, trained)):
            moves.append(made)
    assumed = "" if moves else _why_nothing_moves(made, optimizers)
    gaps = {later - earlier for earlier, later in pairwise(moves)}
    calls = max(gaps) if len(gaps) == 1 else 1
    if calls > 1:
        assumed = f"a step is {calls} calls of training_step: parameters move in one of {calls}"
    elif moves and moves[0] > 1:
        assumed = f"parameters move in call {moves[0]} first"
    moved = sum(not torch.equal(old, new) for old, new in zip(start, trained, strict=True)) / len(trained)
    return Learned(calls, {**figures, "moved": moved, "calls": float(calls)}, (assumed,) if assumed else ())


def _why_nothing_moves(made: int, optimizers: Sequence[Optimizer]) -> str:
    """Return why no parameter moves, if that is no mistake; raises IncorrectError otherwise."""
    if is_at_rest(*optimizers):
        return "the learning rate is 0, so that nothing moves"
    raise IncorrectError(
        f"no parameter moved in {made} calls of its training_step (call backward and the optimizer's step in"
        " it, which Lightning's Trainer does outside, on parameters that the object refers to)"
    )


def loss_of(result: object) -> Tensor | float | None:
    """Return the loss that a call returns: itself, `["loss"]` or `.loss`; None if it returns none."""
    if isinstance(result, Mapping):
        result = result.get("loss")
    elif not isinstance(result, Tensor | Real):
        result = getattr(result, "loss", None)
    return result if isinstance(result, Tensor) else float(result) if isinstance(result, Real) else None


def checked(result: object, of_which: str) -> float | None:
    """Return the loss that a call returns, if any; raises IncorrectError unless it is one finite number."""
    loss = loss_of(result)
    if loss is None:
        return None
    tensor = torch.as_tensor(loss)
    check_loss(tensor, of_which)
    return float(tensor.detach())


def takes_number(step: Callable[..., Any]) -> bool:
    """Return whether a step takes the number of its batch, too, as Lightning's does."""
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    parameters = signature(step).parameters.values()
    return sum(one.default is Parameter.empty and one.kind in positional for one in parameters) > 1
