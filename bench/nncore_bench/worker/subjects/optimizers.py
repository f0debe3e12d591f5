"""An optimizer in another form: built again from what its class takes, and the line of code that does so."""

import ast
import inspect
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nncore_bench.worker.blocks import IncorrectError

EXCLUSIVE = ("foreach", "fused")
"""Options of which an optimizer can have one at a time; it has an option where it is among its defaults."""

Words = tuple[str, ...]


def formed_optimizer(optimizer: Optimizer, words: Words) -> Optimizer:
    """Return an optimizer like the one given, on its parameters, in the form of the words.

    It has the groups, the state and the hooks of the one given, which is returned itself where the words ask
    for nothing. What it keeps of a parameter lies where the parameter lies. Raises IncorrectError where its
    kind has no such form, or cannot be built again.
    """
    changes = _changes(optimizer, words)
    if changes:
        optimizer = _rebuilt(optimizer, changes)
    elif not all(
        _follows(value, parameter)
        for group in optimizer.param_groups
        for parameter in group["params"]
        for value in optimizer.state.get(parameter, {}).values()
    ):
        # Adagrad makes its state with itself, and the network has moved to the device since.
        optimizer.load_state_dict(optimizer.state_dict())
    return optimizer


def carry_over(optimizer: Optimizer, copied: Optimizer, memo: dict[int, Any]) -> None:
    """Give a deep copy of an optimizer its hooks and attributes, which `Optimizer.__getstate__` leaves out.

    `memo` is that of the deep copy. What stands in for a method stays behind: schedulers put a function there
    that calls the optimizer it was made for.
    """
    for name, value in vars(optimizer).items():
        if _holds_hooks(name) or not (name in vars(copied) or hasattr(type(copied), name)):
            setattr(copied, name, deepcopy(value, memo))


def optimizer_code(optimizer: Optimizer, words: Words, model: nn.Module) -> str:
    """Return the line that makes this optimizer in the form of the words; nothing where they ask for nothing.

    It runs where `torch`, `model` and `optimizer` are known. Raises IncorrectError where its kind has no such
    form.
    """
    changes = _changes(optimizer, words)
    if not changes:
        return ""
    kind, taken = type(optimizer), _taken(type(optimizer))
    arguments = {**_arguments(optimizer, _asked(changes)), **changes}
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
    """Return the options that the words change; raises IncorrectError."""
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
            _refuse_what_a_graph_misses(optimizer, changes)
    return changes


def _options(optimizer: Optimizer) -> set[str]:
    return _taken(type(optimizer)).keys() & optimizer.defaults.keys()


def _is_on(optimizer: Optimizer, option: str) -> bool:
    return any(settings.get(option) for settings in (optimizer.defaults, *optimizer.param_groups))


def _taken(kind: type) -> dict[str, inspect.Parameter]:
    """Return what a class of optimizers takes beside parameters, what it hands on to its base included."""
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


def _asked(changes: Mapping[str, bool]) -> str:
    return " and ".join("cudagraph" if name == "capturable" else name for name, on in changes.items() if on)


def _arguments(optimizer: Optimizer, asked: str) -> dict[str, Any]:
    """Return what to build an optimizer with: its defaults, and attributes named as what its class takes."""
    known = {**vars(optimizer), **optimizer.defaults}
    taken = _taken(type(optimizer))
    missing = [name for name, one in taken.items() if name not in known and one.default is one.empty]
    if missing:
        raise IncorrectError(
            f"{asked}: {type(optimizer).__name__} cannot be built again, since it keeps no"
            f" {' and '.join(missing)}, which its constructor wants (keep it as an attribute of that name)"
        )
    return {name: known[name] for name in taken if name in known}


def _rebuilt(optimizer: Optimizer, changes: Mapping[str, bool]) -> Optimizer:
    arguments = {**_arguments(optimizer, _asked(changes)), **changes}
    groups = [{**group, **changes} for group in optimizer.param_groups]
    start = deepcopy(optimizer.state_dict())
    for group in start["param_groups"]:
        group.update(changes)
    try:
        rebuilt = type(optimizer)(groups, **arguments)
        rebuilt.load_state_dict(start)
    except Exception as error:  # the class may be the user's own
        raise IncorrectError(
            f"{_asked(changes)}: {type(optimizer).__name__} cannot be built so: {_first_line(error)}"
        ) from error
    vars(rebuilt).update({name: value for name, value in vars(optimizer).items() if _holds_hooks(name)})
    return rebuilt


def _holds_hooks(name: str) -> bool:
    return name.startswith("_optimizer_") and name.endswith("_hooks")


def _refuse_what_a_graph_misses(optimizer: Optimizer, changes: Mapping[str, bool]) -> None:
    """Raise IncorrectError where an optimizer without `capturable` counts on the host: no replay does.

    That shows in a step on a parameter of the device `meta`: what is then kept elsewhere is on the host. When
    fused, which `meta` cannot be, an optimizer has its `step` where the parameters are.
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
    except Exception as error:  # noqa: BLE001 - what it keeps may be there before it fails
        failed = _first_line(error)
    kept = [] if probe is None else _kept_on_host(probe, parameter, before)
    kept = [key for key in kept if not (key == "step" and changes.get("fused"))]
    if kept:
        raise IncorrectError(
            f"cudagraph: {name} keeps {' and '.join(kept)} on the host, where no replay of a graph changes"
            " it, and has no option capturable"
        )
    if failed:
        raise IncorrectError(
            f"cudagraph: {name} has no option capturable, and a step of it that should show what it keeps on"
            f" the host failed: {failed}"
        )


def _kept_on_host(optimizer: Optimizer, parameter: Tensor, before: Mapping[str, object]) -> list[str]:
    """Return what of its state does not lie with its parameter, and what a step changed in its group."""
    state = [name for name, value in optimizer.state[parameter].items() if not _follows(value, parameter)]
    return state + [name for name, value in optimizer.param_groups[0].items() if value is not before[name]]


def _follows(value: object, parameter: Tensor) -> bool:
    return value is None or (isinstance(value, Tensor) and value.device == parameter.device)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _parameters(optimizer: Optimizer, changes: Mapping[str, bool], model: nn.Module) -> str:
    """Return the code of the groups: the network's parameters, where no group has settings of its own."""
    first, *others = optimizer.param_groups
    settings = {name: value for name, value in first.items() if name != "params"}
    if not others and _written({**settings, **changes}) == _written({**optimizer.defaults, **changes}):
        held = list(map(id, first["params"]))
        if held == [id(parameter) for parameter in model.parameters()]:
            return "model.parameters()"
        if held == [id(parameter) for parameter in model.parameters() if parameter.requires_grad]:
            return "[p for p in model.parameters() if p.requires_grad]"
    # What stands in a group outweighs the arguments: fused=None would be left as it is.
    put = ", ".join(f'"{name}": {value}' for name, value in changes.items())
    return f"[{{**group, {put}}} for group in optimizer.param_groups]"


def _written(settings: Mapping[str, object]) -> dict[str, str]:
    return {name: repr(value) for name, value in settings.items()}


def _expression(optimizer: Optimizer, name: str, value: object) -> str:
    """Return the code of an argument: as it is written, or where it is to be found."""
    try:
        if ast.literal_eval(repr(value)) == value:
            return repr(value)
    except (ValueError, SyntaxError):
        pass
    return f"optimizer.defaults[{name!r}]" if name in optimizer.defaults else f"optimizer.{name}"
