"""Decisions of the gate, against scipy's intervals, closed forms, and simulated machines."""

from dataclasses import replace
from math import exp, log, sqrt

import numpy as np
import pytest
from made_up_columns import RULE, case_of, column, confirmed, measured
from scipy import stats
from scipy.integrate import quad

from nncore_bench.gate.columns import Column, columns_of
from nncore_bench.gate.decide import Ground, confirm, interval, screen
from nncore_bench.gate.rule import SUITE, Rule
from nncore_bench.gate.signflip import sign_flips
from nncore_bench.gate.text import TAIL_CHANGED, reason_of


def test_the_interval_is_students() -> None:
    """Mean and bounds are those of scipy, on ratios."""
    log_ratios = np.random.default_rng(1).normal(0.01, 0.02, 16)
    expected = stats.t.interval(0.95, 15, loc=log_ratios.mean(), scale=stats.sem(log_ratios))
    found = interval(log_ratios, 0.05)
    assert (found.low, found.high) == pytest.approx(expected)
    decision = confirmed(Column("a", "case", log_ratios, log_ratios + 0.001, 0.05))[0]
    assert decision.ratio == pytest.approx(stats.gmean(np.exp(log_ratios)))
    assert (decision.low, decision.high) == pytest.approx(tuple(np.exp(expected)))
    assert decision.mean_ratio_high == pytest.approx(exp(expected[1] + 0.001))


def test_five_percent_slower_is_slower() -> None:
    """And p is the adjusted one of the sign-flip test, with the words to say so."""
    columns = [column(1.05, 0.02), column(1.0, 0.02, name="b")]
    slower, same = confirmed(*columns)
    kinds = [kind for name in ("low", "mean") for kind in (getattr(one, name) for one in columns)]
    flips = sign_flips(np.stack(kinds), np.random.default_rng(0))
    assert (slower.verdict, same.verdict) == ("slower", "same")
    assert [slower.p, same.p, slower.mean_p, same.mean_p] == flips.adjusted.tolist()
    assert slower.ground == Ground.SLOWER
    assert reason_of(slower, RULE) == f"+5.0 %, at least half the margin of 5.0 %, with p {slower.p:.4f}"
    assert (slower.pairs, slower.stage, slower.kind) == (16, 2, "case")


def test_a_change_of_less_than_half_the_margin_is_not_slower_however_sure() -> None:
    """+2 % known to a hair passes; with block means that scatter it is undecided, and not slower."""
    sure = column(1.02, 0.001)
    decision = confirmed(sure)[0]
    assert decision.p is not None
    assert decision.p <= RULE.alpha
    assert decision.verdict == "same"
    assert confirmed(replace(sure, mean=column(1.02, 0.1).low))[0].verdict == "undecided"


def test_a_change_of_less_than_half_the_margin_that_may_be_above_it_is_undecided() -> None:
    """+2 % with an upper bound of +5.3 %, where p is small enough at an alpha of 20 %."""
    decision = confirmed(column(1.02, 0.06), rule=replace(RULE, alpha=0.2))[0]
    assert decision.p is not None
    assert decision.p <= 0.2
    assert decision.verdict == "undecided"


def test_a_change_that_is_both_within_the_margin_and_surely_above_half_of_it_is_slower() -> None:
    """+3 % known to 0.1 %, at a margin of 5 %: the first stage leaves it open, the second calls it slower."""
    assert confirmed(column(1.03, 0.002))[0].verdict == "slower"
    open_ = screen([column(1.03, 0.002, pairs=8)], RULE)["a"]
    assert open_.verdict == "undecided"
    assert reason_of(open_, RULE) == "look +3.0 %, at least half the margin of 5.0 %"


def test_what_looks_slower_by_half_its_margin_never_passes() -> None:
    """+3 % surely within 5 %, but not proven to be slower at so small an alpha: undecided, by either kind."""
    strict = replace(RULE, alpha=0.0002)
    sure, unsure = column(1.0), column(1.03, 0.027)
    low = confirmed(unsure, *(column(1.0, name=str(n)) for n in range(9)), rule=strict)[0]
    assert low.high < 1.05
    assert low.verdict == "undecided"
    assert reason_of(low, strict).startswith(
        "look +3.0 %, at least half the margin of 5.0 %; +3.0 % on average, with p 0."
    )
    mean = screen([replace(sure, mean=unsure.low)], RULE)["a"]
    assert mean.verdict == "undecided"
    assert reason_of(mean, RULE) == (
        f"{TAIL_CHANGED}: block means look +3.0 %, at least half the margin of 5.0 %, low estimates pass"
    )


def test_seven_percent_seen_by_chance_is_undecided() -> None:
    """The pairs scatter by 20 %: neither verdict is proven, and the reason says how much it may be."""
    decision = confirmed(column(1.07, 0.2))[0]
    assert decision.verdict == "undecided"
    assert reason_of(decision, RULE).startswith(
        "may be +19.0 %, above the margin of 5.0 %; +7.0 % on average, with p 0."
    )


def test_a_tail_that_grew_is_not_a_pass() -> None:
    """Low estimates are alike, block means 17 % apart: slower where they prove it, undecided where not."""
    found = confirmed(column(1.0, mean=(1.17, 0.02)))[0]
    assert found.verdict == "slower"
    assert reason_of(found, RULE) == (
        f"{TAIL_CHANGED}: block means +17.0 %, at least half the margin of 5.0 %, with p {found.mean_p:.4f}"
    )
    for open_ in (
        confirmed(column(1.0, mean=(1.17, 0.4)))[0],
        screen([column(1.0, mean=(1.17, 0.02), pairs=8)], RULE)["a"],
    ):
        assert open_.verdict == "undecided"
        assert reason_of(open_, RULE).startswith(f"{TAIL_CHANGED}: block means may be +")


def test_block_means_are_tested_together_with_the_low_estimates() -> None:
    """Of 200 gates on noise in ten columns, with independent means, as many alarms as alpha says."""
    random = np.random.default_rng(7)
    rule, alarms = replace(RULE, alpha=0.1, margin=0.0001), 0
    for _ in range(200):
        noise = random.normal(0, 0.5, (2, 10, 16))
        columns = [Column(str(n), "case", noise[0, n], noise[1, n], 0.0001) for n in range(10)]
        found = confirm(columns, rule, np.random.default_rng(1))
        alarms += any(one.verdict == "slower" for one in found.values())
    assert 8 <= alarms <= 33


def test_block_means_that_scatter_too_much_are_not_a_pass_either() -> None:
    """+2 % on average, but +6.5 % by their upper bound: it is the bound that counts."""
    decision = confirmed(column(1.0, mean=(1.02, 0.08)))[0]
    assert (decision.verdict, decision.mean_ratio_high) == ("undecided", pytest.approx(1.0644, abs=1e-4))


def test_a_tail_that_shrank_while_the_low_estimate_grew_is_slower() -> None:
    """Block means cannot buy back what the undisturbed step lost."""
    assert confirmed(column(1.06, 0.01, mean=(0.9, 0.01)))[0].verdict == "slower"


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(0.95, "faster"), (1 / 1.026, "faster"), (1 / 1.024, "same"), (1.0, "same")]
)
def test_faster_is_surely_faster_and_by_half_the_margin(ratio: float, verdict: str) -> None:
    """In either stage."""
    assert confirmed(column(ratio))[0].verdict == verdict
    assert screen([column(ratio, pairs=8)], RULE)["a"].verdict == verdict


def test_a_mean_that_is_faster_by_chance_is_same() -> None:
    """-3 % on average with an interval that holds zero."""
    decision = confirmed(column(0.97, 0.065))[0]
    assert decision.low < 1 < decision.high
    assert decision.verdict == "same"


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(1.0, "same"), (0.9, "faster"), (1.05, "undecided"), (2.0, "undecided")]
)
def test_the_first_stage_passes_or_leaves_open(ratio: float, verdict: str) -> None:
    """It has no p, and nothing is slower in it, were it twice as long."""
    decision = screen([column(ratio, pairs=8)], RULE)["a"]
    assert (decision.verdict, decision.p, decision.stage, decision.pairs) == (verdict, None, 1, 8)


def test_pairs_that_never_differ_are_decided_without_a_spread() -> None:
    """Identical times are same, and a constant +10 % is slower; the detectable change is half the margin."""
    same, slower = confirmed(
        Column("a", "case", np.zeros(16), np.zeros(16), 0.05),
        Column("b", "case", np.full(16, log(1.1)), np.full(16, log(1.1)), 0.05),
    )
    assert (same.verdict, same.low, same.high, same.p) == ("same", 1.0, 1.0, 1.0)
    assert (slower.verdict, slower.ratio) == ("slower", pytest.approx(1.1))
    assert same.detectable == pytest.approx(0.025)


def test_too_few_pairs_prove_no_slowdown() -> None:
    """Seven pairs of an interrupted run: p is 1 in 128 at best, above alpha."""
    decision = confirmed(column(1.2, pairs=7))[0]
    assert (decision.verdict, decision.p) == ("undecided", 2.0**-7)


def test_nothing_left_open_needs_no_second_stage() -> None:
    """No columns, no decisions."""
    assert confirm([], RULE, np.random.default_rng(0)) == {}
    assert screen([], RULE) == {}


@pytest.mark.parametrize("verdict", ["slower", "faster"])
def test_identical_arms_are_called_either_once_in_twenty_runs_at_most(verdict: str) -> None:
    """Of 400 runs of 20 correlated columns at alpha 5 %, the binomial 99.9 % bound at most, in either stage.

    For slower the margin is small beside the noise, so that p alone decides; nothing is faster that might be
    slower by its margin, which is wide then.
    """
    margin = 0.0001 if verdict == "slower" else 0.03
    random, rule = np.random.default_rng(31), replace(RULE, alpha=0.05, second_pairs=10)
    judges = [lambda columns: confirm(columns, rule, random), lambda columns: screen(columns, rule)]
    for judge in judges if verdict == "faster" else judges[:1]:
        alarms = 0
        for _ in range(400):
            noise = 0.05 * (random.normal(size=10) + random.normal(size=(20, 10))) / sqrt(2)
            columns = [Column(str(number), "case", y, y, margin) for number, y in enumerate(noise)]
            alarms += any(d.verdict == verdict for d in judge(columns).values())
        assert 0 < alarms <= stats.binom.ppf(0.9995, 400, 0.05)


def test_five_percent_in_one_of_twelve_cases_is_found() -> None:
    """Of 100 runs with 2 % between launch pairs, by the rule as it stands: at least 97, and no other case."""
    random = np.random.default_rng(32)
    found = others = 0
    for _ in range(100):
        noise = random.normal(0, 0.02, (12, 16))
        noise[3] += log(1.05)
        columns = [Column(str(number), "case", y, y, 0.05) for number, y in enumerate(noise)]
        slower = [name for name, d in confirm(columns, RULE, random).items() if d.verdict == "slower"]
        found += "3" in slower
        others += any(name != "3" for name in slower)
    assert found >= 97
    assert others <= stats.binom.ppf(0.9995, 100, 0.005)


def passing(ratio: float, deviation: float, pairs: int, rule: Rule) -> float:
    """Return how often normal log-ratios pass: of each spread they may show, what their mean must be below.

    The mean is normal and independent of the spread, whose square is a scaled chi-squared one.
    """
    error, freedom = deviation / sqrt(pairs), pairs - 1
    bound = stats.t.ppf(1 - rule.alpha_pass / 2, freedom)

    def share(spread: float) -> float:
        highest = min(log(1 + rule.margin) - bound * spread * error, log(1 + rule.margin / 2))
        chi = spread * sqrt(freedom)
        return float(
            stats.norm.cdf((highest - log(ratio)) / error) * stats.chi.pdf(chi, freedom) * sqrt(freedom)
        )

    return float(quad(share, 0, 6)[0])


@pytest.mark.parametrize(
    ("ratio", "deviation"), [(1.0, 0.02), (1.0, 0.05), (1.03, 0.01), (1.05, 0.05), (1.05, 0.02)]
)
def test_as_many_pass_as_their_law_says(ratio: float, deviation: float) -> None:
    """Of 2,000 columns in the first stage, by the binomial 99.9 % interval; at the edge 1 % at most."""
    expected = passing(ratio, deviation, 8, Rule())
    assert ratio < 1.05 or expected <= 0.01
    values = np.random.default_rng(33).normal(log(ratio), deviation, (2000, 8))
    columns = [Column(str(number), "case", y, y, 0.05) for number, y in enumerate(values)]
    passed = sum(one.verdict in ("same", "faster") for one in screen(columns, Rule()).values())
    low, high = stats.binom.interval(0.999, 2000, expected)
    assert low <= passed <= high


def test_columns_of_unlike_pairs_are_refused() -> None:
    """A sign belongs to a pair, in all columns alike."""
    with pytest.raises(ValueError, match="same shape"):
        confirmed(column(1.0, pairs=8), column(1.0, name="b"))


def test_a_suite_that_is_slower_where_no_case_is() -> None:
    """+1.5 % everywhere, at a margin of 1.5 %: the suite is slower, and each of the cases is the same."""
    random = np.random.default_rng(41)
    shifted = {case_of(str(n)): {"step": log(1.015) + random.normal(0, 0.01, 16)} for n in range(12)}
    columns = columns_of({case: measured(low) for case, low in shifted.items()}, shifted, RULE)
    found = {decision.name: decision.verdict for decision in confirmed(*columns)}
    assert found.pop(SUITE) == "slower"
    assert set(found.values()) == {"same"}
