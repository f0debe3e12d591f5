"""Seams: the calls of a training step between which its phases are told apart.

They are put on objects that exist, are there only while phases are watched, and leave no trace: the call of a
model or a loss, `zero_grad` and `step` of an optimizer, and torch's two functions that compute gradients.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from threading import active_count
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer

from nncore_bench.watch.phases import Phases, closure_left_out, watched

LOSSES = ("Loss", "Criterion", "CrossEntropy")
"""What the names of classes contain that compute a loss."""

Place: TypeAlias = tuple[Any, str, str]
"""A module or class, the name of a function in it, and the phase that this is."""

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
    with watched(switch, alone=one_thread()) as phases, ExitStack() as undo:
        put_seams(undo, modules, others, phases)
        yield


def one_thread() -> bool:
    """Return whether nothing of this process runs in another thread: not its own code, nor autograd."""
    return active_count() == 1 and not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


def put_seams(
    undo: ExitStack,
    modules: Iterable[nn.Module],
    others: Iterable[object],
    phases: Phases,
    forward: Callable[..., str] | None = None,
) -> None:
    """Put seams on what `seams` names; `forward`, if given, names the phase of each call of a network."""
    for module in modules:
        named = phase_of(module)
        phase = forward if forward and named == "forward" else named
        replace_in(undo, module, CALL, phases.timed(phase, _call_of(module)))
        replace_in(undo, module, "zero_grad", phases.timed("zero_grad", module.zero_grad))
    without_closure = closure_left_out(phases)
    for one in others:
        for name in ("step", "zero_grad") if isinstance(one, Optimizer) else ("step", "update"):
            part, adapt = ("zero_grad", None) if name == "zero_grad" else ("optimizer", without_closure)
            replace_in(undo, one, name, phases.timed(part, getattr(one, name), adapt))
    for name in GRADIENTS:
        replace_in(undo, torch.autograd, name, phases.timed("backward", getattr(torch.autograd, name)))


@contextmanager
def modules_called(modules: Iterable[nn.Module]) -> Iterator[list[nn.Module]]:
    """Yield a live list of those of some modules, and of their parts, that are called from outside of any."""
    parts = {id(part): part for one in modules for part in one.modules()}.values()
    with called_from_outside(parts) as found:
        yield found


@contextmanager
def called_from_outside(modules: Iterable[nn.Module], places: Iterable[Place] = ()) -> Iterator[list[Any]]:
    """Yield a live list of those of some modules and places that are called from outside of any other."""
    called: set[int] = set()
    found: list[Any] = []
    under_way: list[object] = []

    def noting(thing: object, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - whatever it takes and returns
            if not under_way and id(thing) not in called:
                called.add(id(thing))
                found.append(thing)
            under_way.append(thing)
            try:
                return call(*arguments, **keywords)
            finally:
                under_way.pop()

        return noted

    with ExitStack() as undo:
        for module in modules:
            if not isinstance(module, torch.jit.ScriptModule):  # whose calls cannot be replaced
                replace_in(undo, module, CALL, noting(module, _call_of(module)))
        for place in places:
            replace_in(undo, *place[:2], noting(place, getattr(*place[:2])))
        yield found


def phase_of(module: nn.Module) -> str:
    """Return the phase that the call of a module is: loss or forward."""
    return "loss" if any(part in type(module).__name__ for part in LOSSES) else "forward"


def _call_of(module: nn.Module) -> Callable[..., Any]:
    call: Callable[..., Any] = module._compiled_call_impl or module._call_impl  # noqa: SLF001 - see CALL
    return call


def parts_not_compiled(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a module and its parts, without those of a compiled one, which compiles anew if they change."""
    yield module
    if not is_compiled(module):
        for part in module.children():
            yield from parts_not_compiled(part)


def is_compiled(module: nn.Module) -> bool:
    """Return whether torch.compile or Module.compile compiles the calls of a module."""
    return module._compiled_call_impl is not None or type(module).__name__ == "OptimizedModule"  # noqa: SLF001


def replace_in(undo: ExitStack, owner: Any, name: str, value: Callable[..., Any]) -> None:  # noqa: ANN401 - any object
    """Set an attribute past what its owner does about it, and put back what was there when `undo` ends.

    If somebody else has replaced it by then, theirs stays.
    """
    put, remove = (setattr, delattr) if isinstance(owner, type) else (object.__setattr__, object.__delattr__)
    own = vars(owner)
    had, before = name in own, own.get(name)

    def put_back() -> None:
        if vars(owner).get(name) is value:
            put(owner, name, before) if had else remove(owner, name)

    undo.callback(put_back)
    put(owner, name, value)
