"""Which submodules of a network are running."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def running_modules(models: Sequence[nn.Module]) -> Iterator[list[str]]:
    """Yield a live list of the names of the submodules whose forward is running, outermost first.

    Of several networks the name of its class comes before that of a submodule.
    """
    names: list[str] = []

    def begin(name: str) -> Callable[[nn.Module, Any], None]:
        return lambda _module, _inputs: names.append(name)

    def end(_module: nn.Module, _inputs: Any, _output: Any) -> None:  # noqa: ANN401 - what the module takes and returns
        names.pop()

    handles: list[Any] = []
    several = len(models) > 1
    named = ((model, name, module) for model in models for name, module in model.named_modules() if name)
    for model, own, module in named:
        if not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
            name = f"{type(model).__name__}.{own}" if several else own
            handles.append(module.register_forward_pre_hook(begin(name)))
            handles.append(module.register_forward_hook(end, always_call=True))
    try:
        yield names
    finally:
        for handle in handles:
            handle.remove()
