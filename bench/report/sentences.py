"""The three plain sentences: slowest phase, best throughput, and whether the GPU is worth it."""

from collections import Counter
from collections.abc import Mapping
from math import log
from statistics import median

from bench.cases import DOES_NOT_APPLY, STEP_PHASES, Case
from bench.report import devices
from bench.report.format import NOT_AVAILABLE, percentage, unit_for, with_interval
from bench.report.frame import Cells, place, size
from bench.report.throughput import samples_per_s
from bench.verdict import Row

REFERENCE = {"batch_size": 32, "hidden": 128}
"""The case nearest to this one stands for its device: SimpleNN's own width, and a usual small batch."""


def three_sentences(cells: Cells, all_cells: Cells) -> tuple[str, ...]:
    """Return the answers; `cells` were tried, `all_cells` has those as well that were skipped."""
    return slowest_phase(cells), best_throughput(cells), devices.sentence(cells, all_cells)


def slowest_phase(cells: Cells) -> str:
    """Say which phase takes most of the step on each device, and how general that is."""
    with_shares = {case: shares for case, row_of in cells.items() if (shares := _shares(row_of))}
    if not with_shares:
        return "Slowest phase: unknown, no part of the step was measured (-k forward, say, chooses one)."
    parts = []
    for device in dict.fromkeys(case.device for case in with_shares):
        here = {case: shares for case, shares in with_shares.items() if case.device == device}
        parts.append(_on_device(device, here, cells))
    return f"Slowest phase: {'; '.join(parts)}."


def best_throughput(cells: Cells) -> str:
    """Say where the most samples pass per second, and how many at the widest network."""
    steps = [(case, row) for case, row_of in cells.items() if (row := row_of.get("step")) and row.samples_per_s]
    if not steps:
        return "Best throughput: unknown, the whole step was not measured (-k step chooses it)."
    best = max(steps, key=_samples)
    text = f"Best throughput: {_at(best)}"
    widths = sorted({case.hidden for case, _ in steps if isinstance(case.hidden, int)})
    if len(widths) > 1 and best[0].hidden != widths[-1]:
        text += f"; at hidden {widths[-1]}, {_at(max((s for s in steps if s[0].hidden == widths[-1]), key=_samples))}"
    return f"{text}."


def reference(cases: Mapping[Case, object]) -> Case:
    """Return the case that stands for all: nearest to batch 32 and hidden 128, the first of equals."""
    return min(cases, key=lambda case: sum(_distance(getattr(case, name), at) for name, at in REFERENCE.items()))


def _distance(value: int | str, wanted: int) -> float:
    return abs(log(value / wanted)) if isinstance(value, int) else 0.0


def _shares(row_of: Mapping[str, Row]) -> dict[str, float]:
    return {name: row.share for name in STEP_PHASES if (row := row_of.get(name)) and row.share is not None}


def _on_device(device: str, shares: Mapping[Case, Mapping[str, float]], cells: Cells) -> str:
    slowest = Counter(max(of_case, key=lambda name: of_case[name]) for of_case in shares.values())
    phase, times = slowest.most_common(1)[0]
    share = median(of_case[phase] for of_case in shares.values() if phase in of_case)
    others = ", ".join(f"{name} in {count}" for name, count in slowest.most_common()[1:])
    general = f"slowest in {times} of {len(shares)} cases" + (f", {others}" if others else "")
    some = "" if all(len(of_case) == len(STEP_PHASES) for of_case in shares.values()) else " of those reported"
    return (
        f"on {device} {phase}{some}, {percentage(share)} % of the step in the median case ({general});"
        f" at {_example(reference(shares), phase, cells)}"
    )


def _example(case: Case, phase: str, cells: Cells) -> str:
    """Return one case in figures: `batch 32, hidden 128 on cpu, 1 thread: 184 ± 3 of 640 ± 8 µs`."""
    row, step = cells[case].get(phase), cells[case].get("step")
    known = [found for found in (row, step) if found is not None and found.time_s]
    unit = unit_for(found.time_s for found in known)
    times = [
        with_interval(found.time_s / unit.seconds, None if found.time_high_s is None else found.time_high_s / unit.seconds)
        for found in known
        if found.time_s
    ]
    threads = "" if case.threads == DOES_NOT_APPLY else f" on {place(case)}"
    return f"{size(case)}{threads}, {' of '.join(times) or NOT_AVAILABLE} {unit.symbol}"


def _samples(step: tuple[Case, Row]) -> float:
    return step[1].samples_per_s or 0.0


def _at(step: tuple[Case, Row]) -> str:
    case, row = step
    return f"{samples_per_s(row)} samples/s ({size(case)} on {place(case)})"
