"""The slowest phase and the best throughput, in a sentence each."""

from collections import Counter
from collections.abc import Iterable, Mapping
from statistics import median

from nncore_bench.cases import DOES_NOT_APPLY, Case, has_all_parts, parts_in
from nncore_bench.companions import reference_case
from nncore_bench.estimate.cells import Cells
from nncore_bench.estimate.rows import Row
from nncore_bench.report.throughput import samples_per_s
from nncore_bench.text.format import NOT_AVAILABLE, percentage, plus_minus, several, unit_for
from nncore_bench.text.frame import place, size


def slowest_phase(cells: Cells) -> str:
    """Say which phase takes most of the step on each device, and in how many cases."""
    with_shares = {case: shares for case, row_of in cells.items() if (shares := _shares(row_of))}
    if not with_shares:
        return "Slowest phase: unknown, no part of the step was measured."
    parts = []
    for device in dict.fromkeys(case.device for case in with_shares):
        here = {case: shares for case, shares in with_shares.items() if case.device == device}
        parts.append(_on_device(device, here, cells))
    return f"Slowest phase: {'. '.join([parts[0], *(part[0].upper() + part[1:] for part in parts[1:])])}."


def slowest(cells: Cells) -> str | None:
    """Return the phase that takes most of the step in most cases; None if no part was measured."""
    found = _slowest(filter(None, map(_shares, cells.values())))
    return found[0][0] if found else None


def _slowest(shares: Iterable[Mapping[str, float]]) -> list[tuple[str, int]]:
    """Return the slowest phases and the number of cases of each, the commonest first."""
    return Counter(max(of_case, key=lambda name: of_case[name]) for of_case in shares).most_common()


def best_throughput(cells: Cells) -> str:
    """Name the case of the highest throughput, and that of the widest network."""
    measured = [row for row_of in cells.values() if (row := row_of.get("step")) and row.samples_per_s]
    if not measured:
        left_out = cells and not any("step" in row_of for row_of in cells.values())
        hint = " (-k step does)" if left_out else ""
        return f"Best throughput: unknown, the whole step was not measured{hint}."
    steps = sorted(measured, key=lambda row: row.samples_per_s or 0.0, reverse=True)
    text = f"Best throughput: {_at(steps[0])}"
    widths = {row.case.hidden for row in steps if isinstance(row.case.hidden, int)}
    if len(widths) > 1 and steps[0].case.hidden != max(widths):
        widest = next(row for row in steps if row.case.hidden == max(widths))
        text += f"; at hidden {widest.case.hidden}, {_at(widest)}"
    return f"{text}."


def _shares(row_of: Mapping[str, Row]) -> dict[str, float]:
    return {name: share for name in parts_in(row_of) if (share := row_of[name].share) is not None}


def _on_device(device: str, shares: Mapping[Case, Mapping[str, float]], cells: Cells) -> str:
    (phase, times), *rest = _slowest(shares.values())
    share = median(of_case[phase] for of_case in shares.values() if phase in of_case)
    others = "".join(f", {name} in {count}" for name, count in rest)
    where = f"slowest in {'all of them' if times == len(shares) else times}{others}"
    cases = f" (median over {len(shares)} cases; {where})" if len(shares) > 1 else ""
    example = reference_case(shares)
    own = f"{percentage(shares[example].get(phase))} %, "
    link = f"; for example {own}" if len(shares) > 1 else ": "
    all_parts = all(has_all_parts(of_case) for of_case in shares.values())
    return (
        f"on {device}, {phase}{'' if all_parts else ' (of those reported)'} takes {percentage(share)} %"
        f" of the step{cases}{link}{_example(example, phase, cells)}"
    )


def _example(case: Case, phase: str, cells: Cells) -> str:
    """Return one case in figures: `184 ± 3 of 640 ± 8 µs at batch 32, hidden 128, 1 thread`."""
    known = [row for name in (phase, "step") if (row := cells[case].get(name)) and row.time_s]
    unit = unit_for(row.time_s for row in known)
    times = [plus_minus(row.time, unit.seconds) for row in known]
    threads = "" if case.threads == DOES_NOT_APPLY else f", {several(int(case.threads), 'thread')}"
    return f"{' of '.join(times) or NOT_AVAILABLE} {unit.symbol} at {size(case)}{threads}"


def _at(row: Row) -> str:
    return f"{samples_per_s(row)} samples/s ({size(row.case)} on {place(row.case)})"
