"""The fixed cost of a step, its cost per sample, and its speed with more threads."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import nan, sqrt
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from nncore_bench.cases import DOES_NOT_APPLY, Case
from nncore_bench.estimate.cells import Cells
from nncore_bench.estimate.estimates import COVERAGE, Estimate
from nncore_bench.estimate.rows import CASE_COLUMNS, Row
from nncore_bench.text.format import count, decimals, from_to, percentage, plus_minus, several, unit_for
from nncore_bench.text.frame import LABELS, NUMBERS, shared_by, shown_columns
from nncore_bench.text.table import Column, Table

LEAST_SIZES = 3
"""Two points always lie on a line, so they cannot show how well it fits."""

PLATEAU = 0.9
REACH = 10
"""Trust a line up to this many times the largest batch measured."""

ALIKE = 1.25
"""Times are alike if the longest is at most this many times the shortest: those of a bent curve are not."""

SCALING_CAPTION = (
    "Undisturbed step time = fixed + per sample · batch, by least squares of relative distances; intervals"
    " from how far the batch sizes lie from the line. 90 % from: the batch size at which samples/s reach 90 %"
    f" of what an endless batch would have, up to {REACH} times the largest batch measured. flat: no batch"
    " measured makes the step longer; on a device it is then mostly launch-bound. n/a: there is no fixed"
    " cost, or the times are too far from a line. Off by: the batch size farthest from the line."
)
THREADS_CAPTION = (
    "Undisturbed step times; a speed-up has the narrower interval of a comparison inside this run. Best is"
    " the fastest thread count where it is surely faster than the fewest threads, and otherwise the fewest."
)


@dataclass(frozen=True)
class Scaling:
    """The line time = fixed + per_sample · batch, in seconds.

    `plateau_batch` is the batch size that reaches 90 % of the samples per second of an endless batch, None
    where no batch size does, a cost per sample of zero is not ruled out, or it lies beyond the line's reach;
    an upper end of None lies there. `largest_batch` is the largest measured, in samples, and `flat` says that
    no cost per sample was found and all times are alike. `r_squared` is the weighted share of variance that
    the line explains; `worst_miss` by what share of its time the farthest batch size is off the line.
    """

    fixed: Estimate
    per_sample: Estimate
    plateau_batch: Estimate | None
    largest_batch: float
    flat: bool
    r_squared: float
    worst_miss: float


def scaling_of(batch_sizes: Sequence[float], times: Sequence[float]) -> Scaling | None:
    """Fit step times, in seconds, over batch sizes; None where fewer than three sizes differ.

    Least squares of relative distances: a percent counts as much at batch 1 as at batch 1024, as errors of
    times do. Intervals are Student's t with two degrees of freedom fewer than there are sizes, from the
    distances to the line, so that bends of the curve widen them (numpy.polyfit, weights 1/time).
    """
    if len(set(batch_sizes)) < LEAST_SIZES:
        return None
    sizes, seconds = np.asarray(batch_sizes, float), np.asarray(times, float)
    line, covariance = np.polyfit(sizes, seconds, 1, w=1 / seconds, cov=True)
    slope, fixed = line.tolist()
    spread = float(stdtrit(len(sizes) - 2, (1 + COVERAGE) / 2))
    per_sample = Estimate.around(slope, spread * sqrt(covariance[0, 0]))
    misses = (fixed + slope * sizes) / seconds - 1
    mean = np.average(seconds, weights=seconds**-2)
    variance = float(((1 - mean / seconds) ** 2).sum())
    return Scaling(
        fixed=Estimate.around(fixed, spread * sqrt(covariance[1, 1])),
        per_sample=per_sample,
        plateau_batch=_plateau(fixed, slope, spread**2 * covariance, REACH * float(sizes.max())),
        largest_batch=float(sizes.max()),
        flat=not per_sample.exceeds(0) and bool(seconds.max() <= ALIKE * seconds.min()),
        r_squared=1 - float((misses**2).sum()) / variance if variance else nan,
        worst_miss=float(np.abs(misses).max()),
    )


def _plateau(fixed: float, slope: float, wide: npt.NDArray[np.float64], reach: float) -> Estimate | None:
    """Return 9 · fixed / slope with its interval (Fieller, J. R. Stat. Soc. B 16, 1954).

    `wide` is the covariance of slope and fixed times the squared quantile. None where a cost per sample of
    zero is not ruled out, or the quotient lies beyond `reach`; an upper end beyond it is None.
    """
    times = PLATEAU / (1 - PLATEAU)
    square, product, rest = slope**2 - wide[0, 0], fixed * slope - wide[0, 1], fixed**2 - wide[1, 1]
    if fixed <= 0 or slope <= 0 or square <= 0 or times * fixed / slope > reach:
        return None
    half = sqrt(max(product**2 - square * rest, 0.0))
    low, high = (float(times * max(end, 0.0) / square) for end in (product - half, product + half))
    return Estimate(float(times * fixed / slope), low, high if high <= reach else None)


def scaling_table(cells: Cells) -> Table | None:
    """Return a line for each series of at least three batch sizes; None where there is none."""
    series = {
        case: scaling_of(list(times), [time.value for time in times.values()])
        for case, times in _series(cells, "batch_size").items()
    }
    fits = {case: fit for case, fit in series.items() if fit}
    if not fits:
        return None
    plateau = ("plateau_batch", "plateau_batch_low", "plateau_batch_high")
    columns = [
        *_case_columns(fits, "batch_size"),
        _cost("fixed", fits),
        _cost("per_sample", fits),
        Column(
            "90 % from batch",
            "",
            lambda case: _plateau_in_words(case, fits[case]),
            words=not all(fit.plateau_batch for fit in fits.values()),
        ),
        Column("", plateau, lambda case: fits[case].plateau_batch),
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


def _plateau_in_words(case: Case, fit: Scaling) -> str:
    """Return `1,234 (900 to 2,000)`, or why there is no such batch size within the reach of the line.

    The interval of a quotient is lopsided, and may have no upper end.
    """
    if fit.flat:
        return "flat" if not case.on_device else "launch-bound or flat"
    if fit.plateau_batch is None and fit.fixed.value > 0 and fit.per_sample.exceeds(0):
        return f"not reached up to {count(fit.largest_batch)}"
    return from_to(fit.plateau_batch)


def threads_table(cells: Cells) -> Table | None:
    """Return a line for each case that was measured with several thread counts; None where there is none."""
    rows = {case: of for case, of in _rows(cells, "threads").items() if len(of) > 1}
    if not rows:
        return None
    series = {case: _times(of) for case, of in rows.items()}
    counts = sorted({threads for times in series.values() for threads in times})
    unit = unit_for(time.value for times in series.values() for time in times.values())
    speed_ups = {case: _over_the_fewest(of) for case, of in rows.items()}
    columns = _case_columns(series, "threads")
    for threads in counts:
        title, text = f"{several(threads, 'thread')} {unit.symbol}", partial(plus_minus, unit=unit.seconds)
        columns.append(Column(title, f"time_s_{threads}", _of(series, threads), text))
    for threads in counts[1:]:
        title = f"speed-up of {threads}"
        columns.append(Column(title, f"speed_up_{threads}", _of(speed_ups, threads), from_to))
    columns.append(Column("best", "best_threads", lambda case: _best(speed_ups[case], min(series[case]))))
    title = f"Scaling with threads ({shared_by(series)})"
    return Table.of("threads", title, THREADS_CAPTION, columns, series, on_screen=False)


def _of(values: Mapping[Case, Mapping[int, Estimate]], threads: int) -> Callable[[Case], Estimate | None]:
    return lambda case: values[case].get(threads)


def _over_the_fewest(rows: Mapping[int, Row]) -> dict[int, Estimate]:
    """Return the speed-up of each thread count over the fewest."""
    usual = rows[min(rows)]
    return {
        threads: ratio for threads, row in rows.items() if row is not usual and (ratio := usual.over(row))
    }


def _best(speed_ups: Mapping[int, Estimate], fewest: int) -> int:
    """Return the fastest of the thread counts that are surely faster than the fewest, or the fewest."""
    sure = {threads: ratio.value for threads, ratio in speed_ups.items() if ratio.exceeds(1)}
    return max(sure, key=lambda threads: sure[threads], default=fewest)


def _series(cells: Cells, parameter: str) -> dict[Case, dict[int, Estimate]]:
    """Return the undisturbed step times by the values of one parameter, for each case without it."""
    return {case: _times(rows) for case, rows in _rows(cells, parameter).items()}


def _times(rows: Mapping[int, Row]) -> dict[int, Estimate]:
    return {value: row.time for value, row in rows.items() if row.time}


def _rows(cells: Cells, parameter: str) -> dict[Case, dict[int, Row]]:
    """Return the rows of steps by the values of one parameter, for each case without it."""
    without: dict[str, Any] = {parameter: DOES_NOT_APPLY}
    found: dict[Case, dict[int, Row]] = {}
    for case, row_of in cells.items():
        value = getattr(case, parameter)
        if (row := row_of.get("step")) and row.time_s and value != DOES_NOT_APPLY:
            found.setdefault(replace(case, **without), {})[value] = row
    return found


def _case_columns(cases: Iterable[Case], parameter: str) -> list[Column]:
    """Return the columns of the other parameters: all of them in files, those that differ on screen."""
    shown, names = shown_columns(cases), [name for name in CASE_COLUMNS if name != parameter]
    titles = {name: LABELS.get(name, name) if name in shown else "" for name in names}
    return [Column(titles[name], name, attrgetter(name), words=name not in NUMBERS) for name in names]
