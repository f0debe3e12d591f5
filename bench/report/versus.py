"""Two runs side by side, also of two machines: how many samples a second each gets through, at best."""

from collections.abc import Mapping, Sequence
from math import log
from statistics import median

import pandas as pd

from bench.cases import Case
from bench.report.devices import fastest
from bench.report.facts import named
from bench.report.format import percentage, with_interval
from bench.report.frame import case_of, cells_of, identity, place, shared_by, shown_columns, size
from bench.report.ratios import relative_half_width, speed_up
from bench.report.source import Source
from bench.report.tables import Table
from bench.verdict import Row

CAPTION = (
    "Samples per second of the median step, each run at the device and threads that served it best; B/A"
    " with its 95 % interval. The runs were made at different times: this is a screen, not a verdict."
)


def compare(base: Source, candidate: Source) -> str:
    """Return two runs side by side: who they are, the table, and how much could be compared."""
    a, b = (fastest(cells_of(source.rows)) for source in (base, candidate))
    table = comparison_table(a, b)
    common, new, missing = (
        len(keys) for keys in (a.keys() & b.keys(), b.keys() - a.keys(), a.keys() - b.keys())
    )
    return "\n".join(
        [
            f"A: {named(base.run)}",
            f"B: {named(candidate.run)}",
            *(["A and B are one and the same run."] if base.run.id == candidate.run.id else []),
            "",
            *([table.markdown()] if table else []),
            *agreement(base.rows, candidate.rows),
            f"compared {common} of {len(a)}, {new} new, {missing} missing",
        ]
    )


def agreement(a: Sequence[Row], b: Sequence[Row]) -> list[str]:
    """Say, place by place, how far two runs are apart where both timed the same step there."""
    steps_a, steps_b = (
        {case_of(row): row.time_s for row in rows if row.phase == "step" and row.time_s} for rows in (a, b)
    )
    apart: dict[str, dict[Case, float]] = {}
    for case in steps_a.keys() & steps_b.keys():
        apart.setdefault(place(case), {})[case] = abs(log(steps_b[case] / steps_a[case]))
    return [_apart(where, apart[where]) for where in sorted(apart)]


def _apart(where: str, apart: Mapping[Case, float]) -> str:
    worst = max(apart, key=lambda case: apart[case])
    return (
        f"- On {where}, the undisturbed steps of {len(apart)} case{'' if len(apart) == 1 else 's'} differ by"
        f" {percentage(median(apart.values()))} % in the median and {percentage(apart[worst])} % at most"
        f" ({size(worst)})"
    )


def comparison_table(a: Mapping[Case, Row], b: Mapping[Case, Row]) -> Table | None:
    """Return a line for every case that both runs measured; None where there is none."""
    common = [case for case in a if case in b]
    if not common:
        return None
    columns = shown_columns(common)
    lines = [
        {
            **identity(case, columns),
            "A samples/s": _samples_per_s(a[case]),
            "A on": place(case_of(a[case])),
            "B samples/s": _samples_per_s(b[case]),
            "B on": place(case_of(b[case])),
            "B/A": str(speed_up(a[case], b[case])),
        }
        for case in common
    ]
    shown = pd.DataFrame(lines)
    return Table("versus", f"Throughput of two runs ({shared_by(common)})", CAPTION, shown, shown)


def _samples_per_s(row: Row) -> str:
    """Return batch size over median time; the relative half-width is that of the time."""
    value, width = row.samples_per_s, relative_half_width(row)
    return with_interval(value, None if value is None or width is None else value * (1 + width))
