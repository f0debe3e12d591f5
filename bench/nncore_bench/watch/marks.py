"""Marks: what a watched process leaves behind as it goes, in files that outlive whatever ends it.

`marks` is a file of pairs of integers: what begins, and when, by CLOCK_MONOTONIC in nanoseconds. It is mapped
into memory, so that a mark costs no call of the system, and what was marked is kept when the process is
killed. `watched.json` beside it has the names of the phases and the facts that only that process knows.

Imported before the user's script, so it imports nothing that the script may want to configure first.
"""

import json
import mmap
import os
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from time import perf_counter_ns
from typing import Any

MARKS_FILE = "marks"
FACTS_FILE = "watched.json"
CAPACITY = 2**20
"""Marks that a file has room for: 16 MiB, which are there from the beginning, or a full disk would end the
process at the mark that finds no room."""

SPARE = 2**14
"""Marks that a single step may have."""

STEPPED, WINDOW = 1 << 20, 1 << 21
"""What begins, if it is no phase: the time after the step of an optimizer, whose number is added; a window
(see `window_mark`)."""


def window_mark(kind: int, leader: int) -> int:
    """Return the mark of a window of a kind, whose steps end with those of an optimizer."""
    return WINDOW | leader << 2 | kind


def window_of(mark: int) -> tuple[int, int]:
    """Return the kind of a window and its optimizer from the mark at its beginning."""
    return mark & 3, (mark ^ WINDOW) >> 2


def prepare(folder: Path, capacity: int = CAPACITY, **facts: Any) -> None:  # noqa: ANN401 - whatever JSON holds
    """Write down facts, and make the file of marks; raises OSError where there is no room for it."""
    (folder / FACTS_FILE).write_text(json.dumps(facts))
    with (folder / MARKS_FILE).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, capacity * 16)


class Marks:
    """The file of marks while it is written."""

    def __init__(self, folder: Path) -> None:
        with (folder / MARKS_FILE).open("r+b") as file:
            self._view = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")
        self._end = len(self._view)
        self._at = 2

    def mark(self, what: int) -> None:
        """Mark that something begins now; the time comes last, so that a mark is whole or not there."""
        at = self._at
        if at < self._end:
            self._view[at] = what
            self._view[at + 1] = perf_counter_ns()
            self._at = at + 2

    def marking(
        self, numbers: Mapping[str, int], failed: Callable[[BaseException], None]
    ) -> Callable[[str], None]:
        """Return a function that marks phases by their names, and never fails: it calls `failed` instead."""
        view, now, end = self._view, perf_counter_ns, self._end

        def switch(name: str) -> None:
            try:
                at = self._at
                if at < end:
                    view[at] = numbers[name]
                    view[at + 1] = now()
                    self._at = at + 2
            except Exception as error:  # noqa: BLE001 - it is the user's step that called
                failed(error)

        return switch

    def count(self, steps: int) -> None:
        """Write down how many steps there were so far."""
        self._view[0] = steps

    def close(self) -> None:
        """Write no more."""
        self._at = self._end

    @property
    def room(self) -> float:
        """The share of the file that is free, less what a single step may need."""
        return 1 - (self._at / 2 + SPARE) / (self._end / 2)


class Facts(dict[str, Any]):
    """What is known of a watched process, written to its file at each change, on top of what is there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(read_facts(folder))
        self._file = folder / FACTS_FILE

    def learn(self, **facts: Any) -> None:  # noqa: ANN401 - whatever JSON holds
        """Add facts, and write all of them."""
        self.update(facts)
        temporary = self._file.with_suffix(f".{os.getpid()}")
        with suppress(OSError):  # such as a full disk, which is no reason to stop a training job
            temporary.write_text(json.dumps(self, default=str))
            temporary.replace(self._file)


class Names(dict[str, int]):
    """The numbers of phases; a name that is new gets the next one, and is written down."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self._facts = facts

    def __missing__(self, name: str) -> int:
        self[name] = number = len(self)
        self._facts.learn(names=list(self))
        return number


def is_watched(folder: Path) -> bool:
    """Return whether a folder is that of a watched run."""
    return (folder / MARKS_FILE).exists()


def steps_counted(folder: Path) -> int:
    """Return how many steps the process of a folder has counted."""
    with suppress(OSError), (folder / MARKS_FILE).open("rb") as stream:
        return int.from_bytes(stream.read(8), sys.byteorder)
    return 0


def trim_marks(folder: Path) -> None:
    """Cut a file of marks after the last one."""
    written = sum(1 for _ in read_marks(folder))
    with suppress(OSError):
        os.truncate(folder / MARKS_FILE, 16 * (1 + written))


def read_marks(folder: Path) -> Iterator[tuple[int, int]]:
    """Yield the marks of a folder, in the order in which they were made; none if there is no such file."""
    file = folder / MARKS_FILE
    if not file.exists():
        return
    with file.open("rb") as stream:
        stream.seek(16)
        while chunk := stream.read(2**20):
            numbers = array("q", chunk[: len(chunk) // 16 * 16])
            for what, value in zip(numbers[::2], numbers[1::2], strict=True):
                if value == 0:
                    return
                yield what, value


def read_facts(folder: Path) -> dict[str, Any]:
    """Return the facts of a folder; none if the process wrote none."""
    try:
        found: dict[str, Any] = json.loads((folder / FACTS_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found
