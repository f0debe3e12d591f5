"""What training takes in energy: joules of a sample, on each device."""

import pandas as pd

from nncore_bench.report.format import number, plus_minus
from nncore_bench.report.frame import Cells, frame_of, identity, shared_by, shown_columns
from nncore_bench.report.tables import Table
from nncore_bench.verdict import Estimate

MILLI = 1e-3
CAPTION = (
    "Of steps in windows of a second, with the 95 % interval between these. package: all processor packages"
    " (RAPL); GPU: its board (NVML). Meters count whatever runs there, and what idles; rows can be compared"
    " where they are of the same meters. idle W: what they count beforehand, while nothing is enqueued."
)
SAMPLED = (
    " A GPU may sample its power (A100 and H100: for a quarter of the time, arXiv 2312.02741); what it misses"
    " is the same in all windows of a process and not in the interval."
)


def energy_table(cells: Cells) -> Table | None:
    """Return a line for each case whose energy was measured; None where there is none."""
    steps = {case: row for case, row_of in cells.items() if (row := row_of.get("step")) and row.energy_j}
    if not steps:
        return None
    columns = shown_columns(steps)
    lines = []
    for case, row in steps.items():
        step = Estimate(row.energy_j or 0.0, row.energy_low_j, row.energy_high_j)
        lines.append(
            {
                **identity(case, columns),
                "mJ per sample": plus_minus(step, case.batch_size * MILLI),
                "samples per J": number(case.batch_size / row.energy_j if row.energy_j else None),
                "W": number(row.power_w),
                "idle W": number(row.idle_w),
                "of": row.energy_of,
            }
        )
    title = f"Energy of a sample ({shared_by(steps)})"
    caption = CAPTION + SAMPLED * any(case.on_device for case in steps)
    return Table("energy", title, caption, pd.DataFrame(lines), frame_of(steps.values()))
