"""The checks of a run: how far its own numbers can be trusted, case by case and in one sentence."""

from collections.abc import Mapping

from nncore_bench.cases import Case
from nncore_bench.estimate.cells import Cells
from nncore_bench.estimate.rows import EVENTS_TOLERATED, Row
from nncore_bench.runs import Campaign, Run
from nncore_bench.text.format import MICROSECONDS, count, decimals, duration, percentage, several, slowdown
from nncore_bench.text.frame import case_columns, shared_by, shown_columns
from nncore_bench.text.table import Column, Table, only_in_files

LOWEST, HIGHEST = 0.97, 1.03
LARGEST_OFFSET_S = 5e-6
"""A sum of laps is off when it misses the plain step by more than 3 % and by more than 5 µs."""

WORST_LISTED = 5
LARGEST_DISTURBANCE = 1.20

CAPTION = (
    "disturbance: median over undisturbed step. between them: the standard deviation of the launches'"
    " undisturbed steps, beyond what their blocks vary by. values: the times these come from, one a step on"
    " the CPU and one a block on CUDA. lap overhead: what the clock reads between the phases add to a step."
    " phases/step: the laps of a step over the step measured as a whole beside it; 1 is perfect."
)
CHECKED = (
    *("disturbance", "launches", "between_launches", "rounds", "laps", "lap_overhead_s", "unattributed_s"),
    *("phases_over_step", "steady", "interval", "median_s", "mean_s", "time_s"),
    *("reference_smallest_s", "reference_middle_s", "relative_error", "relative_freedom"),
)


def quality_table(cells: Cells) -> Table | None:
    """Return the checks of every case whose step was timed."""
    steps = _steps(cells)
    if not steps:
        return None
    identity = case_columns(shown_columns(steps))
    columns = [*identity, *SHOWN, *only_in_files(CHECKED)]
    title = f"Checks of the measurement ({shared_by(steps)})"
    return Table.of("quality", title, CAPTION, columns, steps.values(), on_screen=False)


def check_lines(run: Run, cells: Cells) -> list[str]:
    """Return the summary of the checks, and a line for every case that fails one."""
    steps = _steps(cells)
    campaign = run.campaign if run.campaign and run.campaign.rounds_done else None
    lines = [_campaign(campaign), *_precision(campaign, steps)] if campaign else []
    ratios = {case: row for case, row in steps.items() if row.phases_over_step is not None}
    if ratios:
        lines.append(_sums(ratios))
        lines += _worst(ratios)
    lines += _events(steps)
    unsteady = [case.key for case, row in steps.items() if not row.steady]
    if unsteady:
        lines.append(f"Not steady after warming up, so perhaps too high: {', '.join(unsteady)}.")
    return lines + _disturbed(steps)


def _events(steps: Mapping[Case, Row]) -> list[str]:
    """Return a line that says by how much events lengthen the steps from whose phases that is taken off."""
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
    """Return a line that names the cases whose median step took much longer than an undisturbed one."""
    found = {case.key: row.disturbance for case, row in steps.items() if row.disturbance is not None}
    found = {key: ratio for key, ratio in found.items() if ratio > LARGEST_DISTURBANCE}
    worst = sorted(found, key=lambda key: -found[key])
    named = [f"{key} ({slowdown(found[key])})" for key in worst[:WORST_LISTED]]
    more = [f"{len(worst) - WORST_LISTED} more"] if len(worst) > WORST_LISTED else []
    line = (
        f"Disturbance above {percentage(LARGEST_DISTURBANCE - 1)} % in {several(len(worst), 'case')}:"
        f" {', '.join([*named, *more])}."
        " Next: end other programs and measure again, or compare the undisturbed steps."
    )
    return [line] if worst else []


def is_off(row: Row) -> bool:
    """Tell whether the laps of a step miss the step by more than 3 % and more than 5 µs."""
    if row.phases_over_step is None or row.median_s is None or LOWEST <= row.phases_over_step <= HIGHEST:
        return False
    return abs(_offset(row)) > LARGEST_OFFSET_S


def _steps(cells: Cells) -> dict[Case, Row]:
    return {
        case: row_of["step"] for case, row_of in cells.items() if "step" in row_of and row_of["step"].time_s
    }


def _microseconds(seconds: float | None) -> str:
    return decimals(None if seconds is None else seconds / MICROSECONDS.seconds, 1)


def _overhead_share(row: Row) -> float | None:
    """Return what the laps cost as a share of the step."""
    return row.lap_overhead_s / row.median_s if row.lap_overhead_s is not None and row.median_s else None


def _campaign(campaign: Campaign) -> str:
    inside = percentage(campaign.measured_s / campaign.wall_s if campaign.wall_s else None)
    return (
        f"The campaign took {duration(campaign.wall_s)} for {campaign.rounds_done} rounds, after"
        f" {duration(campaign.warm_up_s)} of warm-up; {inside} % of it was spent inside measured iterations."
    )


def _precision(campaign: Campaign, steps: Mapping[Case, Row]) -> list[str]:
    """Return how many steps are as precise as was asked for, and how precise the least precise one is."""
    widths = [row.time_high_s / row.time_s - 1 for row in steps.values() if row.time_s and row.time_high_s]
    if not widths:
        return []
    reached, target = sum(width <= campaign.target for width in widths), percentage(campaign.target)
    if reached == len(widths):
        return [f"The target of ± {target} % was reached for the step of every case."]
    missed = (
        f"The target of ± {target} % was reached for the step of {reached} of {len(widths)} cases, the least"
        f" precise is known to ± {percentage(max(widths))} % (--step-budget buys more rounds)."
    )
    return [missed]


def _sums(steps: Mapping[Case, Row]) -> str:
    ratios = sorted(row.phases_over_step for row in steps.values() if row.phases_over_step is not None)
    overheads = [share for row in steps.values() if (share := _overhead_share(row)) is not None]
    good = sum(not is_off(row) for row in steps.values())
    cost = ""
    if overheads:
        low, high = percentage(min(overheads)), percentage(max(overheads))
        cost = f", and the clock reads between them change the step by {low} to {high} %"
    return (
        f"The phases add up to {ratios[0]:.2f} to {ratios[-1]:.2f} times the step measured as a whole{cost};"
        f" {good} of {len(steps)} cases are within 3 % or 5 µs."
    )


def _worst(steps: Mapping[Case, Row]) -> list[str]:
    """Return a line for each of the cases that are off most, and one for how many more there are."""
    off = [(case, row) for case, row in steps.items() if is_off(row)]
    off.sort(key=lambda pair: -abs(_offset(pair[1])))
    more = len(off) - WORST_LISTED
    rest = [f"Off: {more} more, see table quality."] if more > 0 else []
    return [*(_off(case, row) for case, row in off[:WORST_LISTED]), *rest]


def _offset(row: Row) -> float:
    """Return the seconds by which the laps of a step exceed the step."""
    return ((row.phases_over_step or 1.0) - 1) * (row.median_s or 0.0)


def _off(case: Case, row: Row) -> str:
    offset = _offset(row) / MICROSECONDS.seconds
    laps = "smallest" if not case.on_device else "mean"
    ratio = decimals(row.phases_over_step, 4)
    return (
        f"Off: the phases of {case.key} add up to {ratio} times its step ({decimals(offset, 0)} µs),"
        f" by the {laps} laps of neighbouring blocks."
    )


SHOWN = (
    Column("disturbance", "", lambda row: row.disturbance, slowdown),
    Column("launches", "", lambda row: row.launches),
    Column("between them %", "", lambda row: row.between_launches, percentage),
    Column("rounds", "", lambda row: row.rounds),
    Column("values", "", lambda row: row.laps, count),
    Column("lap overhead µs", "", lambda row: row.lap_overhead_s, _microseconds),
    Column("lap overhead %", "", _overhead_share, percentage),
    Column("phases/step", "", lambda row: row.phases_over_step, lambda ratio: decimals(ratio, 3)),
    Column("steady", "", lambda row: row.steady, lambda steady: "yes" if steady else "no", words=True),
)
