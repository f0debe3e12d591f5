"""Two runs side by side, also of two machines: how many samples a second each gets through, at best."""

from collections.abc import Mapping
from statistics import median

import pandas as pd

from nncore_bench.cases import Case
from nncore_bench.crossover.devices import fastest, matched
from nncore_bench.estimate.drift import drift_free_ratios
from nncore_bench.estimate.estimates import Estimate
from nncore_bench.estimate.source import Source
from nncore_bench.machine.fingerprint import differences
from nncore_bench.report.facts import named
from nncore_bench.report.throughput import throughput
from nncore_bench.runs import Run
from nncore_bench.text.format import first_of, from_to, percentage, plus_minus, several
from nncore_bench.text.frame import bounds, identity, place, shared_by, shown_columns, size
from nncore_bench.text.table import Table

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
    named = first_of([f"{one.name} ({one.a} against {one.b})" for one in found], MOST_NAMED)
    return [f"- The two differ in {named}: their times are not of one machine and one software."]


def agreement(base: Source, candidate: Source) -> list[str]:
    """Say, place by place, how far two runs are apart where both timed the same step there.

    First as they were timed, then with the drift of the machine taken out, where both have reference kernels
    and were made on machines that nothing tells apart.
    """
    before, after = (
        {row.case: row.time for row in source.rows if row.phase == "step" and row.time and row.time.value}
        for source in (base, candidate)
    )
    same = not differences(base.run.machine, candidate.run.machine)
    drift_free = drift_free_ratios(base.rows, candidate.rows) if same else {}
    apart: dict[str, dict[Case, Estimate]] = {}
    for case in before:
        if case in after:
            apart.setdefault(place(case), {})[case] = after[case].over(before[case])
    return [_apart(where, ratios, drift_free) for where, ratios in sorted(apart.items())]


def _apart(
    where: str, ratios: Mapping[Case, Estimate], drift_free: Mapping[Case, Mapping[str, Estimate]]
) -> str:
    """Return how far the steps of one place are apart, and what is left of that without the drift."""
    differ = (
        f"- On {where}, the undisturbed steps of {several(len(ratios), 'case')} differ by {_how_far(ratios)}"
    )
    freed = {case: drift_free[case]["step"] for case in ratios if "step" in drift_free.get(case, {})}
    if not freed:
        return differ
    known = [ratio for ratio in freed.values() if ratio.high is not None]
    same = sum(ratio.exceeds(1) is None for ratio in known)
    return (
        f"{differ}; with the machine's drift taken out, {several(len(freed), 'case')} by {_how_far(freed)},"
        f" and the 95 % intervals of {same} of {len(known)} hold no difference"
    )


def _how_far(ratios: Mapping[Case, Estimate]) -> str:
    apart = {case: max(ratio.value, 1 / ratio.value) - 1 for case, ratio in ratios.items()}
    worst = max(apart, key=lambda case: apart[case])
    return (
        f"{percentage(median(apart.values()))} % in the median and {percentage(apart[worst])} % at most"
        f" ({size(worst)})"
    )


def versus_table(base: Source, candidate: Source) -> Table | None:
    """Return a line for every case that both runs measured; None where there is none."""
    pairs = matched(*(fastest(source.all_cells) for source in (base, candidate)))
    if not pairs:
        return None
    common = [pair.case for pair in pairs]
    columns = shown_columns(common)
    lines = [
        {
            **identity(pair.case, columns),
            "A samples/s": plus_minus(throughput(pair.first)),
            "A on": place(pair.first.case),
            "B samples/s": plus_minus(throughput(pair.second)),
            "B on": place(pair.second.case),
            "B/A": from_to(pair.speed_up),
        }
        for pair in pairs
    ]
    raw = [
        {
            **{name: getattr(pair.case, name) for name in columns},
            "a_samples_per_s": pair.first.samples_per_s,
            "a_case": pair.first.case.key,
            "b_samples_per_s": pair.second.samples_per_s,
            "b_case": pair.second.case.key,
            **bounds(pair.speed_up, "ratio", "ratio_low", "ratio_high"),
        }
        for pair in pairs
    ]
    title = f"Throughput of two runs ({shared_by(common)})"
    return Table("versus", title, CAPTION, pd.DataFrame(lines), pd.DataFrame(raw))
