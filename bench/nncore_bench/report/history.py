"""How step times went over many runs, and where they changed for good."""

from collections.abc import Sequence
from math import log, sqrt
from typing import Any

import numpy as np
import pandas as pd

from nncore_bench.report.source import Past

COLUMNS = ("run", "name", "device", "low", "median", "high")
LEAST_RUNS = 6
SHORTEST = 3
"""A level that lasts for fewer runs is no step, but a run or two that were disturbed."""

QUARTILES = (0.25, 0.5, 0.75)
SPREAD_OF_MAD = 1.4826


def history_of(runs: Sequence[Past]) -> pd.DataFrame:
    """Return how step times went over some runs, oldest first, relative to the first run that has the case.

    One line a run and device: its place in time from 1, its name, and the median over its cases with their
    quartiles as low and high; so a hundred runs are no larger than one.
    """
    first: dict[Any, float] = {}  # by case
    lines = []
    for place, run in enumerate(runs, 1):
        ratios: dict[str, list[float]] = {}
        for case, step_s in run.step_s.items():
            ratios.setdefault(case.device, []).append(step_s / first.setdefault(case, step_s))
        for device, values in ratios.items():
            low, middle, high = (float(value) for value in np.quantile(values, QUARTILES))
            lines.append((place, run.name, device, low, middle, high))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def steps_in(history: pd.DataFrame) -> list[tuple[str, int]]:
    """Return by device the runs from which on the median stays at another level; none without `ruptures`.

    Least squares on logarithms (PELT: Killick, Fearnhead and Eckley, J. Am. Stat. Assoc. 107, 2012), with
    s from the differences of neighbours by their median absolute deviation; the penalty 6 s^2 log n is thrice
    that of BIC, since s is not known well and runs of one day are not independent.
    """
    try:
        import ruptures  # noqa: PLC0415 - an optional extra
    except ImportError:
        return []
    found = []
    for device, lines in history.groupby("device", sort=False):
        values = np.log(lines["median"].to_numpy(float))
        if len(values) < LEAST_RUNS:
            continue
        jumps = np.diff(values)
        spread = SPREAD_OF_MAD * float(np.median(np.abs(jumps - np.median(jumps)))) / sqrt(2)
        penalty = 6 * max(spread, 1e-6) ** 2 * log(len(values))
        ends = ruptures.Pelt(model="l2", min_size=SHORTEST, jump=1).fit(values[:, None]).predict(pen=penalty)
        runs = lines["run"].tolist()
        found += [(str(device), int(runs[end])) for end in ends if end < len(runs)]
    return found
