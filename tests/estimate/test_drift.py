"""Drift taken out of two runs, on laps made up so that the answer is known."""

from dataclasses import replace
from math import exp, hypot, log

import numpy as np
import pytest
from made_up_runs import CPU_CASE, block_of, record_of, run_of
from scipy import stats

from nncore_bench.companions import MIDDLE_NETWORK, SMALLEST, SMALLEST_NETWORK
from nncore_bench.estimate.drift import dispatch_weight, drift_free_ratio, relative_time
from nncore_bench.estimate.results import rows_of
from nncore_bench.estimate.rows import Row

LAUNCHES, ROUNDS = 4, 20
DISPATCH_NS, STEP_NS, MIDDLE_NS = 300_000, 1_000_000, 600_000


def step_of(
    *, slower: float = 1.0, dispatch: float = 1.0, arithmetic: float = 1.0, noise: float = 0.0, seed: int = 0
) -> Row:
    """Return the step of a case that is 30 % dispatch, on a machine whose two speeds have drifted."""
    middle = replace(CPU_CASE, batch_size=128, hidden=128)
    smallest = replace(CPU_CASE, batch_size=1, hidden=SMALLEST)
    run = run_of(
        [record_of(CPU_CASE, phases=("step",))],
        companions=(
            record_of(middle, role=MIDDLE_NETWORK, phases=("step",)),
            record_of(smallest, role=SMALLEST_NETWORK, phases=("step",)),
        ),
    )
    random = np.random.default_rng(seed)
    blocks = []
    for number in range(ROUNDS):
        wander = 1 + 0.05 * np.sin(number)  # within the run, in everything alike
        step = DISPATCH_NS * dispatch + (STEP_NS - DISPATCH_NS) * arithmetic
        times = [step * slower, MIDDLE_NS * arithmetic, DISPATCH_NS * dispatch]
        step_ns, middle_ns, small_ns = (round(time * wander * exp(random.normal(0, noise))) for time in times)
        place = {"launch": number % LAUNCHES, "number": number}
        blocks += [
            block_of("plain", laps={"step": step_ns}, case=0, **place),
            block_of("plain", laps={"step": middle_ns}, case=1, **place),
            block_of("plain", laps={"step": small_ns}, case=2, **place),
        ]
    return next(row for row in rows_of(run, blocks) if row.phase == "step")


def test_the_weight_of_dispatch_is_its_share_of_the_step() -> None:
    """300 of 1,000 µs."""
    assert dispatch_weight(step_of()) == pytest.approx(0.3, abs=1e-3)


@pytest.mark.parametrize(("dispatch", "arithmetic"), [(1.05, 1.05), (0.95, 1.0), (1.0, 1.05), (1.03, 0.97)])
def test_a_machine_that_drifts_is_not_taken_for_a_slower_step(dispatch: float, arithmetic: float) -> None:
    """Dispatch and arithmetic may drift apart; the step follows each by its share."""
    ratio = drift_free_ratio(step_of(), step_of(dispatch=dispatch, arithmetic=arithmetic))
    assert ratio is not None
    assert ratio.value == pytest.approx(1.0, abs=1e-3)


def test_a_slower_step_is_found_on_a_machine_that_drifts() -> None:
    """2 % slower, while the machine got 5 % faster."""
    ratio = drift_free_ratio(step_of(), step_of(slower=1.02, dispatch=0.95, arithmetic=0.95))
    assert ratio is not None
    assert ratio.value == pytest.approx(1.02, abs=1e-3)


def test_the_intervals_of_both_runs_join_as_welchs_do() -> None:
    """On the logarithmic scale, each with 1 % that a run does not see in itself."""
    a, b = step_of(noise=0.01, seed=1), step_of(noise=0.01, seed=2)
    ratio = drift_free_ratio(a, b)
    assert ratio is not None
    assert ratio.high is not None
    errors = [row.relative_error or 0.0 for row in (a, b)] + [0.010] * 2
    freedoms = [row.relative_freedom or 0.0 for row in (a, b)] + [20] * 2
    parts = [e**4 / f for e, f in zip(errors, freedoms, strict=True)]
    freedom = hypot(*errors) ** 4 / sum(parts)
    expected = stats.t.ppf(0.975, freedom) * hypot(*errors)
    assert log(ratio.high / ratio.value) == pytest.approx(expected)


def test_what_wanders_within_a_run_alike_widens_no_interval() -> None:
    """5 % over the rounds, in the case and in its references: the interval has no width."""
    assert step_of().relative_error == pytest.approx(0.0, abs=1e-5)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 300 pairs with 1 % of noise in every block, and 0.6 % from run to run, 93 to 99.5 % hold 1."""
    held = 0
    of_run = np.exp(np.random.default_rng(5).normal(0, 0.006, (300, 2)))
    for seed, (first, second) in enumerate(of_run.tolist()):
        a = step_of(noise=0.01, seed=2 * seed, slower=first)
        ratio = drift_free_ratio(a, step_of(noise=0.01, seed=2 * seed + 1, slower=second))
        assert ratio is not None
        assert ratio.low is not None
        assert ratio.high is not None
        held += ratio.low <= 1 <= ratio.high
    assert 279 <= held <= 298


def test_a_run_without_references_is_not_compared() -> None:
    """As one made before there were any."""
    blank = replace(step_of(), reference_smallest_s=None)
    assert dispatch_weight(blank) is None
    assert relative_time(blank, 0.5) is None
    assert drift_free_ratio(step_of(), blank) is None
    assert drift_free_ratio(replace(step_of(), reference_middle_s=None), step_of()) is None
