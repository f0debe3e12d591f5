"""Hold the scaling line against batch sizes that it has not seen.

    pytest bench/ --benchmark-only --step-threads=1 --step-batch-sizes=1,8,32,128,300,1024
    python tests/validation/scaling/hold_out.py results/RUN --held-out 8,300

The line is fitted to the other batch sizes of the run, for each of its networks.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from nncore_bench.errors import UserError
from nncore_bench.estimate.rows import Row
from nncore_bench.estimate.source import read_source
from nncore_bench.options import sizes
from nncore_bench.report.scaling import scaling_of

if TYPE_CHECKING:
    from nncore_bench.cases import Case


def predictions(rows: Iterable[Row], held_out: Sequence[int]) -> pd.DataFrame:
    """Return what the line of the others gives each held-out step, and by what share of it that is off."""
    groups: dict[Case, dict[int, float]] = {}
    for row in rows:
        if row.phase == "step" and row.time_s:
            groups.setdefault(replace(row.case, batch_size=0), {})[row.case.batch_size] = row.time_s
    lines = []
    for case, times in groups.items():
        seen = {size: time for size, time in times.items() if size not in held_out}
        line = scaling_of(list(seen), list(seen.values()))
        for size in held_out:
            if line is not None and size in times:
                predicted, measured = line.fixed.value + line.per_sample.value * size, times[size]
                lines.append((case.key, case.hidden, size, measured, predicted, predicted / measured - 1))
    return pd.DataFrame(lines, columns=["case", "hidden", "batch_size", "measured_s", "predicted_s", "off"])


def main() -> None:
    """Print the table and its worst line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--held-out", required=True, metavar="LIST", help="batch sizes to predict")
    given = parser.parse_args()
    try:
        found = predictions(read_source(given.run).rows, sizes("--held-out", given.held_out))
    except UserError as error:
        sys.exit(str(error))
    if found.empty:
        sys.exit("nothing can be predicted (the run needs these batch sizes and three others)")
    shown = found.drop(columns="case").assign(
        measured_s=(found["measured_s"] * 1e6).round(0),
        predicted_s=(found["predicted_s"] * 1e6).round(0),
        off=found["off"].map("{:+.1%}".format),
    )
    shown = shown.rename(
        columns={"measured_s": "measured µs", "predicted_s": "predicted µs", "off": "off by"}
    )
    sys.stdout.write(f"{shown.to_markdown(index=False)}\n\nworst: {found['off'].abs().max():.1%}\n")


if __name__ == "__main__":
    main()
