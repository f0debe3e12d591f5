"""A callback for Lightning's Trainer: `Trainer(..., callbacks=[WatchCallback()])`."""

from typing import Any

from lightning import Callback

from nncore_bench.watching import Watch


class WatchCallback(Callback):
    """Watch a fit; `options` are those of Watch."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - those of Watch
        self._watch = Watch(**options)

    def on_train_start(self, *_: object) -> None:
        """Begin to watch."""
        self._watch.__enter__()

    def on_train_end(self, *_: object) -> None:
        """End, and print what was seen."""
        self._watch.__exit__()

    def on_exception(self, *_: object) -> None:
        """End, and print what was seen."""
        self._watch.__exit__()
