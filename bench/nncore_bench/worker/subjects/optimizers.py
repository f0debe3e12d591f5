"""Rebuild an optimizer as fused, foreach or capturable, and write the line of code that does so."""

import ast
import inspect
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nncore_bench.worker.blocks import IncorrectError
from nncore_bench.worker.subjects.apply_variant import Words

EXCLUSIVE = ("foreach", "fused")
"""Mutually exclusive options; an optimizer supports an option that is among its defaults."""


def formed_optimizer(optimizer: Optimizer, words: Words) -> Optimizer:
    """Rebuild the optimizer with the options the words ask for, or return it unchanged if they ask for none.

    Parameter groups, state and hooks are kept; state moves to the device of its parameter. Raises
    IncorrectError if this kind of optimizer lacks the option or cannot be rebuilt.
    """
    changes = _changes(optimizer, words)
    if changes:
        optimizer = _rebuilt(optimizer, changes)
    elif not all(
        _is_with(value, parameter)
        for group in optimizer.param_groups
        for parameter in group["params"]
        for value in optimizer.state.get(parameter, {}).values()
    ):
        # Adagrad creates its state in the constructor, before the network moved to the device.
        optimizer.load_state_dict(optimizer.state_dict())
    return optimizer


def carry_over(optimizer: Optimizer, copied: Optimizer, memo: dict[int, Any]) -> None:
    """Copy the hooks and attributes that `Optimizer.__getstate__` leaves out to a deep copy.

    `memo` is the deep copy's. Instance attributes that replace a method stay behind: schedulers install a
    function there that calls the original optimizer.
    """
    for name, value in vars(optimizer).items():
        if _holds_hooks(name) or not (name in vars(copied) or hasattr(type(copied), name)):
            setattr(copied, name, deepcopy(value, memo))


def optimizer_code(optimizer: Optimizer, words: Words, model: nn.Module) -> str:
    """Return the line that rebuilds this optimizer as the words ask; empty if they ask for nothing.

    It uses the names `torch`, `model` and `optimizer`. Raises IncorrectError if this kind of optimizer lacks
    the option.
    """
    changes = _changes(optimizer, words)
    if not changes:
        return ""
    kind, taken = type(optimizer), _constructor_options(type(optimizer))
    arguments = {**_arguments(optimizer, _words_of(changes)), **changes}
    written = [
        f"{name}={_expression(optimizer, name, value)}"
        for name, value in arguments.items()
        if name == "lr" or (changes[name] if name in changes else repr(value) != repr(taken[name].default))
    ]
    name = (
        f"torch.optim.{kind.__name__}" if vars(torch.optim).get(kind.__name__) is kind else "type(optimizer)"
    )
    return f"optimizer = {name}({', '.join([_parameters(optimizer, changes, model), *written])})"


def _changes(optimizer: Optimizer, words: Words) -> dict[str, bool]:
    """Return the constructor options that the words change; raises IncorrectError."""
    options = _options(optimizer)
    changes: dict[str, bool] = {}
    for word in EXCLUSIVE:
        if word in words:
            if word not in options:
                raise IncorrectError(f"{word}: {type(optimizer).__name__} has no such option")
            on = (other for other in EXCLUSIVE if other != word and _is_on(optimizer, other))
            changes |= {word: True, **dict.fromkeys(on, False)}
    if "cudagraph" in words:
        if "capturable" in options:
            changes["capturable"] = True
        else:
            _refuse_host_state(optimizer, changes)
    return changes


def _options(optimizer: Optimizer) -> set[str]:
    return _constructor_options(type(optimizer)).keys() & optimizer.defaults.keys()


def _is_on(optimizer: Optimizer, option: str) -> bool:
    return any(settings.get(option) for settings in (optimizer.defaults, *optimizer.param_groups))


def _constructor_options(kind: type) -> dict[str, inspect.Parameter]:
    """Return an optimizer class's constructor parameters besides `params`, inherited ones included."""
    taken: dict[str, inspect.Parameter] = {}
    for base in kind.__mro__:
        if base is Optimizer:
            break
        if "__init__" in vars(base):
            _self, *others = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
            named = (one for one in others[1:] if one.kind in {one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY})
            taken |= {one.name: one for one in named if one.name not in taken}
            if not any(one.kind is one.VAR_KEYWORD for one in others):
                break
    return taken


def _words_of(changes: Mapping[str, bool]) -> str:
    return " and ".join("cudagraph" if name == "capturable" else name for name, on in changes.items() if on)


def _arguments(optimizer: Optimizer, asked: str) -> dict[str, Any]:
    """Return constructor arguments, taken from the optimizer's defaults and attributes of the same name."""
    known = {**vars(optimizer), **optimizer.defaults}
    taken = _constructor_options(type(optimizer))
    missing = [name for name, one in taken.items() if name not in known and one.default is one.empty]
    if missing:
        raise IncorrectError(
            f"{asked}: {type(optimizer).__name__} cannot be rebuilt, since its constructor needs"
            f" {' and '.join(missing)}, which it does not keep (keep it as an attribute of that name)"
        )
    return {name: known[name] for name in taken if name in known}


def _rebuilt(optimizer: Optimizer, changes: Mapping[str, bool]) -> Optimizer:
    arguments = {**_arguments(optimizer, _words_of(changes)), **changes}
    groups = [{**group, **changes} for group in optimizer.param_groups]
    start = deepcopy(optimizer.state_dict())
    for group in start["param_groups"]:
        group.update(changes)
    try:
        rebuilt = type(optimizer)(groups, **arguments)
        rebuilt.load_state_dict(start)
    except Exception as error:  # the class may be the user's own
        raise IncorrectError(
            f"{_words_of(changes)}: {type(optimizer).__name__} cannot be rebuilt: {_first_line(error)}"
        ) from error
    vars(rebuilt).update({name: value for name, value in vars(optimizer).items() if _holds_hooks(name)})
    return rebuilt


def _holds_hooks(name: str) -> bool:
    return name.startswith("_optimizer_") and name.endswith("_hooks")


def _refuse_host_state(optimizer: Optimizer, changes: Mapping[str, bool]) -> None:
    """Raise IncorrectError if an optimizer without `capturable` keeps state on the host, which replays skip.

    A trial step on a parameter on the `meta` device shows it: state that is not on `meta` is on the host. A
    fused optimizer, which cannot run on `meta`, keeps its `step` with the parameters.
    """
    name = type(optimizer).__name__
    parameter = nn.Parameter(torch.empty(2, 2, device="meta"))
    parameter.grad = torch.empty_like(parameter)
    plain = dict.fromkeys(_options(optimizer) & {*EXCLUSIVE}, False)
    arguments = {**_arguments(optimizer, "cudagraph"), **plain}
    group = {**optimizer.param_groups[0], "params": [parameter], **plain}
    probe, before, failed = None, {}, ""
    try:
        probe = type(optimizer)([group], **arguments)
        before = dict(probe.param_groups[0])
        probe.step()
    except Exception as error:  # noqa: BLE001 - its state may exist before it fails
        failed = _first_line(error)
    kept = [] if probe is None else _kept_on_host(probe, parameter, before)
    kept = [key for key in kept if not (key == "step" and changes.get("fused"))]
    if kept:
        raise IncorrectError(
            f"cudagraph: {name} keeps {' and '.join(kept)} on the host, where a graph replay does not update"
            " it, and has no option capturable"
        )
    if failed:
        raise IncorrectError(
            f"cudagraph: {name} has no option capturable, and the trial step that shows what it keeps on the"
            f" host failed: {failed}"
        )


def _kept_on_host(optimizer: Optimizer, parameter: Tensor, before: Mapping[str, object]) -> list[str]:
    """Return the names of state that is not on the parameter's device, and of group values a step changed."""
    state = [name for name, value in optimizer.state[parameter].items() if not _is_with(value, parameter)]
    return state + [name for name, value in optimizer.param_groups[0].items() if value is not before[name]]


def _is_with(value: object, parameter: Tensor) -> bool:
    return value is None or (isinstance(value, Tensor) and value.device == parameter.device)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _parameters(optimizer: Optimizer, changes: Mapping[str, bool], model: nn.Module) -> str:
    """Return the code of the first argument: the network's parameters if no group has its own settings."""
    first, *others = optimizer.param_groups
    settings = {name: value for name, value in first.items() if name != "params"}
    if not others and _written({**settings, **changes}) == _written({**optimizer.defaults, **changes}):
        held = list(map(id, first["params"]))
        if held == [id(parameter) for parameter in model.parameters()]:
            return "model.parameters()"
        if held == [id(parameter) for parameter in model.parameters() if parameter.requires_grad]:
            return "[p for p in model.parameters() if p.requires_grad]"
    # Values in a group override the arguments: fused=None would stay.
    put = ", ".join(f'"{name}": {value}' for name, value in changes.items())
    return f"[{{**group, {put}}} for group in optimizer.param_groups]"


def _written(settings: Mapping[str, object]) -> dict[str, str]:
    return {name: repr(value) for name, value in settings.items()}


def _expression(optimizer: Optimizer, name: str, value: object) -> str:
    """Return the code of an argument: its literal, or where to read it from the optimizer."""
    try:
        if ast.literal_eval(repr(value)) == value:
            return repr(value)
    except (ValueError, SyntaxError):
        pass
    return f"optimizer.defaults[{name!r}]" if name in optimizer.defaults else f"optimizer.{name}"
