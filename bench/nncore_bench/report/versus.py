"""Two runs side by side, also of two machines: how many samples a second each gets through, at best."""

from collections.abc import Mapping, Sequence
from math import exp, log
from statistics import median

import pandas as pd

from nncore_bench.cases import Case
from nncore_bench.fingerprint import differences
from nncore_bench.report.devices import fastest
from nncore_bench.report.facts import named
from nncore_bench.report.format import percentage, with_interval
from nncore_bench.report.frame import identity, place, shared_by, shown_columns, size
from nncore_bench.report.ratios import relative_half_width, speed_up
from nncore_bench.report.source import Source
from nncore_bench.report.tables import Table
from nncore_bench.runs import Run
from nncore_bench.verdict import Row
from nncore_bench.verdict.drift import drift_free_ratio
from nncore_bench.verdict.estimates import Estimate

MOST_NAMED = 5

CAPTION = (
    "Samples per second of the median step, each run at the device and threads that served it best; B/A"
    " with its 95 % interval. The runs were made at different times: this is a screen, not a verdict."
)


def side_by_side(base: Source, candidate: Source) -> str:
    """Return two runs side by side: who they are, the table, and how much could be compared."""
    a, b = (fastest(source.all_cells) for source in (base, candidate))
    table = versus_table(base, candidate)
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
            *machines_line(base.run, candidate.run),
            *agreement(base, candidate),
            f"compared {common} of {len(a)}, {new} new, {missing} missing",
        ]
    )


def machines_line(base: Run, candidate: Run) -> list[str]:
    """Say in which facts that decide a time two runs differ, if any."""
    found = differences(base.machine, candidate.machine)
    if not found:
        return []
    named = [f"{one.name} ({one.a} against {one.b})" for one in found[:MOST_NAMED]]
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return [
        f"- The two differ in {', '.join(named)}{more}: their times are not of one machine and one software."
    ]


def agreement(base: Source, candidate: Source) -> list[str]:
    """Say, place by place, how far two runs are apart where both timed the same step there.

    First as they were timed, then with the drift of the machine taken out, where both have reference kernels
    and were made on machines that nothing tells apart.
    """
    steps_a, steps_b = (
        {row.case: row for row in source.rows if row.phase == "step" and row.time_s}
        for source in (base, candidate)
    )
    same = not differences(base.run.machine, candidate.run.machine)
    apart: dict[str, dict[Case, float]] = {}
    freed: dict[str, dict[Case, Estimate]] = {}
    for case in steps_a.keys() & steps_b.keys():
        a, b = steps_a[case], steps_b[case]
        apart.setdefault(place(case), {})[case] = exp(abs(log((b.time_s or 1) / (a.time_s or 1)))) - 1
        if same and (ratio := drift_free_ratio(a, b)) is not None:
            freed.setdefault(place(case), {})[case] = ratio
    return [_apart(where, apart[where], freed.get(where, {})) for where in sorted(apart)]


def _apart(where: str, apart: Mapping[Case, float], freed: Mapping[Case, Estimate]) -> str:
    differ = f"the undisturbed steps of {_cases(len(apart))} differ by {_how_far(apart)}"
    return f"- On {where}, {differ}{_freed(freed)}"


def _freed(ratios: Mapping[Case, Estimate]) -> str:
    """Return what is left of the differences without the drift of the machine, and whether it is anything."""
    if not ratios:
        return ""
    apart = {case: exp(abs(log(ratio.value))) - 1 for case, ratio in ratios.items()}
    known = [r for r in ratios.values() if r.low is not None and r.high is not None]
    same = sum((r.low or 0) <= 1 <= (r.high or 0) for r in known)
    return (
        f"; with the machine's drift taken out, {_cases(len(apart))} by {_how_far(apart)}, and the 95 %"
        f" intervals of {same} of {len(known)} hold no difference"
    )


def _cases(count: int) -> str:
    return f"{count} case{'' if count == 1 else 's'}"


def _how_far(apart: Mapping[Case, float]) -> str:
    worst = max(apart, key=lambda case: apart[case])
    return (
        f"{percentage(median(apart.values()))} % in the median and {percentage(apart[worst])} % at most"
        f" ({size(worst)})"
    )


def versus_table(base: Source, candidate: Source) -> Table | None:
    """Return a line for every case that both runs measured; None where there is none."""
    a, b = (fastest(source.all_cells) for source in (base, candidate))
    common = [case for case in a if case in b]
    if not common:
        return None
    columns = shown_columns(common)
    lines = [
        {
            **identity(case, columns),
            "A samples/s": _samples_per_s(a[case]),
            "A on": place(a[case].case),
            "B samples/s": _samples_per_s(b[case]),
            "B on": place(b[case].case),
            "B/A": str(speed_up(a[case], b[case])),
        }
        for case in common
    ]
    raw = [_raw(case, columns, a[case], b[case]) for case in common]
    title = f"Throughput of two runs ({shared_by(common)})"
    return Table("versus", title, CAPTION, pd.DataFrame(lines), pd.DataFrame(raw))


def _raw(case: Case, columns: Sequence[str], a: Row, b: Row) -> dict[str, object]:
    ratio = speed_up(a, b)
    return {
        **{name: getattr(case, name) for name in columns},
        "a_samples_per_s": a.samples_per_s,
        "a_case": a.case.key,
        "b_samples_per_s": b.samples_per_s,
        "b_case": b.case.key,
        "ratio": None if ratio is None else ratio.value,
        "ratio_low": None if ratio is None else ratio.low,
        "ratio_high": None if ratio is None else ratio.high,
    }


def _samples_per_s(row: Row) -> str:
    """Return batch size over median time; the relative half-width is that of the time."""
    value, width = row.samples_per_s, relative_half_width(row)
    return with_interval(value, None if value is None or width is None else value * (1 + width))
