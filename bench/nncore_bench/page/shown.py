"""Tables as the page shows them, and the columns by which they can be filtered."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nncore_bench.text.table import Table

FILTERS = ("device", "threads", "phase", "batch", "hidden")


@dataclass(frozen=True)
class ShownTable:
    """A table for the template: columns, with whether they hold words, and rows of text."""

    name: str
    title: str
    caption: str
    on_screen: bool
    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[str]]


def shown(tables: Iterable[Table]) -> list[ShownTable]:
    """Return tables as text cells."""
    return [
        ShownTable(
            table.name,
            table.title,
            table.caption,
            table.on_screen,
            [(str(name), table.holds_words(str(name))) for name in table.shown.columns],
            [[str(cell) for cell in row] for row in table.shown.itertuples(index=False)],
        )
        for table in tables
    ]


def filters(tables: Iterable[ShownTable]) -> list[tuple[str, list[str]]]:
    """Return the columns by which tables can be filtered, each with its values."""
    values: dict[str, dict[str, None]] = {}
    for table in tables:
        for index, (name, _) in enumerate(table.columns):
            if name in FILTERS:
                values.setdefault(name, {}).update(dict.fromkeys(row[index] for row in table.rows))
    return [(name, sorted(values[name], key=_by_number)) for name in FILTERS if len(values.get(name, ())) > 1]


def _by_number(text: str) -> tuple[bool, float, str]:
    """Order numbers by size, and words after them."""
    return not text.isdecimal(), float(text) if text.isdecimal() else 0.0, text
