"""The hold-out of the scaling line, on times that are known."""

from dataclasses import replace

import pytest
from hold_out import predictions
from made_up_runs import CPU_CASE

from nncore_bench.estimate.rows import Row

FIXED, PER_SAMPLE = 300e-6, 2e-6


def step(batch_size: int, time_s: float) -> Row:
    case = replace(CPU_CASE, batch_size=batch_size)
    return Row(phase="step", case=case, status="ok", reason="", time_s=time_s)


def test_what_lies_on_the_line_is_predicted_and_what_is_held_out_takes_no_part() -> None:
    """One held-out size is on the line of the others, and one takes twice as long as it says."""
    rows = [step(size, FIXED + PER_SAMPLE * size) for size in (1, 8, 32, 128)]
    rows.append(step(300, 2 * (FIXED + PER_SAMPLE * 300)))
    found = predictions(rows, [8, 300])
    assert list(found["batch_size"]) == [8, 300]
    assert list(found["off"]) == pytest.approx([0.0, -0.5], abs=1e-9)


def test_without_three_other_sizes_nothing_is_predicted() -> None:
    """Two points always lie on a line."""
    assert predictions([step(size, 1e-3) for size in (1, 8, 32)], [8]).empty
