"""Say how far the runs of a series are apart, and how often the intervals hold.

    python tests/repeatability/judge.py DIR [DIR...]

Reads what series.py left. Another estimate is a function Source -> Estimates more in OURS.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import nan, sqrt
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from series import PLAIN_FILE, RECORD_FILE, SETTINGS_FILE

from bench.cases import Case
from bench.report import Source, read_source
from bench.report.format import decimals
from bench.report.frame import case_of
from bench.runs import RUN_FILE, RunError
from bench.verdict.estimates import COVERAGE

Floats: TypeAlias = npt.NDArray[np.float64]

WANTED_PAIRS = 500
AIMS = {"none": (0.01, 0.03), "bursty": (0.02, 0.06), "steady": (0.02, 0.06)}
"""The variation to reach in the median case and in the worst, by load."""


@dataclass(frozen=True)
class Estimate:
    """Hold a value with its interval, in seconds; a bound that is unknown is None."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def half(self) -> float:
        """Return half the interval's width; taken upwards, since the lower bound stops at zero."""
        return nan if self.high is None else self.high - self.value


Estimates: TypeAlias = Mapping[Case, Estimate]


@dataclass(frozen=True)
class Coverage:
    """Count how many of some pairs of estimates have an interval of their difference that holds zero."""

    held: int
    pairs: int

    @property
    def share(self) -> float:
        """Return the share of the pairs that hold."""
        return self.held / self.pairs if self.pairs else nan

    def __add__(self, other: "Coverage") -> "Coverage":
        return Coverage(self.held + other.held, self.pairs + other.pairs)


def coefficient_of_variation(values: Floats) -> Floats:
    """Return the standard deviation over the mean of each column of [runs, cases]; nan values are unknown."""
    known = (~np.isnan(values)).sum(axis=0)
    result = np.full(values.shape[1], nan)
    enough = known > 1
    columns = values[:, enough]
    result[enough] = np.nanstd(columns, axis=0, ddof=1) / np.nanmean(columns, axis=0)
    return result


def coverage(values: Floats, halves: Floats, *, neighbours: bool = False) -> Coverage:
    """Count the pairs of runs, or of neighbours only, whose difference is no larger than its half-width.

    Both arrays are [runs, cases]. The half-width of a difference is the root of the sum of the two squares;
    a pair of which a part is unknown does not count.
    """
    runs = range(len(values))
    pairs = zip(runs, runs[1:], strict=False) if neighbours else combinations(runs, 2)
    return sum((_of_pair(values[[i, j]], halves[[i, j]]) for i, j in pairs), Coverage(0, 0))


def _of_pair(values: Floats, halves: Floats) -> Coverage:
    difference, half = np.abs(values[0] - values[1]), np.hypot(halves[0], halves[1])
    known = ~np.isnan(difference + half)
    return Coverage(int((difference[known] <= half[known]).sum()), int(known.sum()))


def binomial_band(pairs: int, share: float = COVERAGE) -> tuple[float, float]:
    """Return roughly where 95 of 100 shares of so many independent pairs lie."""
    half = 1.96 * sqrt(share * (1 - share) / pairs)
    return share - half, min(share + half, 1.0)


def undisturbed(source: Source) -> Estimates:
    """Return the undisturbed time of the whole step, which the tables show."""
    return _of_rows(source, "time")


def lived_through(source: Source) -> Estimates:
    """Return the median step, disturbances and all."""
    return _of_rows(source, "median")


def _of_rows(source: Source, name: str) -> Estimates:
    steps = [(case_of(row), row.as_record()) for row in source.rows if row.phase == "step"]
    return {
        case: Estimate(row[f"{name}_s"], row[f"{name}_low_s"], row[f"{name}_high_s"])
        for case, row in steps
        if row[f"{name}_s"] is not None
    }


OURS: dict[str, Callable[[Source], Estimates]] = {"ours time_s": undisturbed, "ours median_s": lived_through}
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
    ours = {name: [estimate(source) for source in sources] for name, estimate in OURS.items()}
    theirs = {name: [plain_estimates(file, key) for file in files] for name, key in THEIRS.items()}
    return ours | theirs


def matrices(runs: list[Estimates], cases: Iterable[Case]) -> tuple[Floats, Floats]:
    """Return values and half-widths as [runs, cases]; nan where a run has none."""
    unknown = Estimate(nan)
    found = [[run.get(case, unknown) for case in cases] for run in runs]
    values = np.array([[estimate.value for estimate in line] for line in found])
    return values, np.array([[estimate.half for estimate in line] for line in found])


def variation(columns: Mapping[str, list[Estimates]], cases: list[Case]) -> pd.DataFrame:
    """Return the coefficient of variation over runs, a line per case and a column per estimate."""
    index = pd.MultiIndex.from_tuples([(case.batch_size, case.hidden) for case in cases])
    index.names = ["batch", "hidden"]
    found = {name: coefficient_of_variation(matrices(runs, cases)[0]) for name, runs in columns.items()}
    return pd.DataFrame(found, index=index)


def variation_table(frame: pd.DataFrame) -> str:
    """Return the variation in percent, and the median and the worst over cases below it."""
    lines = frame.reset_index().astype({"batch": object, "hidden": object})
    for name, value in (("median", frame.median()), ("worst", frame.max())):
        lines.loc[len(lines)] = {"batch": name, "hidden": "", **value}
    shown = {name: [decimals(100 * value, 2) for value in lines[name]] for name in frame.columns}
    return lines.assign(**shown).to_markdown(index=False, disable_numparse=True)


def aim_sentence(load: str, ours: "pd.Series[float]") -> str:
    """Say whether the variation of our estimate is as small as it should be under this load."""
    median, worst = ours.median(), ours.max()
    reached = median <= AIMS[load][0] and worst <= AIMS[load][1]
    aims = [decimals(100 * aim, 0) for aim in AIMS[load]]
    return (
        f"Aim of ours (load {load}): at most {aims[0]} % in the median case and {aims[1]} % in the worst;"
        f" it is {decimals(100 * median, 2)} % and {decimals(100 * worst, 2)} %:"
        f" {'reached' if reached else 'not reached'}."
    )


def coverage_table(columns: Mapping[str, list[Estimates]], cases: list[Case]) -> str:
    """Return how often the interval of a difference holds zero, for the estimates that have intervals."""
    lines = [
        {"estimate": name, "pairs of runs": kind, **_coverage_cells(coverage(*found, neighbours=near))}
        for name in columns.keys() & OURS.keys()
        for found in [matrices(columns[name], cases)]
        for kind, near in (("all", False), ("neighbours", True))
    ]
    lines.sort(key=lambda line: list(OURS).index(line["estimate"]))
    return pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)


def _coverage_cells(found: Coverage) -> dict[str, str]:
    band = binomial_band(found.pairs) if found.pairs else (nan, nan)
    return {
        "pairs": str(found.pairs),
        "hold zero": str(found.held),
        "%": decimals(100 * found.share, 1),
        "perfect %": decimals(100 * COVERAGE, 0),
        "band %": " to ".join(decimals(100 * end, 1) for end in band),
    }


NOTE = (
    f"At least {WANTED_PAIRS} pairs are wanted. A perfect instrument gives 95 %; the band is that of as many"
    " independent pairs, and is too narrow here: pairs share runs, and the cases of a run its machine's drift."
)


def judge(out: Path) -> Iterator[str]:
    """Yield what is to be said of a series, paragraph by paragraph."""
    settings: dict[str, Any] = json.loads((out / SETTINGS_FILE).read_bytes())
    columns = read_columns(out)
    cases = list(dict.fromkeys(case for runs in columns.values() for run in runs for case in run))
    frame = variation(columns, cases)
    yield f"## {out.name}: load {settings['load']}, {runs_sentence(out, columns)}"
    yield "Coefficient of variation over runs, %:"
    yield variation_table(frame)
    yield aim_sentence(settings["load"], frame[next(iter(OURS))])
    yield "Intervals of the difference of two runs that hold zero:"
    yield coverage_table(columns, cases)
    yield NOTE


def runs_sentence(out: Path, columns: Mapping[str, list[Estimates]]) -> str:
    """Say how many runs there are of each kind, and of how many states of the code."""
    records = [json.loads(path.read_bytes()) for path in out.glob(f"[0-9]*/*/{RECORD_FILE}")]
    states = sorted({record["commit"][:7] + "+changes" * record["dirty"] for record in records})
    ours, plain = len(columns[next(iter(OURS))]), len(columns[next(iter(THEIRS))])
    return f"{ours} runs of ours and {plain} of pytest-benchmark, code {', '.join(states)}"


def main() -> None:
    """Judge the series named on the command line."""
    if len(sys.argv) == 1:
        sys.exit(str(__doc__))
    try:
        paragraphs = [text for name in sys.argv[1:] for text in judge(Path(name).resolve())]
    except (OSError, RunError) as error:
        sys.exit(str(error))
    sys.stdout.write("\n\n".join(paragraphs) + "\n")


if __name__ == "__main__":
    main()
