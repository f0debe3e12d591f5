"""A table: its text for people, and the raw numbers behind it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from operator import attrgetter
from pathlib import Path
from textwrap import fill
from typing import Any

import pandas as pd
import tabulate

from nncore_bench.estimate.estimates import Estimate
from nncore_bench.runs import replace_file

TEXT_WIDTH = 110
MOST_SUMMARY_BYTES = 60_000
"""A job summary of GitHub holds 1 MiB; people read far less of it."""


@dataclass(frozen=True)
class Column:
    """A column of a table: the text of each line on screen, and its raw values in files.

    `title` includes the unit; a column without one is in files only, and one without a `name` only on screen.
    `value` takes a line and returns the raw value in SI units, which `text` formats. An Estimate fills three
    raw columns if `name` has the names of its value, low and high, and one with its value if `name` is one.
    Words are aligned to the left, numbers to the right.
    """

    title: str
    name: str | tuple[str, str, str]
    value: Callable[[Any], Any]
    text: Callable[[Any], str] = str
    words: bool = False

    def raw(self, line: object) -> dict[str, object]:
        """Return the raw values of a line by column name; unknown is None."""
        value = self.value(line)
        if not isinstance(self.name, str):
            return bounds(value, *self.name)
        return {self.name: value.value if isinstance(value, Estimate) else value}


def bounds(estimate: Estimate | None, value: str, low: str, high: str) -> dict[str, Any]:
    """Return an estimate as three columns of these names, empty where it is unknown."""
    if estimate is None:
        return dict.fromkeys((value, low, high))
    return {value: estimate.value, low: estimate.low, high: estimate.high}


def only_in_files(names: Iterable[str]) -> list[Column]:
    """Return columns of attributes of the lines, which are not shown."""
    return [Column("", name, attrgetter(name)) for name in names]


@dataclass(frozen=True)
class Table:
    """A table as text cells ready to print and as raw numbers in SI units.

    `name` is its file name. `on_screen`: printed by default; otherwise only with `--all` and in the files.
    `words` are the titles of columns aligned to the left.
    """

    name: str
    title: str
    caption: str
    shown: pd.DataFrame
    raw: pd.DataFrame
    words: frozenset[str]
    on_screen: bool

    @classmethod
    def of(  # noqa: PLR0913 - what a table is made of
        cls,
        name: str,
        title: str,
        caption: str,
        columns: Sequence[Column],
        lines: Iterable[object],
        *,
        raw: pd.DataFrame | None = None,
        on_screen: bool = True,
    ) -> "Table":
        """Make a table with a row for each line; `raw`, where given, replaces the columns' values."""
        lines, visible = list(lines), [column for column in columns if column.title]
        shown = [{column.title: column.text(column.value(line)) for column in visible} for line in lines]
        if raw is None:
            raw = pd.DataFrame(
                {name: value for column in columns if column.name for name, value in column.raw(line).items()}
                for line in lines
            )
        words = frozenset(column.title for column in visible if column.words)
        frame = pd.DataFrame(shown, columns=[column.title for column in visible])
        return cls(name, title, caption, frame, raw, words, on_screen)

    def markdown(self) -> str:
        """Return heading, table and caption: one string for terminal, README and CI."""
        with _no_padding():
            table = self.shown.to_markdown(
                index=False,
                disable_numparse=True,  # the digits were chosen with care
                colalign=["left" if title in self.words else "right" for title in self.shown.columns],
            )
        caption = f"\n\n{fill(self.caption, TEXT_WIDTH)}" if self.caption else ""
        return f"## {self.title}\n\n{table}{caption}\n"

    def csv(self) -> str:
        """Return the raw numbers; unknown is empty."""
        text: str = self.raw.to_csv(index=False, lineterminator="\n")
        return text

    def records(self) -> list[dict[str, object]]:
        """Return the raw numbers as plain values; unknown is None."""
        known = self.raw.astype(object).where(self.raw.notna(), None)
        return [
            {str(name): None if value in (inf, -inf) else value for name, value in line.items()}
            for line in known.to_dict("records")
        ]


@contextmanager
def _no_padding() -> Iterator[None]:
    """Take away the two columns that tabulate adds to every heading: 13 of them make a table too wide."""
    usual = tabulate.MIN_PADDING
    tabulate.MIN_PADDING = 0
    try:
        yield
    finally:
        tabulate.MIN_PADDING = usual


def write_files(folder: Path, tables: Iterable[Table]) -> None:
    """Write every table as Markdown and as CSV into a folder, which is made where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        replace_file(folder / f"{table.name}.md", table.markdown().encode())
        replace_file(folder / f"{table.name}.csv", table.csv().encode())


def fitting(texts: Sequence[str]) -> str:
    """Return the first of some texts, fullest first, that fits a job summary, or the last one cut to fit."""
    fits = (text for text in texts if len(text.encode()) <= MOST_SUMMARY_BYTES)
    return next(fits, texts[-1].encode()[:MOST_SUMMARY_BYTES].decode(errors="ignore"))
