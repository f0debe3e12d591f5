"""Say how far the runs of a series are apart, and how often the intervals hold.

    python tests/validation/series/judge.py DIR [DIR...]

Reads what series.py left. The estimates are in columns.py.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd
from columns import OURS, THEIRS, Estimates, matrices, read_columns
from series import RECORD_FILE
from spread import Coverage, binomial_band, coefficient_of_variation, coverage

from nncore_bench.cases import Case
from nncore_bench.estimate.estimates import COVERAGE
from nncore_bench.runs import RunError
from nncore_bench.text.format import decimals

sys.path.append(str(Path(__file__).parents[1]))  # where slices.py, burner.py and loudness.py are

from loudness import loudness_table
from slices import SETTINGS_FILE, recorded_loudness

WANTED_PAIRS = 500
QUIET_AIM, LOUD_AIM = (0.005, 0.01), (0.02, 0.04)
"""The variation to reach in the median case and in the worst, without a load and beside one."""


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
    aim = QUIET_AIM if load == "none" else LOUD_AIM
    reached = median <= aim[0] and worst <= aim[1]
    aims = [decimals(100 * one, 1) for one in aim]
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
    f"At least {WANTED_PAIRS} pairs are wanted. A perfect instrument gives 95 %; for time_s and median_s,"
    " whose half-widths join as the root of their squares, 97 to 98 % at 3 to 6 degrees of freedom. The band"
    " is that of as many independent pairs, and is too narrow: pairs share runs, and cases a machine."
)


class JudgeError(ValueError):
    """Say in one sentence why a series cannot be judged."""


def judge(out: Path) -> Iterator[str]:
    """Yield what is to be said of a series, paragraph by paragraph."""
    settings: dict[str, Any] = json.loads((out / SETTINGS_FILE).read_bytes())
    columns = read_columns(out)
    if min(map(len, columns.values())) < 2:
        raise JudgeError(f"{str(out)!r} has no two finished runs yet (go on with series.py)")
    cases = list(dict.fromkeys(case for runs in columns.values() for run in runs for case in run))
    frame = variation(columns, cases)
    yield f"## {out.name}: load {settings['load']}, {runs_sentence(out, columns)}"
    yield "Coefficient of variation over runs, %:"
    yield variation_table(frame)
    yield aim_sentence(settings["load"], frame[next(iter(OURS))])
    yield "Intervals of the difference of two runs that hold zero:"
    yield coverage_table(columns, cases)
    yield NOTE
    yield loudness_table([({}, recorded_loudness(out))])


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
    except (OSError, RunError, JudgeError) as error:
        sys.exit(str(error))
    sys.stdout.write("\n\n".join(paragraphs) + "\n")


if __name__ == "__main__":
    main()
