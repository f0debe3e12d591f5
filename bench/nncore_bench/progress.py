"""The progress of a campaign on one line of the terminal, with the time left."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import pytest

Terminal: TypeAlias = "pytest.TerminalReporter | StandardError | None"
LOG_EVERY_S = 10.0


class StandardError:
    """Standard error with the interface of pytest's terminal reporter, for commands."""

    @property
    def isatty(self) -> bool:
        """Whether a line can be overwritten."""
        return sys.stderr.isatty()

    def rewrite(self, line: str, **_markup: bool) -> None:
        """Overwrite the current line."""
        sys.stderr.write(f"\r\x1b[2K{line}")
        sys.stderr.flush()

    def write_line(self, line: str, **_markup: bool) -> None:
        """Write a line."""
        sys.stderr.write(f"{line}\n")


class ProgressLine:
    """A line with the stage, its progress and the time left.

    On a terminal the line is overwritten; in a log a new one appears every 10 seconds; without either
    (pytest's `-p no:terminal`) nothing is shown.
    """

    def __init__(self, terminal: Terminal, now: Callable[[], float] = time.monotonic) -> None:
        self._terminal = terminal
        self._now = now
        self._next = float("-inf")
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int, seconds_left: float | None) -> None:
        """Show the line, unless the last one in a log is too recent."""
        if self._terminal is None:
            return
        line = progress_text(stage, done, total, seconds_left)
        if self._terminal.isatty:
            self._terminal.rewrite(line, erase=True)
        elif stage != self._stage or self._now() >= self._next:
            self._terminal.write_line(line)
            self._next = self._now() + LOG_EVERY_S
        self._stage = stage

    def end(self) -> None:
        """Clear the line, so that further output starts on a line of its own."""
        if self._terminal is not None and self._terminal.isatty and self._stage:
            self._terminal.rewrite("", erase=True)


@contextmanager
def progress_line(terminal: Terminal) -> Iterator[ProgressLine]:
    """Provide a progress line, and clear it at the end."""
    line = ProgressLine(terminal)
    try:
        yield line
    finally:
        line.end()


def progress_text(stage: str, done: int, total: int, seconds_left: float | None) -> str:
    """Return the line, such as `campaign: round 12 of 40, 31 s left`."""
    unit = {"campaign": "round", "screening": "pair", "confirming": "pair"}.get(stage, "case")
    if not total:
        return f"{stage}: {unit} {done} (pilot)"
    left = "" if seconds_left is None else f", {seconds_left:.0f} s left"
    return f"{stage}: {unit} {done} of {total}{left}"
