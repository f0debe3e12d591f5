"""A tracker for accelerate: `Accelerator(log_with=WatchTracker())` watches until `end_training`."""

from typing import Any

from accelerate.tracking import GeneralTracker

from nncore_bench.watching import Watch


class WatchTracker(GeneralTracker):
    """Watch a training; `options` are those of Watch. What is logged is left to other trackers."""

    name = "nncore_bench"
    requires_logging_directory = False

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - those of Watch
        super().__init__()
        self._watch = Watch(**options)

    @property
    def tracker(self) -> Watch:
        """The Watch itself."""
        return self._watch

    def start(self) -> None:
        """Begin to watch."""
        self._watch.__enter__()

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Leave the configuration to other trackers."""

    def log(self, values: dict[str, Any], step: int | None = None, **_: object) -> None:
        """Leave what is logged to other trackers."""

    def finish(self) -> None:
        """End, and print what was seen."""
        self._watch.__exit__()
