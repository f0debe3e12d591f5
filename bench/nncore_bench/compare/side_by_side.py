"""Two runs side by side, perhaps of two machines: the samples per second of each at its best."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from operator import attrgetter
from statistics import median

from nncore_bench.cases import Case
from nncore_bench.crossover.devices import Matched, fastest, matched
from nncore_bench.estimate.drift import drift_free_ratios
from nncore_bench.estimate.estimates import Estimate
from nncore_bench.estimate.rows import Row
from nncore_bench.estimate.source import Source
from nncore_bench.machine.fingerprint import differences
from nncore_bench.report.facts import named
from nncore_bench.report.throughput import throughput
from nncore_bench.runs import Run
from nncore_bench.text.format import first_of, from_to, percentage, plus_minus, several
from nncore_bench.text.frame import case_columns, place, shared_by, shown_columns, size
from nncore_bench.text.table import Column, Table

MOST_NAMED = 5

CAPTION = (
    "Samples per second of the median step, each run at the device and threads that served it best; B/A"
    " with its 95 % interval. The runs were made at different times: this is a screen, not a verdict."
)


def side_by_side(base: Source, candidate: Source) -> str:
    """Return two runs side by side: who they are, the table, and how much could be compared."""
    a, b = (fastest(source.all_cells).keys() for source in (base, candidate))
    table = versus_table(base, candidate)
    lines = [
        *heading(base.run, candidate.run),
        *([table.markdown()] if table else []),
        *machines_line(base.run, candidate.run),
        *agreement(base, candidate),
        compared_line(len(a & b), len(b - a), len(a - b)),
    ]
    return "\n".join(lines)


def heading(base: Run, candidate: Run) -> list[str]:
    """Return the lines that name both runs."""
    same = ["A and B are one and the same run."] if base.id == candidate.id else []
    return [f"A: {named(base)}", f"B: {named(candidate)}", *same, ""]


def compared_line(common: int, new: int, missing: int) -> str:
    """Return how many cases of A are compared, and how many are in one run only."""
    return f"compared {common} of {common + missing}, {new} new, {missing} missing"


def machines_line(base: Run, candidate: Run) -> list[str]:
    """Name the facts that decide a time in which two runs differ, if any."""
    found = differences(base.machine, candidate.machine)
    if not found:
        return []
    named = first_of([f"{one.name} ({one.a} against {one.b})" for one in found], MOST_NAMED)
    return [f"- The two differ in {named}: their times are not of one machine and one software."]


def agreement(base: Source, candidate: Source) -> list[str]:
    """Say how far apart the steps are that both runs timed, a line for each place.

    They are compared as timed, and then corrected for the machine's drift, if both runs have references and
    their machines differ in no deciding fact.
    """
    before, after = (
        {row.case: row.time for row in source.rows if row.phase == "step" and row.time and row.time.value}
        for source in (base, candidate)
    )
    same = not differences(base.run.machine, candidate.run.machine)
    drift_free = drift_free_ratios(base.rows, candidate.rows) if same else {}
    apart: dict[str, dict[Case, Estimate]] = defaultdict(dict)
    for case in before:
        if case in after:
            apart[place(case)][case] = after[case].over(before[case])
    freed = {case: ratios["step"] for case, ratios in drift_free.items() if "step" in ratios}
    return [
        f"- On {where}, the undisturbed steps of {several(len(ratios), 'case')} differ by {_how_far(ratios)}"
        + _without_drift({case: freed[case] for case in ratios if case in freed})
        for where, ratios in sorted(apart.items())
    ]


def _without_drift(ratios: Mapping[Case, Estimate]) -> str:
    if not ratios:
        return ""
    known = [ratio for ratio in ratios.values() if ratio.high is not None]
    same = sum(ratio.exceeds(1) is None for ratio in known)
    return (
        f"; with the machine's drift taken out, {several(len(ratios), 'case')} by {_how_far(ratios)},"
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
    """Return a table with a line for every case that both runs measured; None where there is none."""
    pairs = matched(*(fastest(source.all_cells) for source in (base, candidate)))
    if not pairs:
        return None
    common = [pair.case for pair in pairs]
    columns = [
        *case_columns(shown_columns(common)),
        *_side("A", attrgetter("first")),
        *_side("B", attrgetter("second")),
        Column("B/A", ("ratio", "ratio_low", "ratio_high"), attrgetter("speed_up"), from_to),
    ]
    return Table.of("versus", f"Throughput of two runs ({shared_by(common)})", CAPTION, columns, pairs)


def _side(run: str, row: Callable[[Matched], Row]) -> list[Column]:
    """Return the columns of one run: its rate, and where that was reached."""
    name = run.lower()
    return [
        Column(f"{run} samples/s", "", lambda pair: throughput(row(pair)), plus_minus),
        Column("", f"{name}_samples_per_s", lambda pair: row(pair).samples_per_s),
        Column(f"{run} on", "", lambda pair: place(row(pair).case), words=True),
        Column("", f"{name}_case", lambda pair: row(pair).case.key),
    ]
