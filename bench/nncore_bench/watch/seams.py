"""Seams: the calls of a training step between which its phases are told apart.

They are put on objects that exist, are there only while phases are watched, and leave no trace: the call of a
model or a loss, `zero_grad` and `step` of an optimizer, and torch's two functions that compute gradients.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import update_wrapper
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from nncore_bench.watch.phases import Phases, timed, watched

LOSSES = ("Loss", "Criterion", "CrossEntropy")
"""What the names of classes contain that compute a loss."""

GRADIENTS = ("backward", "grad")
"""The functions of torch.autograd that compute gradients; `Tensor.backward` calls the first one."""


@contextmanager
def seams(
    modules: Iterable[nn.Module], others: Iterable[object], switch: Callable[[str], None]
) -> Iterator[None]:
    """Watch the phases of a step: forward, loss, backward, optimizer, zero_grad, and the user's own.

    `modules` are the outermost ones that the step calls, `others` its optimizers and gradient scalers.
    """
    with watched(switch) as phases, ExitStack() as undo:
        for module in modules:
            if not isinstance(module, torch.jit.ScriptModule):  # whose calls cannot be replaced
                # What nn.Module calls instead of its own `_call_impl`, hooks included, where it is set.
                called = module._compiled_call_impl or module._call_impl  # noqa: SLF001 - hooks take seven times as long
                _replace(undo, module, "_compiled_call_impl", phase_of(module), called, phases)
            _replace(undo, module, "zero_grad", "zero_grad", module.zero_grad, phases)
        for one in others:
            names = ("step", "zero_grad") if isinstance(one, Optimizer) else ("step", "update")
            for name in names:
                part = "zero_grad" if name == "zero_grad" else "optimizer"
                _replace(undo, one, name, part, getattr(one, name), phases)
        for name in GRADIENTS:
            _replace(undo, torch.autograd, name, "backward", getattr(torch.autograd, name), phases)
        yield


def phase_of(module: nn.Module) -> str:
    """Return the phase that the call of a module is: loss or forward."""
    return "loss" if any(part in type(module).__name__ for part in LOSSES) else "forward"


def _replace(  # noqa: PLR0913, PLR0917 - what is replaced, and by what
    undo: ExitStack, owner: Any, name: str, part: str, function: Callable[..., Any], phases: Phases  # noqa: ANN401 - any object
) -> None:  # fmt: skip
    own = vars(owner)
    before, had = own.get(name), name in own
    seam = timed(part, function, phases)
    # Schedules look for an attribute that they set on `step`.
    object.__setattr__(owner, name, update_wrapper(seam, function))

    def put_back() -> None:
        if had:
            object.__setattr__(owner, name, before)
        else:
            object.__delattr__(owner, name)

    undo.callback(put_back)
