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
DEVICE_FILE = "marks_on_device"
FACTS_FILE = "watched.json"
CAPACITY = 2**20
"""Marks that a file has room for: 16 MiB, which are there from the beginning, or a full disk would end the
process at the mark that finds no room."""

SPARE = 2**14
"""Marks that a single step may have."""

BITS = 48
STEPPED, WINDOW, COUNTED, RESIDENT, ALLOCATED = (what << BITS for what in range(1, 6))
"""What a mark says, if not that a phase begins, with a number added: the end of an optimizer's step and
which; the beginning of a window (see `window_mark`); how many nanoseconds counting that step took; the kB of
memory that the process has in RAM, and those that its tensors have on the device."""


def meaning(mark: int) -> tuple[int, int]:
    """Return what a mark says, 0 for a phase, and the number that is added."""
    number = mark & ((1 << BITS) - 1)
    return mark - number, number


def window_mark(kind: int, leader: int, steps: int) -> int:
    """Return the mark of a window of a kind, whose steps end with those of an optimizer, after so many."""
    return WINDOW | steps << 16 | leader << 4 | kind


def window_of(number: int) -> tuple[int, int, int]:
    """Return the kind of a window, its optimizer and the steps before it, from what is added to its mark."""
    return number & 15, number >> 4 & 0xFFF, number >> 16


def prepare(folder: Path, capacity: int = CAPACITY, **facts: Any) -> None:  # noqa: ANN401 - whatever JSON holds
    """Write down facts, and make the file of marks; raises OSError where there is no room for it."""
    (folder / FACTS_FILE).write_text(json.dumps(facts))
    make_room(folder / MARKS_FILE, capacity)


def make_room(file: Path, capacity: int = CAPACITY) -> None:
    """Make a file of marks; raises OSError where there is no room for it."""
    with file.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, capacity * 16)


class Marks:
    """The file of marks while it is written."""

    def __init__(self, folder: Path, name: str = MARKS_FILE) -> None:
        with (folder / name).open("r+b") as file:
            self._view = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")
        self._end = len(self._view)
        self._place = [2]
        self._numbers: dict[str, int] = {}  # a plain one, which is faster than Names

    def mark(self, what: int, at_ns: int | None = None) -> None:
        """Mark that something begins now, or at a time, which comes last: a mark is whole or not there."""
        at = self._place[0]
        if at < self._end:
            self._view[at] = what
            self._view[at + 1] = perf_counter_ns() if at_ns is None else at_ns
            self._place[0] = at + 2

    def marking(
        self, numbers: Mapping[str, int], failed: Callable[[BaseException], None]
    ) -> Callable[[str], None]:
        """Return a function that marks phases by their names, and never fails: it calls `failed` instead."""
        view, now, end, place, known = self._view, perf_counter_ns, self._end, self._place, self._numbers

        def switch(name: str) -> None:
            try:
                at = place[0]
                if at < end:
                    view[at] = known[name] if name in known else known.setdefault(name, numbers[name])
                    view[at + 1] = now()
                    place[0] = at + 2
            except Exception as error:  # noqa: BLE001 - it is the user's step that called
                failed(error)

        return switch

    def count(self, steps: int, mark: int = 0) -> None:
        """Write down how many steps there were so far, and a mark, if it is given."""
        if mark:
            self.mark(mark)
        self._view[0] = steps

    def close(self) -> None:
        """Write no more."""
        self._place[0] = self._end

    @property
    def room(self) -> float:
        """The share of the file that is free, less what a single step may need."""
        return 1 - (self._place[0] / 2 + SPARE) / (self._end / 2)


class Facts(dict[str, Any]):
    """What is known of a watched process, written to its file at each change, on top of what is there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(read_facts(folder))
        self.folder, self._file = folder, folder / FACTS_FILE

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
    """Cut the files of marks after the last one."""
    for name in (MARKS_FILE, DEVICE_FILE):
        written = sum(1 for _ in read_marks(folder, name))
        with suppress(OSError):
            os.truncate(folder / name, 16 * (1 + written))


def read_marks(folder: Path, name: str = MARKS_FILE) -> Iterator[tuple[int, int]]:
    """Yield the marks of a file, in the order in which they were made; none if there is no such file."""
    file = folder / name
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
