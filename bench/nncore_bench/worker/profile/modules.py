"""Modules: which part of a network is under way."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from torch import nn


class ModulesUnderWay:
    """Know the names of the modules whose forward is running, outermost first, while it is entered.

    The network itself has no name, and neither has what runs outside of its parts.
    """

    def __init__(self, model: nn.Module) -> None:
        self.names: list[str] = []
        self._model = model
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        """Have every part of the network say when it begins and ends."""
        for name, module in self._model.named_modules():
            if name:
                self._handles.append(module.register_forward_pre_hook(self._begins(name)))
                self._handles.append(module.register_forward_hook(self._ends, always_call=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the network as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _begins(self, name: str) -> Callable[[nn.Module, Any], None]:
        def begins(_module: nn.Module, _inputs: Any) -> None:  # noqa: ANN401 - what the module takes
            self.names.append(name)

        return begins

    def _ends(self, _module: nn.Module, _inputs: Any, _output: Any) -> None:  # noqa: ANN401 - what the module returns
        self.names.pop()
