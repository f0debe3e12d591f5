"""The state of a training step: everything that an iteration changes, saved once and restored in place."""

import inspect
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping, MutableSequence, MutableSet
from copy import deepcopy
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Restore = Callable[[], None]
OWN_OF_TORCH = frozenset(vars(nn.Module())) | frozenset(vars(torch.optim.SGD([torch.zeros(1)])))
"""Attributes with which torch itself builds a module or an optimizer."""

NOT_THE_USERS = sys.stdlib_module_names | {"torch", "numpy", "nncore", "nncore_bench"}
"""Packages whose objects keep no state of a step but what `state_dict` returns."""

GENERATORS: Mapping[type[Any], tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    torch.Generator: (torch.Generator.get_state, torch.Generator.set_state),
    np.random.Generator: (
        lambda generator: generator.bit_generator.state,
        lambda generator, state: setattr(generator.bit_generator, "state", state),
    ),
    np.random.RandomState: (np.random.RandomState.get_state, np.random.RandomState.set_state),
    random.Random: (random.Random.getstate, random.Random.setstate),
}
"""Generators of random numbers that a step may hold: how to read and to write the state of each kind."""

DEEPEST = 6
"""How far attributes, closures and containers are followed from a step to what it refers to."""

MOST_ENTRIES = 10_000
"""Containers with more entries are data, which a step does not change."""


class State:
    """The modules, optimizers and other stateful objects that some roots refer to, with their contents.

    Parameters, buffers and the tensors of optimizers are copied back into the tensors that held them, so that
    captured graphs and views stay valid. Other attributes of modules, optimizers and the user's own objects,
    values of parameter groups and the random generators get their saved values; any other object with
    `state_dict` and `load_state_dict`, such as a scaler or a schedule, is restored through these. Gradients
    are part of it on request, since they may be summed over several calls.
    """

    def __init__(self, *roots: object, gradients: bool = False) -> None:
        self.found = list(reached(roots))
        self._gradients = gradients
        self._restores: list[Restore] = []

    def tensors(self) -> list[Tensor]:
        """Return every tensor that a step changes: parameters, buffers, and the optimizers' state."""
        found: dict[int, Tensor] = {}
        for one in self.found:
            for tensor in _tensors_of(one):
                found.setdefault(id(tensor), tensor)
        return list(found.values())

    def save(self) -> None:
        """Save the present contents; later calls to `restore` return to them."""
        self._restores = [restore for one in self.found for restore in _saved(one)]
        if self._gradients:
            parameters = (p for one in self.found if isinstance(one, nn.Module) for p in one.parameters())
            self._restores += [_saved_gradient(parameter) for parameter in dict.fromkeys(parameters)]
        self._restores.append(_saved_generators())

    def restore(self) -> None:
        """Return to the saved contents, if any."""
        with torch.no_grad():
            for restore in self._restores:
                restore()

    def not_restored(self) -> list[str]:
        """Return the attributes that hold what cannot be put back, such as an iterator, by name."""
        return [
            f"{type(one).__name__}.{name} ({what})"
            for one in self.found
            for name, value in (_attributes(one) if hasattr(one, "__dict__") else ())
            if (what := _cannot_be_put_back(value))
        ]


def reached(roots: object) -> Iterator[Any]:
    """Yield the modules, optimizers and stateful objects that the roots refer to, each once.

    Attributes of user classes, containers, closures, bound methods, partial functions, and hooks of modules,
    parameters and optimizers are followed.
    """
    seen: set[int] = set()
    waiting: deque[tuple[Any, int]] = deque([(roots, 0)])
    inner: set[int] = set()
    while waiting:
        one, depth = waiting.popleft()
        if id(one) in seen or depth > DEEPEST:
            continue
        seen.add(id(one))
        if id(one) not in inner and (_is_stateful(one) or _is_the_users(one)):
            yield one
        if isinstance(one, nn.Module):
            inner.update(id(module) for module in one.modules() if module is not one)
        waiting.extend((other, depth + 1) for other in _referred(one))


def _is_stateful(one: object) -> bool:
    return not isinstance(one, type) and all(
        callable(getattr(one, name, None)) for name in ("state_dict", "load_state_dict")
    )


def _is_the_users(one: object) -> bool:
    """Return whether an object is of a class of the user's own, which may keep anything in its attributes."""
    package = type(one).__module__.partition(".")[0]
    return hasattr(one, "__dict__") and not isinstance(one, type) and package not in NOT_THE_USERS


def _referred(one: Any) -> Iterator[Any]:  # noqa: ANN401 - any object of the user
    if isinstance(one, Tensor):
        for hooks in (one._backward_hooks, getattr(one, "_post_accumulate_grad_hooks", None)):  # noqa: SLF001 - no other way
            yield from (hooks or {}).values()
    elif isinstance(one, Mapping):
        yield from [*one.keys(), *one.values()] if len(one) <= MOST_ENTRIES else ()
    elif isinstance(one, list | tuple | set | frozenset | deque):
        yield from one if len(one) <= MOST_ENTRIES else ()
    elif isinstance(one, FunctionType):
        yield from _captured(one)
    elif isinstance(one, MethodType):
        yield from (one.__self__, one.__func__)
    elif isinstance(one, nn.Module):
        yield from one.parameters()
        for module in one.modules():
            yield from (value for name, value in _attributes(module) if not _is_plain(value))
            yield from (hooks for name, hooks in vars(module).items() if name.endswith("_hooks"))
    elif not isinstance(one, type) and not inspect.ismodule(one) and hasattr(one, "__dict__"):
        yield from vars(one).values()
        yield from (getattr(one, name) for name in ("func", "args", "keywords") if hasattr(one, name))


def _captured(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if isinstance(value, nn.Module | Optimizer | FunctionType) or (
            _is_stateful(value) and not inspect.ismodule(value)
        ):
            yield value


def _is_plain(value: object) -> bool:
    return value is None or isinstance(
        value, int | float | str | bytes | complex | torch.dtype | torch.device
    )


def _attributes(one: object) -> list[tuple[str, Any]]:
    """Return the attributes of a module, an optimizer or the user's object that are not torch's own."""
    if isinstance(one, torch.jit.ScriptModule):
        return []
    return [(name, value) for name, value in vars(one).items() if name not in OWN_OF_TORCH]


def _tensors_of(one: Any) -> list[Tensor]:  # noqa: ANN401 - a stateful object
    if isinstance(one, nn.Module):
        return [*one.parameters(), *one.buffers()]
    if isinstance(one, Optimizer):
        kept = [value for state in one.state.values() for value in state.values()]
        return [value for value in kept if isinstance(value, Tensor)]
    # A scaler keeps its scale in private tensors, whose public accessors return copies.
    return [value for value in vars(one).values() if isinstance(value, Tensor)]


def _saved(one: Any) -> Iterator[Restore]:  # noqa: ANN401 - a stateful object
    if isinstance(one, nn.Module):
        for module in one.modules():
            yield from _saved_module(module)
    elif isinstance(one, Optimizer):
        yield from _saved_optimizer(one)
        yield _saved_attributes(one)
    elif not _is_stateful(one):
        yield _saved_attributes(one)
    else:
        kept = deepcopy(one.state_dict())
        if kept:
            yield lambda: one.load_state_dict(deepcopy(kept))
        yield from (_in_place(value) for value in _tensors_of(one))


def _in_place(tensor: Tensor) -> Restore:
    value = tensor.detach().clone()

    def restore() -> None:
        tensor.detach().copy_(value)

    return restore


def _saved_module(module: nn.Module) -> Iterator[Restore]:
    if isinstance(module, torch.jit.ScriptModule):
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            yield _in_place(tensor)
        return
    held: Any
    for held in (module._parameters, module._buffers):  # noqa: SLF001 - a step may replace a buffer by another
        for name, tensor in held.items():
            if tensor is not None:
                yield _held(held, name, tensor)
    yield _saved_attributes(module)


def _saved_attributes(one: object) -> Restore:
    contents = {name: _contents(value) for name, value in _attributes(one)}

    def restore() -> None:
        own = vars(one)
        for name, _ in _attributes(one):
            if name not in contents:
                del own[name]
        for name, put_back in contents.items():
            value = put_back()
            if own.get(name) is not value:
                own[name] = value

    return restore


def _saved_gradient(parameter: Tensor) -> Restore:
    kept = None if parameter.grad is None else parameter.grad.detach().clone()

    def restore() -> None:
        parameter.grad = None if kept is None else kept.clone()

    return restore


def _held(held: MutableMapping[str, Tensor], name: str, tensor: Tensor) -> Restore:
    put_back = _in_place(tensor)

    def restore() -> None:
        if held.get(name) is not tensor:
            held[name] = tensor
        put_back()

    return restore


def _cannot_be_put_back(value: object) -> str:
    """Return in words what about a value no copy can put back, or nothing."""
    if isinstance(value, Iterator) and not _is_stateful(value):
        return f"a {type(value).__name__}"
    if isinstance(value, deque) and len(value) > MOST_ENTRIES:
        return f"a deque of {len(value):,}"
    return ""


def _contents(value: Any) -> Callable[[], Any]:  # noqa: ANN401 - any attribute
    """Return a function that puts back what a value holds now, in place, and returns the value."""
    if isinstance(value, Tensor):
        return _returning(value, _in_place(value))
    if isinstance(value, (np.ndarray, *GENERATORS)):
        return _returning(value, _written_back(value))
    if not isinstance(value, MutableMapping | MutableSequence | MutableSet) or len(value) > MOST_ENTRIES:
        return lambda: value
    if isinstance(value, MutableSet):
        members = set(value)
        return _returning(value, lambda: _refill(value, members))
    if isinstance(value, MutableMapping):
        entries = {key: _contents(entry) for key, entry in value.items()}
        return _returning(
            value, lambda: _refill(value, {key: put_back() for key, put_back in entries.items()})
        )
    parts = [_contents(entry) for entry in value]
    return _returning(value, lambda: _refill(value, [put_back() for put_back in parts]))


def _written_back(value: Any) -> Restore:  # noqa: ANN401 - an array or a generator of random numbers
    if isinstance(value, np.ndarray):
        kept = value.copy()
        return lambda: np.copyto(value, kept)
    read, write = next(both for kind, both in GENERATORS.items() if isinstance(value, kind))
    drawn = deepcopy(read(value))
    return lambda: write(value, drawn)


def _returning(value: Any, restore: Restore) -> Callable[[], Any]:  # noqa: ANN401 - any attribute
    def put_back() -> Any:  # noqa: ANN401 - the same
        restore()
        return value

    return put_back


def _refill(container: Any, contents: Any) -> None:  # noqa: ANN401 - any container
    container.clear()
    (container.extend if isinstance(container, MutableSequence) else container.update)(contents)


def _saved_optimizer(optimizer: Optimizer) -> Iterator[Restore]:
    groups = [
        (group, {name: _contents(value) for name, value in group.items() if name != "params"})
        for group in optimizer.param_groups
    ]
    states = {
        key: {name: _contents(value) for name, value in state.items()} if isinstance(state, dict) else None
        for key, state in optimizer.state.items()
    }

    def restore() -> None:
        for group, values in groups:
            group.update({name: put_back() for name, put_back in values.items()})
        for key in list(optimizer.state):
            if key not in states:
                del optimizer.state[key]
        for key, kept in states.items():
            if kept is not None:
                state = optimizer.state[key]
                for name in [name for name in state if name not in kept]:
                    del state[name]
                state.update({name: put_back() for name, put_back in kept.items()})

    yield restore


def _saved_generators() -> Restore:
    on_host, of_numpy, of_python = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 - the global one
    on_cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]

    def restore() -> None:
        torch.set_rng_state(on_host)
        if on_cuda:
            torch.cuda.set_rng_state_all(on_cuda)
        np.random.set_state(of_numpy)  # noqa: NPY002 - the global one
        random.setstate(of_python)

    return restore
