"""The tidy frame: one line per case and phase, and the ways of looking at it that tables share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from operator import attrgetter

import pandas as pd

from nncore_bench.cases import DOES_NOT_APPLY, Case
from nncore_bench.estimate.cells import Cells
from nncore_bench.estimate.rows import CASE_COLUMNS, Row
from nncore_bench.text.format import several
from nncore_bench.text.table import Column

ALWAYS_SHOWN = ("batch_size", "hidden")
NUMBERS = ("batch_size", "hidden", "threads")
LABELS = {"batch_size": "batch"}


def frame_of(rows: Iterable[Row]) -> pd.DataFrame:
    """Return the rows as a frame; columns are those of Row, seconds are seconds, unknown is empty.

    A cell holds one value: instead of `launch_times_s` there is `between_launches`.
    """
    rows = list(rows)
    frame = pd.DataFrame([row.as_record() for row in rows])
    frame["launch_times_s"] = pd.Series([row.between_launches for row in rows], dtype=float)
    return frame.rename(columns={"launch_times_s": "between_launches"})


def shown_columns(cases: Iterable[Case]) -> tuple[str, ...]:
    """Return the parameters in which these cases differ, and always batch size and hidden width."""
    cases = list(cases)
    values = {name: {getattr(case, name) for case in cases} for name in CASE_COLUMNS}
    always = {name for name in ALWAYS_SHOWN if values[name] != {DOES_NOT_APPLY}}
    return tuple(name for name, found in values.items() if name in always or len(found) > 1)


def identity(case: Case, columns: Sequence[str]) -> dict[str, str]:
    """Return the leading cells of a case's line."""
    return {LABELS.get(name, name): str(getattr(case, name)) for name in columns}


def case_columns(names: Iterable[str]) -> list[Column]:
    """Return the leading columns of a table, which identify the `case` of each line."""
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
    """Return the parameters that all cases share, in words; a table of them has no such columns."""
    cases = list(cases)
    columns = shown_columns(cases)
    constant = {name: getattr(cases[0].by_name, name) for name in CASE_COLUMNS if name not in columns}
    if constant.get("threads", DOES_NOT_APPLY) != DOES_NOT_APPLY:
        constant["threads"] = several(constant["threads"], "thread")
    return ", ".join(str(value) for value in constant.values() if value != DOES_NOT_APPLY)


def place(case: Case) -> str:
    """Return the place of a case, such as `cpu, 4 threads`."""
    return case.device + (
        "" if case.threads == DOES_NOT_APPLY else f", {several(int(case.threads), 'thread')}"
    )


def series(case: Case) -> str:
    """Return the label of a line in a picture: its place, and variant and precision where unusual."""
    unusual = [name for name in (case.variant, case.precision) if name not in ("eager", "float32")]
    return ", ".join([place(case), *unusual])


def size(case: Case) -> str:
    """Return the size of a case, such as `batch 128, hidden 512`."""
    return f"batch {case.batch_size}" + ("" if case.hidden == DOES_NOT_APPLY else f", hidden {case.hidden}")
