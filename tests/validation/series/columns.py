"""The estimates that are compared: columns with a name, each read from every run of a series.

Another estimate of ours is one more function in OURS, from the sources of all runs to their estimates.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from statistics import fmean
from typing import TypeAlias

import numpy as np
from series import PLAIN_FILE
from spread import Floats

from nncore_bench.cases import Case
from nncore_bench.estimate.drift import dispatch_weight, relative_spread, relative_time
from nncore_bench.estimate.estimates import Spread
from nncore_bench.estimate.source import Source, read_source
from nncore_bench.runs import RUN_FILE


@dataclass(frozen=True)
class Estimate:
    """Hold a value with its interval, in seconds; a bound that is unknown is None.

    `freedom` is that with which its standard error is known, where that is known.
    """

    value: float
    low: float | None = None
    high: float | None = None
    freedom: float = nan

    @property
    def half(self) -> float:
        """Return half the interval's width; taken upwards, since the lower bound stops at zero."""
        return nan if self.high is None else self.high - self.value


Estimates: TypeAlias = Mapping[Case, Estimate]


def drift_free(sources: Sequence[Source]) -> list[Estimates]:
    """Return the step over the reference kernels of its run, by which two runs are compared.

    All runs are taken at one weight of dispatch, that of the mean run, as `drift_free_ratio` does with two.
    """
    steps = [{row.case: row for row in source.rows if row.phase == "step"} for source in sources]
    weights: dict[Case, list[float]] = {}
    for rows in steps:
        for case, row in rows.items():
            if (weight := dispatch_weight(row)) is not None:
                weights.setdefault(case, []).append(weight)
    return [
        {
            case: _relative(value, relative_spread(row))
            for case, row in rows.items()
            if case in weights and (value := relative_time(row, fmean(weights[case])))
        }
        for rows in steps
    ]


def _relative(value: float, spread: Spread | None) -> Estimate:
    if spread is None:
        return Estimate(value)
    return Estimate(value, high=value * (1 + spread.half_width), freedom=spread.freedom)


def undisturbed(sources: Sequence[Source]) -> list[Estimates]:
    """Return the undisturbed time of the whole step, which the tables show."""
    return [_of_rows(source, "time") for source in sources]


def lived_through(sources: Sequence[Source]) -> list[Estimates]:
    """Return the median step, disturbances and all."""
    return [_of_rows(source, "median") for source in sources]


def _of_rows(source: Source, name: str) -> Estimates:
    steps = [(row.case, row.as_record()) for row in source.rows if row.phase == "step"]
    return {
        case: Estimate(row[f"{name}_s"], row[f"{name}_low_s"], row[f"{name}_high_s"])
        for case, row in steps
        if row[f"{name}_s"] is not None
    }


OURS: dict[str, Callable[[Sequence[Source]], list[Estimates]]] = {
    "ours, drift taken out": drift_free,
    "ours time_s": undisturbed,
    "ours median_s": lived_through,
}
THEIRS = {"pytest-benchmark mean": "mean", "pytest-benchmark median": "median", "pytest-benchmark min": "min"}


def plain_estimates(file: Path, statistic: str) -> Estimates:
    """Return a statistic of pytest-benchmark's own file, case by case."""
    return {
        _plain_case(**test["params"]): Estimate(test["stats"][statistic])
        for test in json.loads(file.read_bytes())["benchmarks"]
    }


def _plain_case(batch_size: int, hidden: int) -> Case:
    return Case("simplenn", "digits", "cpu", 1, "float32", "eager", batch_size, hidden)


def read_columns(out: Path) -> dict[str, list[Estimates]]:
    """Return the estimates of every finished run of a series, in order, by the name of the estimate."""
    sources = [read_source(path.parent) for path in sorted(out.glob(f"[0-9]*/ours/*/{RUN_FILE}"))]
    files = sorted(out.glob(f"[0-9]*/plain/{PLAIN_FILE}"))
    ours = {name: estimates(sources) for name, estimates in OURS.items()}
    theirs = {name: [plain_estimates(file, key) for file in files] for name, key in THEIRS.items()}
    return ours | theirs


def matrices(runs: list[Estimates], cases: Iterable[Case]) -> tuple[Floats, Floats, Floats]:
    """Return values, half-widths and degrees of freedom as [runs, cases]; nan where a run has none."""
    unknown = Estimate(nan)
    found = [[run.get(case, unknown) for case in cases] for run in runs]
    values, halves, freedoms = (
        np.array([[getattr(estimate, name) for estimate in line] for line in found])
        for name in ("value", "half", "freedom")
    )
    return values, halves, freedoms
