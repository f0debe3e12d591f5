"""Advice: ratios of blocks in the same rounds, against known ones, and what follows from them."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from types import SimpleNamespace

import numpy as np
import pytest
from made_up_runs import CPU_CASE

from nncore_bench.advise.measure import Trial, candidates
from nncore_bench.advise.text import advice_sentences, advice_tables
from nncore_bench.campaign.conductor import OVER
from nncore_bench.campaign.launcher import NO_ANSWER
from nncore_bench.campaign.plan import Plan
from nncore_bench.cases import Case
from nncore_bench.estimate.estimates import Estimate
from nncore_bench.estimate.gains import Gain, Judgement, combinations, gains
from nncore_bench.options import Options
from nncore_bench.records import CaseCounters, CaseRecord, PhaseCounters
from nncore_bench.runs import Block

FUSED, COMPILED = replace(CPU_CASE, variant="fused"), replace(CPU_CASE, variant="compile")
HALF, THREADS = replace(CPU_CASE, precision="bfloat16"), replace(CPU_CASE, threads=2)


def record(case: Case, **correct: float) -> CaseRecord:
    counters = CaseCounters({"step": PhaseCounters(peak_bytes=5000 if case == CPU_CASE else 3000)})
    return CaseRecord(case, ("step",), correct=correct, counters=counters)


def blocks(factors: list[float], noise: float = 0.001) -> list[Block]:
    """Return plain blocks of cases that take so many times a millisecond; machine and launches wander."""
    random = np.random.default_rng(0)
    found = []
    for launch in range(4):
        for cycle in range(5):
            machine = random.lognormal(0, 0.1)
            for number, factor in enumerate(factors):
                laps = 1e6 * factor * machine * random.lognormal(0, noise, (5, 1))
                host = laps.astype(np.int64)
                found.append(
                    Block("plain", host, None, int(host[1:].sum()), 0, number, launch, 4 * cycle + launch)
                )
    return found


def test_a_ratio_holds_though_the_machine_wanders() -> None:
    """By 10 % from round to round, while the variants differ by exactly 1.25 and 0.8."""
    records = [record(CPU_CASE), record(FUSED, first_step_s=0.1), record(COMPILED, first_step_s=8.0)]
    fused, compiled = gains(records, blocks([1.0, 0.8, 1.25]), CPU_CASE)
    low, high = bounds_of(fused)
    assert value_of(fused) == pytest.approx(1.25, rel=0.002)
    assert 1.24 < low < 1.25 < high < 1.26
    assert (fused.judgement, compiled.judgement) == ("faster", "slower")
    assert (fused.extra_bytes, compiled.extra_bytes) == (-2000, None)
    assert compiled.pays_after == inf


def test_what_a_first_step_costs_is_paid_back_by_the_steps_that_follow() -> None:
    """About 8 s for a step of 0.8 ms that saves 0.2: after some 40,000 steps."""
    (found,) = gains([record(CPU_CASE), record(COMPILED, first_step_s=8.0)], blocks([1.0, 0.8]), CPU_CASE)
    assert found.once_s == pytest.approx(8.0, rel=0.001)
    assert found.pays_after == pytest.approx(40_000, rel=0.2)  # the machine's midmean is not 1 exactly


def test_other_numbers_are_not_ranked_however_fast() -> None:
    """Beyond the tolerance, or not a number; within it they are."""
    for error, judgement in ((2.0, "other numbers"), (float("nan"), "other numbers"), (1e-6, "faster")):
        seen = record(FUSED, gradient_error=error, tolerance=1e-3)
        assert gains([record(CPU_CASE), seen], blocks([1.0, 0.5]), CPU_CASE)[0].judgement == judgement


def test_an_error_that_is_no_number_is_not_hidden_by_those_that_are() -> None:
    """Whichever of the three it is."""
    for name in ("loss_error", "gradient_error", "parameter_error"):
        errors = {"loss_error": 0.0, "gradient_error": 0.0, "parameter_error": 0.0, name: float("nan")}
        seen = record(FUSED, **errors, tolerance=1e-3)
        assert gains([record(CPU_CASE), seen], blocks([1.0, 0.5]), CPU_CASE)[0].judgement == "other numbers"


def test_a_device_is_judged_by_the_wall_clock_and_not_by_what_the_host_enqueues() -> None:
    """Plain blocks have no events: the host is done in the same time, and the device takes half as long."""
    on_device = [replace(case, device="cuda", threads="-") for case in (CPU_CASE, FUSED)]
    made = [
        replace(block, host=np.full((5, 1), 1000, np.int64), wall_ns=block.wall_ns)
        for block in blocks([1.0, 0.5])
    ]
    (found,) = gains([record(case) for case in on_device], made, on_device[0])
    assert value_of(found) == pytest.approx(2.0, rel=0.01)


def test_what_was_not_measured_is_a_row_with_its_reason() -> None:
    """Skipped, failed, or without a second round."""
    skipped = CaseRecord(FUSED, ("step",), status="skipped", reason="fused needs wings")
    found = gains([record(CPU_CASE), skipped, record(COMPILED)], blocks([1.0]), CPU_CASE)
    assert [(one.judgement, one.reason) for one in found] == [
        ("cannot run", "fused needs wings"),
        ("cannot run", "no two rounds were finished"),
    ]


def test_rounds_in_which_a_neighbour_was_busy_cost_nothing() -> None:
    """In every launch one block in five of either takes half as long again."""
    made = [
        replace_host(block, 1.5 if (block.round // 4 + block.launch + 2 * block.case) % 5 == 0 else 1.0)
        for block in blocks([1.0, 0.8])
    ]
    (found,) = gains([record(CPU_CASE), record(FUSED)], made, CPU_CASE)
    low, high = bounds_of(found)
    assert value_of(found) == pytest.approx(1.25, rel=0.1)
    assert low < 1.25 < high


def test_of_a_single_launch_the_rounds_tell() -> None:
    """Its five rounds are told apart, though not from what another process would show."""
    one = [block for block in blocks([1.0, 0.8]) if block.launch == 0]
    (found,) = gains([record(CPU_CASE), record(FUSED)], one, CPU_CASE)
    assert value_of(found) == pytest.approx(1.25, rel=0.002)
    assert found.judgement == "faster"


def test_what_is_faster_by_less_than_a_percent_is_not_worth_a_line_of_code() -> None:
    """However sure it is."""
    sure = gain(FUSED, 1.005, within=0.001)
    assert not sure.worth_it
    assert gain(FUSED, 1.02).worth_it
    assert "Nothing here is worth it" in advice_sentences(CPU_CASE, [sure])[0]


def test_equal_arms_show_no_difference() -> None:
    """In 40 tables of eight equal variants, hardly ever one that is called faster or slower."""
    wrong = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        made = [replace_host(block, random.lognormal(0, 0.02)) for block in blocks([1.0] * 9)]
        words = [replace(CPU_CASE, threads=n) for n in range(2, 10)]
        found = gains([record(CPU_CASE), *(record(case) for case in words)], made, CPU_CASE)
        wrong += any(one.judgement not in {"no difference", "undecided"} for one in found)
    assert wrong <= 6


def test_no_difference_is_said_only_of_what_is_known_well_enough() -> None:
    """The same equal arms: an interval within 5 % says so, one that reaches further decides nothing."""
    for noise, judgement in ((0.005, "no difference"), (0.2, "undecided")):
        random = np.random.default_rng(1)
        made = [replace_host(block, random.lognormal(0, noise)) for block in blocks([1.0, 1.0], noise=1e-9)]
        (found,) = gains([record(CPU_CASE), record(FUSED)], made, CPU_CASE)
        low, high = bounds_of(found)
        assert found.judgement == judgement
        assert (low > 1 / 1.05 and high < 1.05) == (judgement == "no difference")


def replace_host(block: Block, factor: float) -> Block:
    return replace(block, host=(block.host * factor).astype(np.int64))


def gain(
    case: Case, speed_up: float, judgement: Judgement = "faster", about: str = "step", within: float = 0.02
) -> Gain:
    return Gain(case, about, judgement, "", Estimate.around(speed_up, within), 1e-3, 0.0, 0, 0.0, 0.0)


def value_of(found: Gain) -> float:
    assert found.speed_up is not None
    return found.speed_up.value


def bounds_of(found: Gain) -> tuple[float, float]:
    assert found.speed_up is not None
    assert found.speed_up.low is not None
    assert found.speed_up.high is not None
    return found.speed_up.low, found.speed_up.high


def test_the_best_of_each_kind_are_joined() -> None:
    """Fused beats foreach; what is slower, or other numbers, stays out."""
    found = [
        gain(FUSED, 1.3), gain(replace(CPU_CASE, variant="foreach"), 1.1), gain(THREADS, 1.5),
        gain(COMPILED, 0.9, "slower"), gain(HALF, 2.0, "other numbers"),
        gain(replace(CPU_CASE, variant="resident"), 1.4, about="feeding"),
    ]  # fmt: skip
    assert combinations(found, CPU_CASE) == [replace(CPU_CASE, variant="fused", threads=2)]
    assert combinations(found[:2], CPU_CASE) == []
    assert combinations([], CPU_CASE) == []


def test_what_is_undecided_and_looked_faster_is_tried_together_with_what_is_sure() -> None:
    """Beside what is sure alone, and of a kind that has nothing sure; not where it looked no faster."""
    hoped = replace(gain(THREADS, 1.03, "undecided"), speed_up=Estimate(1.03, 0.86, 1.24))
    both = replace(CPU_CASE, variant="fused", threads=2)
    assert combinations([gain(FUSED, 1.3), hoped], CPU_CASE) == [both]
    assert (
        combinations([gain(FUSED, 1.3), replace(hoped, speed_up=Estimate(0.99, 0.86, 1.24))], CPU_CASE) == []
    )
    assert (
        combinations([gain(FUSED, 1.3), replace(hoped, speed_up=Estimate(1.03, 0.86, 1.04))], CPU_CASE) == []
    )
    foreach = replace(hoped, case=replace(CPU_CASE, variant="foreach"))
    assert combinations([gain(FUSED, 1.3), foreach], CPU_CASE) == []
    half = gain(HALF, 1.2, within=0.1)
    assert combinations([gain(FUSED, 1.3), half, hoped], CPU_CASE) == [
        replace(CPU_CASE, variant="fused", precision="bfloat16"),
        replace(both, precision="bfloat16"),
    ]


def test_of_combinations_that_is_told_which_is_surely_the_fastest() -> None:
    """By the lower end; and what remains undecided is named with how far it may reach."""
    hoped = replace(gain(THREADS, 1.03, "undecided"), speed_up=Estimate(1.03, 0.86, 1.24))
    sure = gain(replace(FUSED, precision="bfloat16"), 1.5)
    wide = gain(replace(FUSED, precision="bfloat16", threads=2), 1.6, within=0.4)
    _, together, undecided = advice_sentences(CPU_CASE, [gain(FUSED, 1.3), hoped], [wide, sure])
    assert together.startswith("Best together, measured and not multiplied: fused + bfloat16, 1.50 times")
    assert undecided.startswith(
        "Undecided by itself, and may be worth it: 2 threads, 1.03 times as fast (0.86 to 1.24)."
    )
    _, no_more, _ = advice_sentences(CPU_CASE, [gain(FUSED, 1.3), hoped], [wide])
    assert no_more.endswith("1.6 times as fast (1.2 to 2.0), which is not surely more than fused by itself")
    nothing, _ = advice_sentences(CPU_CASE, [hoped])
    assert nothing.startswith("Nothing here is worth it")
    (_, failed, _) = advice_sentences(
        CPU_CASE, [gain(FUSED, 1.3), hoped], [replace(wide, judgement="undecided")]
    )
    assert failed == "Together (fused + bfloat16 + 2 threads) they are not surely faster: undecided"


def test_nothing_is_worth_it_where_nothing_is_faster() -> None:
    """In so many words; otherwise what to write, and the measured combination."""
    assert "Nothing here is worth it" in advice_sentences(CPU_CASE, [gain(COMPILED, 0.9, "slower")])[0]
    lines = advice_sentences(CPU_CASE, [gain(FUSED, 1.3)], [gain(replace(FUSED, threads=2), 1.7)])
    assert lines[0].startswith(
        "Best by itself: fused, 1.30 times as fast (1.28 to 1.32). Write:\n    optimizer"
    )
    assert lines[1].startswith("Best together, measured and not multiplied: fused + 2 threads, 1.70 times")
    feeding = gain(replace(CPU_CASE, variant="resident"), 1.4, about="feeding")
    step, loop = advice_sentences(CPU_CASE, [gain(FUSED, 1.3), feeding])
    assert step.startswith("Best by itself: fused")
    assert loop.startswith("Of feeding: resident")


def test_the_table_ranks_what_is_faster_first_and_says_why_others_are_not() -> None:
    """One table for each thing that something was tried for."""
    skipped = Gain(replace(CPU_CASE, variant="cudagraph"), "step", "cannot run", "cudagraph needs CUDA")
    found = [skipped, gain(COMPILED, 0.9, "slower"), gain(FUSED, 1.3), gain(HALF, 2.0, "other numbers")]
    (table,) = advice_tables({CPU_CASE: found})
    assert table.shown["change"].tolist() == ["fused", "compile", "bfloat16", "cudagraph"]
    assert table.shown["code, or why not"].tolist()[-1] == "cudagraph needs CUDA"
    assert "| fused " in table.markdown()


def test_a_device_has_all_threads_as_a_candidate_only_where_there_are_more() -> None:
    """Each candidate differs from the base in one thing."""
    for threads in (1, 2):
        cases = candidates(CPU_CASE, threads)
        assert (THREADS in cases) == (threads == 2)
        assert CPU_CASE not in cases
        assert len(set(cases)) == len(cases)


class MadeUpTrial(Trial):
    """Campaigns that take a known time by a made-up clock, and find that every change is faster."""

    def __init__(self, until: float, plain_s: float, compiling_s: float) -> None:
        super().__init__(NoSuite(), CPU_CASE, lambda *_: None, until)  # type: ignore[arg-type] # no suite is asked
        self.seconds, self.plain_s, self.compiling_s = 0.0, plain_s, compiling_s
        self.campaigns: list[list[str]] = []

    def now(self) -> float:  # type: ignore[override] # a method where the real one is a function
        return self.seconds

    def gains_of(self, cases: Sequence[Case], share: float) -> list[Gain]:
        self.campaigns.append([case.variant for case in cases])
        runs = {case: not NoSuite().skip_reason(case) for case in cases}
        self.seconds += share * self.plain_s
        self.seconds += sum(self.compiling_s for case in cases if case.form.compiled and runs[case])
        return [gain(case, 1.2, "faster" if runs[case] else "cannot run") for case in cases]


class NoSuite:
    """A machine without CUDA."""

    def skip_reason(self, case: Case) -> str:
        return "needs CUDA" if case.variant == "reduce-overhead" else ""


TRIED = [replace(CPU_CASE, variant=name) for name in ("fused", "reduce-overhead", "compile", "compile-max")]


def test_advice_compiles_one_by_one_while_there_is_time_and_names_what_is_left_out() -> None:
    """40 s without compiling, 16 + 70 s for the first that is compiled: 126 of 180, too much for another."""
    trial = MadeUpTrial(until=180, plain_s=40, compiling_s=70)
    trial.try_all(TRIED)
    trial.join()
    assert trial.campaigns == [["fused", "reduce-overhead"], ["compile"]]
    assert trial.left_out == ["compile-max", "fused+compile"]
    assert trial.seconds == 126


def test_with_time_enough_advice_tries_all_and_joins_the_best() -> None:
    """40 + 2 x (16 + 20) s, and 16 + 20 for both together: 148 of 180."""
    trial = MadeUpTrial(until=180, plain_s=40, compiling_s=20)
    trial.try_all(TRIED)
    trial.join()
    assert trial.campaigns[1:3] == [["compile"], ["compile-max"]]
    assert len(trial.campaigns) == 4
    assert trial.left_out == []
    assert trial.seconds == 148


def test_what_did_not_end_in_time_is_named_and_every_campaign_knows_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A variant not begun, one whose compiling was ended, and launches for which there was no time."""
    ended = f"its worker process {NO_ANSWER} within 9 s and was killed"
    records = (
        record(CPU_CASE),
        CaseRecord(FUSED, ("step",), status="failed", reason=OVER),
        CaseRecord(COMPILED, ("step",), status="failed", reason=ended),
        CaseRecord(HALF, ("step",), status="failed", reason=ended),
    )
    plans: list[Plan] = []

    def measured(_suite: object, _base: Case, _cases: object, plan: Plan, _progress: object) -> object:
        plans.append(plan)
        return SimpleNamespace(run=SimpleNamespace(cases=records), blocks=blocks([1.0]))

    monkeypatch.setattr("nncore_bench.advise.measure._measured", measured)
    suite = SimpleNamespace(
        options=Options.build({"step_launches": "6", "step_budget": "20"}), launcher=SimpleNamespace()
    )
    trial = Trial(suite, CPU_CASE, lambda *_: None, until=1000.0)  # type: ignore[arg-type] # a stand-in
    found = trial.gains_of([FUSED, COMPILED, HALF], 0.4)
    assert [gain.case for gain in found] == [HALF]  # which does not compile, so that it hangs
    assert trial.left_out == ["fused", "compile", "2 of 6 launches"]
    assert (plans[0].until, plans[0].budget_s) == (1000.0, 8.0)
    assert suite.launcher.compile_by < 1000.0


def test_advice_that_has_used_its_time_compiles_nothing() -> None:
    """With less than 20 s left."""
    trial = MadeUpTrial(until=59, plain_s=40, compiling_s=1)
    trial.try_all(TRIED)
    assert trial.left_out == ["compile", "compile-max"]
