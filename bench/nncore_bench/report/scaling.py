"""What a step costs by itself, per sample, and with more threads."""

from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter

import pandas as pd

from nncore_bench.cases import DOES_NOT_APPLY, Case
from nncore_bench.estimate.cells import Cells
from nncore_bench.estimate.estimates import Estimate
from nncore_bench.estimate.rows import CASE_COLUMNS, Row
from nncore_bench.report.scaling_fit import LEAST_SIZES, REACH, Scaling, scaling_of
from nncore_bench.text.format import NOT_AVAILABLE, count, decimals, from_to, percentage, plus_minus, unit_for
from nncore_bench.text.frame import identity, shared_by, shown_columns, threads_in_words
from nncore_bench.text.table import Column, Table

SCALING_CAPTION = (
    "Undisturbed step time = fixed + per sample · batch, by least squares of relative distances; intervals"
    " from how far the batch sizes lie from the line. 90 % from: the batch size at which samples/s reach 90 %"
    f" of what an endless batch would have, up to {REACH} times the largest batch measured. flat: no batch"
    " measured makes the step longer; on a device it is then mostly launch-bound. n/a: there is no fixed"
    " cost, or the times are too far from a line. Off by: the batch size farthest from the line."
)
THREADS_CAPTION = (
    "Undisturbed step times. Best is the fastest thread count where it is surely faster than the fewest"
    " threads, and otherwise the fewest."
)


def scaling_table(cells: Cells) -> Table | None:
    """Return a line for each series of at least three batch sizes; None where there is none."""
    series: dict[Case, dict[int, Row]] = {}
    for case, row in _steps(cells).items():
        if isinstance(case.batch_size, int):
            series.setdefault(replace(case, batch_size=0), {})[case.batch_size] = row
    fits = {case: fit for case, rows in series.items() if (fit := _fit(rows))}
    if not fits:
        return None
    names, visible = [name for name in CASE_COLUMNS if name != "batch_size"], shown_columns(fits)
    columns = [
        *(Column(name if name in visible else "", name, attrgetter(name)) for name in names),
        _cost("fixed", fits),
        _cost("per_sample", fits),
        Column("90 % from batch", "", lambda case: _plateau(case, fits[case])),
        Column(
            "",
            ("plateau_batch", "plateau_batch_low", "plateau_batch_high"),
            lambda case: fits[case].plateau_batch,
        ),
        Column("", "flat", lambda case: fits[case].flat),
        Column("", "largest_batch", lambda case: fits[case].largest_batch),
        Column("R²", "r_squared", lambda case: fits[case].r_squared, lambda share: decimals(share, 4)),
        Column("off by %", "worst_miss", lambda case: fits[case].worst_miss, percentage),
    ]
    title = f"Scaling with the batch size ({shared_by(fits)})"
    return Table.of("scaling", title, SCALING_CAPTION, columns, fits, on_screen=False)


def _cost(name: str, fits: Mapping[Case, Scaling]) -> Column:
    unit = unit_for(getattr(fit, name).value for fit in fits.values())
    names = (f"{name}_s", f"{name}_low_s", f"{name}_high_s")
    title = f"{name.replace('_', ' ')} {unit.symbol}"
    return Column(title, names, lambda case: getattr(fits[case], name), lambda s: plus_minus(s, unit.seconds))


def threads_table(cells: Cells) -> Table | None:
    """Return a line for each case that was measured with several thread counts; None where there is none."""
    series: dict[Case, dict[int, Row]] = {}
    for case, row in _steps(cells).items():
        if isinstance(case.threads, int):
            series.setdefault(replace(case, threads=DOES_NOT_APPLY), {})[case.threads] = row
    several = {case: dict(sorted(rows.items())) for case, rows in series.items() if len(rows) > 1}
    if not several:
        return None
    unit = unit_for(row.time_s for rows in several.values() for row in rows.values())
    columns = shown_columns(several)
    shown, raw = [], []
    for case, rows in several.items():
        ratios, best = best_threads(rows)
        times = {
            f"{threads_in_words(threads)} {unit.symbol}": plus_minus(row.time, unit.seconds)
            for threads, row in rows.items()
        }
        speed_ups = {f"speed-up of {threads}": from_to(ratio) for threads, ratio in ratios.items()}
        shown.append(identity(case, columns) | times | speed_ups | {"best": str(best)})
        raw.append(
            {name: getattr(case, name) for name in CASE_COLUMNS if name != "threads"}
            | {f"time_s_{threads}": row.time_s for threads, row in rows.items()}
            | {f"speed_up_{threads}": ratio.value for threads, ratio in ratios.items()}
            | {"best_threads": best}
        )
    title = f"Scaling with threads ({shared_by(several)})"
    frame = pd.DataFrame(shown).fillna(NOT_AVAILABLE)
    return Table("threads", title, THREADS_CAPTION, frame, pd.DataFrame(raw), on_screen=False)


def best_threads(rows: Mapping[int, Row]) -> tuple[dict[int, Estimate], int]:
    """Return the speed-up of each thread count over the fewest, and the one to take.

    More threads are taken only where they are surely faster than the fewest.
    """
    times = {threads: row.time for threads, row in rows.items() if row.time}
    fewest = min(times)
    ratios = {threads: times[fewest].over(time) for threads, time in times.items() if threads != fewest}
    sure = {threads: ratio for threads, ratio in ratios.items() if ratio.exceeds(1)}
    return ratios, max(sure, key=lambda threads: sure[threads].value, default=fewest)


def _steps(cells: Cells) -> dict[Case, Row]:
    return {case: row for case, rows in cells.items() if (row := rows.get("step")) and row.time_s}


def _fit(rows: Mapping[int, Row]) -> Scaling | None:
    times = {batch: row.time_s for batch, row in rows.items() if row.time_s}
    return scaling_of(list(times), list(times.values())) if len(times) >= LEAST_SIZES else None


def _plateau(case: Case, fit: Scaling) -> str:
    """Return `1,234 (900 to 2,000)`, or in words why there is no such batch size within the line's reach.

    The interval of a quotient is not even on both sides, and may have no upper end.
    """
    batch = fit.plateau_batch
    if fit.flat:
        return "flat" if not case.on_device else "launch-bound or flat"
    if batch is None:
        known = fit.fixed.value > 0 and fit.per_sample.exceeds(0)
        return f"not reached up to {count(fit.largest_batch)}" if known else NOT_AVAILABLE
    return from_to(batch)
