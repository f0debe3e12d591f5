"""Seams: the calls of a training step between which its phases are told apart.

They are put on objects that exist, are there only while phases are watched, and leave no trace: the call of a
model or a loss, `zero_grad` and `step` of an optimizer, and torch's two functions that compute gradients.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from nncore_bench.watch.phases import timed, watched

LOSSES = ("Loss", "Criterion", "CrossEntropy")
"""What the names of classes contain that compute a loss."""

CALL = "_compiled_call_impl"
"""What nn.Module calls instead of its own `_call_impl`, hooks included, where it is set.

Two hooks would take 2.2 µs where this takes 0.8, and change how the module is called.
"""

GRADIENTS = ("backward", "grad")
"""The functions of torch.autograd that compute gradients; `Tensor.backward` calls the first one."""


@contextmanager
def seams(
    modules: Iterable[nn.Module], others: Iterable[object], switch: Callable[[str], None]
) -> Iterator[None]:
    """Watch the phases of a step: forward, loss, backward, optimizer, zero_grad, and the user's own.

    `modules` are the outermost ones that the step calls (see `modules_called`), `others` its optimizers and
    gradient scalers.
    """
    with watched(switch) as phases, ExitStack() as undo:
        for module in modules:
            _set(undo, module, CALL, timed(phase_of(module), _call_of(module), phases))
            _set(undo, module, "zero_grad", timed("zero_grad", module.zero_grad, phases))
        for one in others:
            for name in ("step", "zero_grad") if isinstance(one, Optimizer) else ("step", "update"):
                part = "zero_grad" if name == "zero_grad" else "optimizer"
                _set(undo, one, name, timed(part, getattr(one, name), phases))
        for name in GRADIENTS:
            _set(undo, torch.autograd, name, timed("backward", getattr(torch.autograd, name), phases))
        yield


@contextmanager
def modules_called(modules: Iterable[nn.Module]) -> Iterator[list[nn.Module]]:
    """Yield a live list of those of some modules, and of their parts, that are called from outside of any."""
    called: dict[int, nn.Module] = {}
    found: list[nn.Module] = []
    under_way: list[nn.Module] = []

    def noting(module: nn.Module) -> Callable[..., Any]:
        call = _call_of(module)

        def noted(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - whatever it takes and returns
            if not under_way and id(module) not in called:
                called[id(module)] = module
                found.append(module)
            under_way.append(module)
            try:
                return call(*arguments, **keywords)
            finally:
                under_way.pop()

        return noted

    with ExitStack() as undo:
        for module in {id(part): part for one in modules for part in one.modules()}.values():
            if not isinstance(module, torch.jit.ScriptModule):  # whose calls cannot be replaced
                _set(undo, module, CALL, noting(module))
        yield found


def phase_of(module: nn.Module) -> str:
    """Return the phase that the call of a module is: loss or forward."""
    return "loss" if any(part in type(module).__name__ for part in LOSSES) else "forward"


def _call_of(module: nn.Module) -> Callable[..., Any]:
    call: Callable[..., Any] = module._compiled_call_impl or module._call_impl  # noqa: SLF001 - see CALL
    return call


def _set(undo: ExitStack, owner: Any, name: str, value: Callable[..., Any]) -> None:  # noqa: ANN401 - any object
    """Set an attribute past what its owner does about it, and put back what was there when `undo` ends."""
    own = vars(owner)
    if name in own:
        undo.callback(object.__setattr__, owner, name, own[name])
    else:
        undo.callback(object.__delattr__, owner, name)
    object.__setattr__(owner, name, value)
