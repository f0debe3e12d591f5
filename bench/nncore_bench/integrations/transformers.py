"""A callback for transformers' Trainer: `Trainer(..., callbacks=[WatchCallback()])`."""

from typing import Any

from transformers import TrainerCallback

from nncore_bench.watching import Watch


class WatchCallback(TrainerCallback):
    """Watch a training; `options` are those of Watch."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - those of Watch
        self._watch = Watch(**options)

    def on_train_begin(self, *_: object, **__: object) -> None:
        """Begin to watch."""
        self._watch.__enter__()

    def on_train_end(self, *_: object, **__: object) -> None:
        """End, and print what was seen."""
        self._watch.__exit__()
