"""The tidy frame: one line per case and phase, and the ways of looking at it that tables share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from operator import attrgetter

import pandas as pd

from nncore_bench.cases import DOES_NOT_APPLY, Case
from nncore_bench.estimate.cells import Cells
from nncore_bench.estimate.rows import CASE_COLUMNS, Row
from nncore_bench.text.table import Column

ALWAYS_SHOWN = ("batch_size", "hidden")
NUMBERS = ("batch_size", "hidden", "threads")
LABELS = {"batch_size": "batch"}


def frame_of(rows: Iterable[Row]) -> pd.DataFrame:
    """Return the rows as a frame; columns are those of Row, seconds are seconds, unknown is empty."""
    return pd.DataFrame([row.as_record() for row in rows])


def shown_columns(cases: Iterable[Case]) -> tuple[str, ...]:
    """Return the parameters that tell these cases apart, and batch size and hidden width in any case."""
    cases = list(cases)
    return tuple(
        name
        for name in CASE_COLUMNS
        if (name in ALWAYS_SHOWN and {getattr(case, name) for case in cases} != {DOES_NOT_APPLY})
        or len({getattr(case, name) for case in cases}) > 1
    )


def identity(case: Case, columns: Sequence[str]) -> dict[str, str]:
    """Return the leading cells of a case's line."""
    return {LABELS.get(name, name): str(getattr(case, name)) for name in columns}


def case_columns(names: Iterable[str]) -> list[Column]:
    """Return the leading columns of a table, which tell the `case` of each line from others."""
    return [replace(identity_column(name), name=name, value=attrgetter(f"case.{name}")) for name in names]


def identity_column(name: str) -> Column:
    """Return a leading column of a table whose lines are cases or rows; files hold its cells as shown."""
    label = LABELS.get(name, name)
    return Column(
        label, label, lambda line: str(getattr(getattr(line, "case", line), name)), words=name not in NUMBERS
    )


def phase_column(
    cells: Cells, title: str, phase: str, text: Callable[[Row], str], *, words: bool = False
) -> Column:
    """Return a column of one phase for a table whose lines are cases; a case without the phase has `-`."""
    rows = {case: row_of[phase] for case, row_of in cells.items() if phase in row_of}
    return Column(title, "", lambda case: text(rows[case]) if case in rows else DOES_NOT_APPLY, words=words)


def shared_by(cases: Iterable[Case]) -> str:
    """Return in words what all of these cases have in common, which is no column of their table."""
    cases = list(cases)
    columns = shown_columns(cases)
    constant = {name: getattr(cases[0], name) for name in CASE_COLUMNS if name not in columns}
    if constant.get("threads", DOES_NOT_APPLY) != DOES_NOT_APPLY:
        constant["threads"] = threads_in_words(constant["threads"])
    return ", ".join(str(value) for value in constant.values() if value != DOES_NOT_APPLY)


def threads_in_words(threads: int | str) -> str:
    """Return `1 thread` or `4 threads`."""
    return f"{threads} thread{'' if threads == 1 else 's'}"


def place(case: Case) -> str:
    """Return where a case ran, such as `cpu, 4 threads`."""
    return (
        case.device if case.threads == DOES_NOT_APPLY else f"{case.device}, {threads_in_words(case.threads)}"
    )


def series(case: Case) -> str:
    """Return what tells a line of a picture from others: place, variant and precision where unusual."""
    unusual = [name for name in (case.variant, case.precision) if name not in ("eager", "float32")]
    return ", ".join([place(case), *unusual])


def size(case: Case) -> str:
    """Return how large a case is, such as `batch 128, hidden 512`."""
    return f"batch {case.batch_size}" + ("" if case.hidden == DOES_NOT_APPLY else f", hidden {case.hidden}")
