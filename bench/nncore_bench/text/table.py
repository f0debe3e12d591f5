"""A table: what is shown of it, and the raw numbers behind it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from textwrap import fill

import pandas as pd
import tabulate

from nncore_bench.runs import replace_file

TEXT_WIDTH = 110
MOST_SUMMARY_BYTES = 60_000
"""What a job summary of GitHub holds is 1 MiB; what people read there is far less."""


@dataclass(frozen=True)
class Table:
    """Hold a table as text cells ready to print and as raw numbers in SI units.

    `name` is its file name; `on_screen` says whether it is for everybody or for who looks closer.
    """

    name: str
    title: str
    caption: str
    shown: pd.DataFrame
    raw: pd.DataFrame
    on_screen: bool = True

    def markdown(self) -> str:
        """Return heading, table and caption: one string for terminal, README and CI."""
        words = {name for name in self.shown.columns if is_wordy(self.shown[name].tolist())}
        with _no_padding():
            table = self.shown.to_markdown(
                index=False,
                disable_numparse=True,  # the digits were chosen with care
                colalign=["left" if name in words else "right" for name in self.shown.columns],
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
    """Return the first of some texts, fullest first, that a job summary takes, or the last cut to that."""
    fits = (text for text in texts if len(text.encode()) <= MOST_SUMMARY_BYTES)
    return next(fits, texts[-1].encode()[:MOST_SUMMARY_BYTES].decode(errors="ignore"))


def is_wordy(cells: Sequence[str]) -> bool:
    """Tell whether a column holds words, which are set to the left, or numbers."""
    return any(cell[:1].isalpha() and cell != "n/a" for cell in cells)
