"""What can be told apart: a change of the promised size is seen nine times in ten, on noise that is known."""

from dataclasses import replace
from math import log, log1p

import numpy as np
import pytest
from made_up_runs import CPU_CASE

from nncore_bench.cases import Case
from nncore_bench.estimate.estimates import OF_RATIOS, Spread, launch_spread
from nncore_bench.gate.columns import Column
from nncore_bench.gate.decide import confirm, smallest_detectable
from nncore_bench.gate.ratios import PairRatios
from nncore_bench.gate.rule import Rule
from nncore_bench.selftest.resolution import (
    GATE_COLUMNS,
    LAUNCHES,
    Resolution,
    resolution_table,
    resolutions,
    seen_by_compare,
    seen_by_gate,
    seen_in_run,
)

NOISE = 0.02
RUNS = 2000


def pairs(deviation: float, count: int, *cases: Case) -> list[dict[Case, PairRatios]]:
    """Return launch pairs of equal code."""
    random = np.random.default_rng(1)
    return [
        {case: PairRatios({"step": random.normal(0, deviation)}, {}, {}, (), ()) for case in cases}
        for _ in range(count)
    ]


def test_a_difference_inside_a_run_is_seen_nine_times_in_ten() -> None:
    """The ratio of two cases is off by as much as launches are apart."""
    random = np.random.default_rng(0)
    change, error = log1p(seen_in_run(NOISE)), NOISE
    seen = 0
    for _ in range(RUNS):
        spread = launch_spread(random.normal(0, NOISE, LAUNCHES))
        assert spread is not None
        seen += random.normal(change, error) > spread.half_width
    assert 0.8 <= seen / RUNS <= 0.95


@pytest.mark.parametrize("noise", [0.004, 0.02, 0.08])
def test_a_slower_run_is_suspect_nine_times_in_ten(noise: float) -> None:
    """However loud: the margin decides in quiet hours, the interval in loud ones."""
    random = np.random.default_rng(0)
    change, run_to_run = log1p(seen_by_compare(noise)), Spread(0.010, 20.0)
    suspect = 0
    for _ in range(RUNS):
        a, b = (launch_spread(random.normal(0, noise, LAUNCHES), OF_RATIOS) for _ in range(2))
        assert a is not None
        assert b is not None
        half = a.joined(run_to_run).joined(b.joined(run_to_run)).half_width
        error = np.sqrt(2 * ((OF_RATIOS * noise) ** 2 + 0.010**2))
        suspect += random.normal(change, error) > max(half, log(1.05))
    assert 0.8 <= suspect / RUNS <= 0.95


def test_the_gate_sees_what_its_own_bound_says() -> None:
    """With the pairs of its confirming stage at the least, among the columns of the default grid."""
    rule = Rule()
    assert seen_by_gate(NOISE) == smallest_detectable(NOISE, 16, GATE_COLUMNS, 0.05, rule.alpha)
    random, found = np.random.default_rng(0), 0
    change = log1p(seen_by_gate(NOISE))
    for _ in range(100):
        noise = random.normal(0, NOISE, (2, GATE_COLUMNS // 2, 16))
        noise[0, 0] += change
        columns = [Column(str(n), "case", noise[0, n], noise[1, n], 0.05) for n in range(GATE_COLUMNS // 2)]
        found += confirm(columns, rule, random)["0"].verdict == "slower"
    assert 80 <= found <= 97


def test_cases_lend_each_other_what_they_know() -> None:
    """A case whose two launches agree by chance is not promised everything; unknown stays unknown."""
    other = replace(CPU_CASE, hidden=512)
    twins = {CPU_CASE: Spread(0.0, 3.0), other: Spread(0.04, 3.0)}
    relative = {CPU_CASE: None, other: Spread(0.04, 3.0)}
    found, loud = resolutions(twins, relative, pairs(NOISE, 8, CPU_CASE, other))
    assert 0 < (found.run or 0) < (loud.run or 0)
    assert (found.case, found.compare) == (CPU_CASE, None)
    assert loud.compare == pytest.approx(seen_by_compare(0.04))
    assert found.gate == pytest.approx(seen_by_gate(NOISE), rel=0.5)


def test_the_table_says_it_in_percent() -> None:
    """And in shares where programs read it."""
    table = resolution_table([Resolution(CPU_CASE, 0.021, 0.08, None)])
    assert "|    32 |    128 |   2.1 |       8.0 |    n/a |" in table.markdown()
    assert table.records() == [{"batch_size": 32, "hidden": 128, "run": 0.021, "compare": 0.08, "gate": None}]
