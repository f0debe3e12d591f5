"""Phases of a training step: which part of the user's code is running, one at a time."""

from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, contextmanager, suppress
from functools import update_wrapper
from threading import get_ident
from typing import Any, TypeAlias

from nncore_bench.cases import OTHER, PHASES, STEP_PHASES, UNATTRIBUTED

DATA, WAITING = "data:", "waiting for data"
"""Waiting for the batches of a DataLoader, whose number is added, and for those of any loop."""

COPY, CLIP, EVALUATION, CHECKPOINT = "copy", "clip", "evaluation", "checkpoint"

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
Adapt: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Arguments]
Timed: TypeAlias = Callable[..., Callable[..., Any]]

TAKEN = frozenset({*PHASES, UNATTRIBUTED} - {*STEP_PHASES})


class phase(ContextDecorator):  # noqa: N801 - a statement of the user's language, like torch's no_grad
    """Name a part of a training step: `with phase("clip"): ...`, or `@phase("clip")` on a function.

    Its time is its own: an inner phase, and a model call or a backward pass within it, are counted apart.
    While nothing is watched it does nothing, which takes 0.3 µs.

    Raises:
        TypeError: the name is not a text.
        ValueError: the name is that of something else in the tables.

    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f'phase: {name!r} is no name (give a text, such as phase("clip"))')
        if name in TAKEN:
            raise ValueError(f"phase: {name!r} is the name of something else in the tables (choose another)")
        self.name = name

    def __enter__(self) -> None:
        if _watched is not None:
            _watched.begin(self.name)

    def __exit__(self, *_: object) -> None:
        if _watched is not None:
            _watched.end()


class Phases:
    """The phases under way in one thread; `switch` is called with the new one at each change.

    Other threads, such as the one in which autograd runs backward on a GPU, change nothing. Where there are
    none (`alone`), seams need not ask in which they are, which costs them 1 µs. `timed(phase, function)`
    returns a function that runs `function` as a phase: of a name, or as named from its arguments; a third
    argument changes the arguments, where there are any.
    """

    __slots__ = ("_interrupted", "now", "switch", "thread", "timed")

    def __init__(self, switch: Callable[[str], None], *, alone: bool = False) -> None:
        self.switch = switch
        self.now = OTHER
        self._interrupted: list[str] = []
        self.thread = get_ident()
        self.timed = _timed_by(self, alone=alone)

    def begin(self, name: str) -> None:
        """Interrupt the present phase by another."""
        if get_ident() == self.thread:
            self._interrupted.append(self.now)
            self._change(name)

    def end(self) -> None:
        """Return to the phase that was interrupted, if this is not the outermost."""
        if get_ident() == self.thread and self._interrupted:
            self._change(self._interrupted.pop())

    def _change(self, name: str) -> None:
        if name != self.now:
            self.now = name
            self.switch(name)


_watched: Phases | None = None


@contextmanager
def watched(switch: Callable[[str], None], *, alone: bool = False) -> Iterator[Phases]:
    """Report the phases of this thread to `switch`; only one such context can be active."""
    global _watched  # noqa: PLW0603 - what every `with phase(...)` in the process looks at
    if _watched is not None:
        raise RuntimeError("the phases of this process are watched already")
    _watched = Phases(switch, alone=alone)
    try:
        yield _watched
    finally:
        _watched = None


def _timed_by(phases: Phases, *, alone: bool) -> Timed:
    """Return `Phases.timed`.

    Seams do themselves what `begin` and `end` do. In a training loop, where the caches are full of other
    things, what a seam touches is what it costs: of 2.0 µs, asking for the thread took 1.0 and a stack of
    phases 0.5.
    """
    thread, switch = phases.thread, phases.switch

    def timed(
        phase: str | Callable[..., str], function: Callable[..., Any], adapt: Adapt | None = None
    ) -> Callable[..., Any]:
        fixed, name_of = (phase, None) if isinstance(phase, str) else ("", phase)

        def seam(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - whatever the function takes and returns
            if not alone and get_ident() != thread:
                return function(*arguments, **keywords)
            name, before = fixed if name_of is None else name_of(*arguments), phases.now
            if name == before:
                return function(*arguments, **keywords)
            if adapt is not None and (arguments or keywords):
                arguments, keywords = adapt(arguments, keywords)
            phases.now = name
            switch(name)
            try:
                return function(*arguments, **keywords)
            finally:
                phases.now = before
                switch(before)

        return like(seam, function)

    return timed


def closure_left_out(phases: Phases) -> Adapt:
    """Return what makes the closure that an optimizer's step is given, the user's own code, no part of it."""

    def adapt(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Arguments:
        closure = keywords.get("closure", arguments[0] if arguments else None)
        if not callable(closure):
            return arguments, keywords
        own = phases.timed(OTHER, closure)
        return (
            tuple(own if one is closure else one for one in arguments),
            {name: own if one is closure else one for name, one in keywords.items()},
        )

    return adapt


def like(seam: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a seam with the name and attributes of what it stands for.

    Learning rate schedules look for an attribute that they set on the `step` of an optimizer, and wrap its
    `__func__`.
    """
    update_wrapper(seam, function)
    with suppress(AttributeError):
        seam.__func__ = function.__func__  # type: ignore[attr-defined]
    return seam
