"""The checks of a run: how far its own numbers can be trusted, case by case and in one sentence."""

from collections.abc import Mapping, Sequence
from operator import attrgetter

from nncore_bench.cases import OTHER, Case
from nncore_bench.estimate.cells import Cells
from nncore_bench.estimate.rows import EVENTS_TOLERATED, Row
from nncore_bench.runs import Campaign, Run
from nncore_bench.text.format import MICROSECONDS, count, decimals, duration, percentage, several, slowdown
from nncore_bench.text.frame import case_columns, shared_by, shown_columns
from nncore_bench.text.table import Column, Table, only_in_files

LOWEST, HIGHEST = 0.97, 1.03
LARGEST_OFFSET_S = 5e-6
"""A sum of laps is off when it misses the plain step by more than 3 % and by more than 5 µs."""

LOUD_WIDTH = 0.10
MORE = "--step-launches and --step-budget buy more"
LOUD = (
    "a quieter hour helps: cases of this run are known better to each other, nncore-bench gate compares"
    " revisions side by side, and selftest says what can be told apart here"
)
"""What helps where an interval is wider than LOUD_WIDTH."""

WORST_LISTED = 5
LARGEST_DISTURBANCE = 1.20

CAPTION = (
    "disturbance: median over undisturbed step. between them: the standard deviation of the launches'"
    " undisturbed steps. values: the times these come from, one a step on"
    " the CPU and one a block on CUDA. lap overhead: what the clock reads between the phases add to a step."
    " phases/step: the laps of a step over the step measured as a whole beside it; 1 is perfect."
)


def _microseconds(seconds: float | None) -> str:
    return decimals(None if seconds is None else seconds / MICROSECONDS.seconds, 1)


def _overhead_share(row: Row) -> float | None:
    """Return the cost of the laps as a share of the step."""
    return row.lap_overhead_s / row.median_s if row.lap_overhead_s is not None and row.median_s else None


SHOWN = (
    Column("disturbance", "disturbance", attrgetter("disturbance"), slowdown),
    Column("launches", "launches", attrgetter("launches")),
    Column("between them %", "between_launches", attrgetter("between_launches"), percentage),
    Column("rounds", "rounds", attrgetter("rounds")),
    Column("values", "laps", attrgetter("laps"), count),
    Column("lap overhead µs", "lap_overhead_s", attrgetter("lap_overhead_s"), _microseconds),
    Column("lap overhead %", "", _overhead_share, percentage),
    *only_in_files(["unattributed_s"]),
    Column("phases/step", "phases_over_step", attrgetter("phases_over_step"), lambda it: decimals(it, 3)),
    Column("steady", "steady", attrgetter("steady"), lambda steady: "yes" if steady else "no", words=True),
    *only_in_files(("interval", "median_s", "mean_s", "time_s", "reference_smallest_s")),
    *only_in_files(("reference_middle_s", "relative_error", "relative_freedom")),
)


def quality_table(cells: Cells) -> Table | None:
    """Return the checks of every case whose step was timed."""
    steps = _steps(cells)
    if not steps:
        return None
    columns = [*case_columns(shown_columns(steps)), *SHOWN]
    title = f"Checks of the measurement ({shared_by(steps)})"
    return Table.of("quality", title, CAPTION, columns, steps.values(), on_screen=False)


def check_lines(run: Run, cells: Cells) -> list[str]:
    """Return the summary of the checks, and a line for every case that fails one."""
    steps = _steps(cells)
    unsteady = [case.key for case, row in steps.items() if not row.steady]
    own = {case for case in steps if OTHER in cells[case]}
    return [
        *(_campaign(run.campaign, steps) if run.campaign and run.campaign.rounds_done else []),
        *_sums([row for case, row in steps.items() if row.phases_over_step is not None and case not in own]),
        *_seams([steps[case] for case in own]),
        *_events(steps),
        *([f"Not steady after warming up, so perhaps too high: {', '.join(unsteady)}."] if unsteady else []),
        *_disturbed(steps),
    ]


def _campaign(campaign: Campaign, steps: Mapping[Case, Row]) -> list[str]:
    """Say where the time of the campaign went, and how many steps are as precise as was asked for."""
    inside = percentage(campaign.measured_s / campaign.wall_s if campaign.wall_s else None)
    took = (
        f"The campaign took {duration(campaign.wall_s)} for {campaign.rounds_done} rounds, after"
        f" {duration(campaign.warm_up_s)} of warm-up; {inside} % of it was spent inside measured iterations."
    )
    widths = [row.time_high_s / row.time_s - 1 for row in steps.values() if row.time_s and row.time_high_s]
    if not widths:
        return [took]
    reached = sum(width <= campaign.target for width in widths)
    missed = (
        f"{reached} of {len(widths)} cases, the least precise is known to ± {percentage(max(widths))} %"
        f" ({LOUD if max(widths) > LOUD_WIDTH else MORE})."
    )
    of_cases = "every case." if reached == len(widths) else missed
    return [took, f"The target of ± {percentage(campaign.target)} % was reached for the step of {of_cases}"]


def _sums(steps: Sequence[Row]) -> list[str]:
    """Return how far the laps of the steps add up to them, and a line for each of those that miss most."""
    if not steps:
        return []
    ratios = [row.phases_over_step for row in steps if row.phases_over_step is not None]
    overheads = [share for row in steps if (share := _overhead_share(row)) is not None]
    off = sorted(filter(_is_off, steps), key=lambda row: -abs(_offset_s(row)))
    cost = ""
    if overheads:
        low, high = percentage(min(overheads)), percentage(max(overheads))
        cost = f", and the clock reads between them change the step by {low} to {high} %"
    line = (
        f"The phases add up to {min(ratios):.2f} to {max(ratios):.2f} times the step measured as a"
        f" whole{cost}; {len(steps) - len(off)} of {len(steps)} cases are within 3 % or 5 µs."
    )
    more = len(off) - WORST_LISTED
    rest = [f"Off: {more} more, see table quality."] if more > 0 else []
    return [line, *map(_off, off[:WORST_LISTED]), *rest]


def _seams(steps: Sequence[Row]) -> list[str]:
    """Say what the seams of own steps cost, which their phases contain and their steps do not."""
    costs = [(row.lap_overhead_s, share) for row in steps if (share := _overhead_share(row)) is not None]
    if not costs:
        return []
    ends = (
        f"{_microseconds(seconds)} µs ({percentage(share)} %)" for seconds, share in (min(costs), max(costs))
    )
    cost = " to ".join(dict.fromkeys(ends))
    line = (
        f"The seams between the phases of its own step add {cost} to it, in blocks with laps alone: the"
        " phases contain them, the step does not."
    )
    return [line]


def _off(row: Row) -> str:
    laps = "mean" if row.case.on_device else "smallest"
    return (
        f"Off: the phases of {row.case.key} add up to {decimals(row.phases_over_step, 4)} times its step"
        f" ({decimals(_offset_s(row) / MICROSECONDS.seconds, 0)} µs), by the {laps} laps of neighbouring"
        " blocks."
    )


def _is_off(row: Row) -> bool:
    """Tell whether the laps of a step miss the step by more than 3 % and more than 5 µs."""
    if row.phases_over_step is None or row.median_s is None or LOWEST <= row.phases_over_step <= HIGHEST:
        return False
    return abs(_offset_s(row)) > LARGEST_OFFSET_S


def _offset_s(row: Row) -> float:
    """Return the seconds by which the laps of a step exceed the step."""
    return ((row.phases_over_step or 1.0) - 1) * (row.median_s or 0.0)


def _events(steps: Mapping[Case, Row]) -> list[str]:
    """Return a line with the lengthening of steps by events, where it is subtracted from their phases."""
    shares = [_overhead_share(row) or 0.0 for case, row in steps.items() if case.on_device]
    taken = [share for share in shares if share > EVENTS_TOLERATED]
    if not taken:
        return []
    line = (
        f"Recording events makes the step of {len(taken)} of {len(shares)} CUDA cases longer by"
        f" {percentage(min(taken))} to {percentage(max(taken))} %, which is taken off their phases in equal"
        " parts; the steps themselves are measured without."
    )
    return [line]


def _disturbed(steps: Mapping[Case, Row]) -> list[str]:
    """Return a line with the cases whose median step took much longer than an undisturbed one."""
    found = {case.key: row.disturbance or 0.0 for case, row in steps.items()}
    worst = [key for key in sorted(found, key=lambda key: -found[key]) if found[key] > LARGEST_DISTURBANCE]
    named = [f"{key} ({slowdown(found[key])})" for key in worst[:WORST_LISTED]]
    more = [f"{len(worst) - WORST_LISTED} more"] if len(worst) > WORST_LISTED else []
    line = (
        f"Disturbance above {percentage(LARGEST_DISTURBANCE - 1)} % in {several(len(worst), 'case')}:"
        f" {', '.join([*named, *more])}."
        " Next: end other programs and measure again, or compare the undisturbed steps."
    )
    return [line] if worst else []


def _steps(cells: Cells) -> dict[Case, Row]:
    steps = {case: row_of["step"] for case, row_of in cells.items() if "step" in row_of}
    return {case: row for case, row in steps.items() if row.time_s}
