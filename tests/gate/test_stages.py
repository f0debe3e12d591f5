"""The gate's stages with workers that answer at once: times are known, nothing is measured."""

import os
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import CPU_CASE, CUDA_CASE

from nncore_bench.campaign.launcher import WorkerError
from nncore_bench.cases import Case
from nncore_bench.gate.gate import Gate, GateError
from nncore_bench.gate.outcome import Outcome
from nncore_bench.gate.rule import Rule
from nncore_bench.gate.sides import Sides
from nncore_bench.gate.templates import PAIRS_PER_TEMPLATE, Templates
from nncore_bench.gate.text import decision_records, gate_record, gate_text, headline
from nncore_bench.records import OUTSIDE, CaseCounters, CaseProfile, ProfiledOperator
from nncore_bench.worker import messages

LAPS = np.array([20, 130, 30, 190, 280, 10]) * 1000
CASES = (CPU_CASE, replace(CPU_CASE, hidden=512))
BASE_ALONE = "base"
KILLED = WorkerError("was killed")
Answer = Callable[[str, messages.Request], messages.Reply | None]


class Layout:
    """Name both sides by their folders."""

    def paths(self, *, swapped: bool) -> tuple[Path, Path]:
        letters = ("q", "p") if swapped else ("p", "q")
        return Path(letters[0]) / "base", Path(letters[1]) / "candidate"


def profile_of(factor: float, case: Case) -> CaseProfile:
    """Return a profile in which whatever makes the candidate slower is the product of forward."""
    product = 80.0 + 130 * (factor - 1)
    shares = {"aten::addmm": product / (130 * factor), OUTSIDE: 50 / (130 * factor)}
    operators = tuple(
        ProfiledOperator("forward", name, "fc1", "", "", "", 1.0, name != OUTSIDE, 0.0, share)
        for name, share in shares.items()
    )
    return CaseProfile(case, 17, 660e-6, (), operators)


class Worker:
    """Answer as every worker does, unless `special` has another answer; noise is 0.1 %."""

    def __init__(self, path: str, special: Answer, noise: np.random.Generator, slower: float) -> None:
        self.side, self.special, self.noise = Path(path).name, special, noise
        self.factor = slower if self.side == "candidate" else 1.0

    def ask(self, request: messages.Request) -> messages.Reply:
        if (reply := self.special(self.side, request)) is not None:
            return reply
        if isinstance(request, messages.Prepare):
            return messages.Prepared({"plain": 660e-6, "laps": 660e-6}, steady=True, correct={})
        if isinstance(request, messages.Count):
            return messages.Counted(CaseCounters({}, parameters=7))
        if isinstance(request, messages.Profile):
            return messages.Profiled(profile_of(self.factor, request.case))
        assert isinstance(request, messages.Measure)
        laps = LAPS * self.factor * self.noise.normal(1, 0.001, (request.iterations + 1, len(LAPS)))
        return messages.Measured(laps.astype(np.int64).tobytes(), None, 1)

    def close(self) -> None:
        pass


class Started:
    """Start template processes that start workers, and keep what they were given."""

    def __init__(self, special: Answer, slower: float) -> None:
        self.special, self.slower, self.noise = special, slower, np.random.default_rng(1)
        self.seeds: list[str] = []
        self.pythons: list[str] = []
        self.forked: list[str] = []
        self.cores: list[tuple[int, ...]] = []
        self.spawned: list[str] = []
        self.closed = 0

    def __call__(self, python: str, more: Mapping[str, str]) -> "Started":
        self.pythons.append(python)
        self.seeds.append(more["PYTHONHASHSEED"])
        return self

    def start(self, device: str, path: str, cores: tuple[int, ...]) -> Worker:
        return self.fork(path, cores) if device == "cpu" else self.spawn(path)

    def fork(self, path: str, cores: tuple[int, ...]) -> Worker:
        self.cores.append(cores)
        self.forked.append(path)
        return Worker(path, self.special, self.noise, self.slower)

    def spawn(self, path: str) -> Worker:
        self.spawned.append(path)
        return Worker(path, self.special, self.noise, self.slower)

    def close(self) -> None:
        self.closed += 1


def judged(
    special: Answer = lambda _, __: None,
    slower: float = 1.0,
    cases: tuple[Case, ...] = CASES,
    pythons: tuple[str, str] = (sys.executable, sys.executable),
    **more: Any,  # noqa: ANN401 - fields of the gate
) -> tuple[Outcome, Started]:
    started = Started(special, slower)
    return gate_of(started, cases, pythons, **more).run(), started


def gate_of(
    started: Started,
    cases: tuple[Case, ...] = CASES,
    pythons: tuple[str, str] = (sys.executable, sys.executable),
    **more: Any,  # noqa: ANN401 - fields of the gate
) -> Gate:
    coins = random.Random(1)  # noqa: S311 - coins, and no secret
    templates = Templates(pythons, coins, started)  # type: ignore[arg-type]
    sides = Sides(cases, Layout(), templates, lambda *_: None, coins)  # type: ignore[arg-type]
    given: dict[str, Any] = {"budget_s": 600.0, "progress": lambda *_: None} | more
    return Gate(names=("base", "candidate"), cases=cases, rule=Rule(), random=coins, sides=sides, **given)


def when(
    kind: type[messages.Request], answer: messages.Reply | BaseException, side: str = "", after: int = 0
) -> Answer:
    """Return what answers a kind of request so, of one side or both, after so many usual answers."""
    asked = count()

    def special(name: str, request: messages.Request) -> messages.Reply | None:
        if not isinstance(request, kind) or side not in {"", name} or next(asked) < after:
            return None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return special


def reasons(outcome: Outcome) -> set[str]:
    return {record["reason"] for record in decision_records(outcome)}


def test_what_is_the_same_passes_the_screening() -> None:
    """And nothing is left for the confirming stage."""
    outcome, started = judged()
    assert {decision.verdict for decision in outcome.decisions.values()} == {"same"}
    assert outcome.pairs == (8, 0)
    assert [[len(pairs) for pairs in stages] for stages in outcome.measured.values()] == [[8, 0]] * 2
    assert started.closed == len(started.seeds)


def test_what_is_slower_is_called_so_on_fresh_pairs_alone() -> None:
    """10 % in every case: all columns, with what they were judged by in the record."""
    outcome, _ = judged(slower=1.1)
    assert {decision.verdict for decision in outcome.decisions.values()} == {"slower"}
    assert outcome.pairs == (8, Rule().second_pairs)
    first, second = outcome.measured[CPU_CASE]
    assert (len(first), len(second)) == (8, 16)
    ratio = np.exp(np.mean([pair.low["step"] for pair in second]))
    assert outcome.decisions[CPU_CASE.key].ratio == pytest.approx(ratio)
    low = np.array(first[0].low_ns)
    assert low.shape == (8, 2)
    assert low[:, 1] / low[:, 0] == pytest.approx(1.1, rel=0.01)


def test_a_fresh_template_comes_every_few_pairs_with_a_hash_seed_of_its_own() -> None:
    """Forks of one template share its memory's places and its hash seed."""
    _, started = judged(slower=1.1)
    launches = 2 + 2 * (8 + 16)
    assert len(started.seeds) == -(-launches // (2 * PAIRS_PER_TEMPLATE))
    assert len(set(started.seeds)) == len(started.seeds)


def test_what_makes_a_case_slower_is_told_by_phase_and_operator() -> None:
    """10 % more everywhere, and profiles that lay forward's to its product: 13 of 130 µs."""
    outcome, _ = judged(slower=1.1)
    causes = outcome.causes[CPU_CASE]
    (product,) = [cause for cause in causes if cause.phase == "forward"]
    assert (product.what, product.change) == ("aten::addmm", "slower calls")
    assert product.seconds == pytest.approx(13e-6, rel=0.05)
    text = gate_text(outcome)
    assert "Because: " in text
    assert "forward aten::addmm slower calls" in text
    assert "causes" in gate_record(outcome)


def test_a_slower_mean_over_cases_is_shown_by_the_cases_that_differ_most() -> None:
    """2 % in every case: within the margin of each, and not within the suite's."""
    outcome, _ = judged(slower=1.02)
    assert {one.name for one in outcome.of("slower")} == {"suite"}
    assert set(outcome.causes) == set(CASES)
    assert f"{CPU_CASE.key} may be slower by 13." in gate_text(outcome)


def test_a_case_that_cannot_be_profiled_is_slower_all_the_same() -> None:
    """With its phases alone."""
    outcome, _ = judged(when(messages.Profile, messages.Refused("no profiler here")), slower=1.1)
    assert outcome.causes == {CPU_CASE: (), CASES[1]: ()}
    assert "Because" not in gate_text(outcome)
    assert {decision.verdict for decision in outcome.decisions.values()} == {"slower"}


def test_cuda_sides_are_started_as_their_launcher_can_and_a_device_is_a_column() -> None:
    """Here spawned; times are those of the device, on which nothing is slower here."""

    def spans(side: str, request: messages.Request) -> messages.Reply | None:
        if isinstance(request, messages.SpinUp):
            spun_up.append(side)
            return messages.Done()
        if not isinstance(request, messages.Measure) or request.number == 0:
            return None
        laps = LAPS if request.kind == "laps" else LAPS.sum(keepdims=True)
        device = np.tile(laps, (request.iterations + 1, 1)).astype(np.int64)
        host = device * (3 if side == "candidate" else 1)
        events = device.tobytes() if request.kind == "laps" else None
        return messages.Measured(host.tobytes(), events, int(device[1:].sum()))

    spun_up: list[str] = []
    outcome, started = judged(spans, cases=(CPU_CASE, CUDA_CASE))
    assert spun_up.count("base") == spun_up.count("candidate") == 8  # once a pair: its clock fell meanwhile
    pairs = 2 * (1 + 8)  # counted once, then screened
    assert (len(started.forked), len(started.spawned)) == (pairs, pairs)
    assert {name for name, one in outcome.decisions.items() if one.kind == "device"} == {"cpu", "cuda"}
    assert {one.verdict for one in outcome.decisions.values()} == {"same"}


def test_two_pythons_have_a_template_each() -> None:
    """Both are replaced as often, and every fork is of its own side."""
    outcome, started = judged(pythons=("one/python", "other/python"))
    assert outcome.pairs == (8, 0)
    assert started.pythons.count("one/python") == started.pythons.count("other/python")
    assert len(started.seeds) == 2 * -(-(1 + 8) // PAIRS_PER_TEMPLATE)
    assert started.closed == len(started.seeds)


def test_a_python_that_does_not_start_is_named() -> None:
    """With what it said."""

    class Broken(Started):
        def fork(self, path: str, core: int | None) -> Worker:
            raise WorkerError(f"did not start {path} {core}: No module named 'torch'")

    coins = random.Random(1)  # noqa: S311 - coins, and no secret
    templates = Templates(("one/python", "one/python"), coins, Broken(lambda *_: None, 1.0))  # type: ignore[arg-type]
    with pytest.raises(WorkerError, match=r"No module named 'torch' \(with one/python\)"):
        templates.launch(0, "cpu", Path("p"), None)


def refusing(side: str, *cases: Case) -> Answer:
    def answer(name: str, request: messages.Request) -> messages.Reply | None:
        if name == side and isinstance(request, messages.Prepare) and request.case in cases:
            return messages.Refused("it is not there")
        return None

    return answer


def test_a_case_that_the_candidate_cannot_run_is_an_error() -> None:
    """Never a pass."""
    with pytest.raises(GateError, match="cannot run in the candidate: it is not there"):
        judged(refusing("candidate", CASES[1]))


def test_a_case_that_the_base_cannot_run_is_new() -> None:
    """The others are judged, and with one left there is no suite."""
    outcome, _ = judged(refusing("base", CASES[0]), slower=1.1)
    assert outcome.new == {CASES[0]: "it is not there"}
    assert outcome.cases == CASES[1:]
    assert CASES[0].key not in outcome.decisions
    assert outcome.decisions[CASES[1].key].verdict == "slower"
    assert "suite" not in outcome.decisions


def test_a_case_that_the_base_cannot_count_is_judged_by_its_times() -> None:
    """An older torch may refuse the counters; no change can be told of it."""
    refused = messages.Refused("no counters in this torch")
    outcome, _ = judged(when(messages.Count, refused, BASE_ALONE), slower=1.1)
    assert outcome.new == {}
    assert outcome.changes == {}
    assert {one.verdict for one in outcome.decisions.values()} == {"slower"}


def test_the_worker_that_dies_in_counting_is_named_with_its_case() -> None:
    """The gate cannot go on, and says what it was busy with."""
    started = Started(when(messages.Count, KILLED, BASE_ALONE), 1.0)
    with pytest.raises(GateError, match=f"{CPU_CASE.key} cannot be counted in the base: .* was killed"):
        gate_of(started).run()
    assert started.closed == len(started.seeds) == 1


def test_no_case_in_common_is_an_error() -> None:
    """With the first one's reason."""
    with pytest.raises(GateError, match=r"no case can run in both: .* in the base: it is not there"):
        judged(refusing("base", *CASES))


def test_a_pair_whose_side_dies_is_discarded_and_measured_again() -> None:
    """Whichever side it is; the figures hold whole pairs alone."""
    deaths = iter([False] * 40 + [True])

    def dying(_: str, request: messages.Request) -> messages.Reply | None:
        if isinstance(request, messages.Measure) and next(deaths, False):
            raise WorkerError("was killed")
        return None

    outcome, _ = judged(dying)
    assert [one.endswith(": its worker process was killed") for one in outcome.discarded] == [True]
    assert outcome.pairs == (8, 0)


def test_a_side_that_always_dies_is_an_error_that_names_it() -> None:
    """With the case it was busy with."""
    with pytest.raises(GateError, match=r"cannot be measured in the base: .*was killed \(3 times in a row\)"):
        judged(when(messages.Measure, KILLED, "base"))


def test_a_side_that_dies_in_the_confirming_stage_leaves_what_was_screened() -> None:
    """What is open is undecided, with the reason; what has passed stays passed."""
    outcome, _ = judged(when(messages.Measure, KILLED, "candidate", after=8 * 8 * 2), slower=1.1)
    assert not outcome.interrupted
    assert outcome.pairs == (8, 0)
    assert {one.verdict for one in outcome.decisions.values()} == {"undecided"}
    assert all("was killed (3 times in a row)" in reason for reason in reasons(outcome))


def test_ctrl_c_while_it_is_explained_costs_the_explanation_alone() -> None:
    """All is decided by then."""
    outcome, started = judged(when(messages.Profile, KeyboardInterrupt()), slower=1.1)
    assert not outcome.interrupted
    assert {one.verdict for one in outcome.decisions.values()} == {"slower"}
    assert outcome.causes == {}
    assert started.closed == len(started.seeds)


def test_cases_of_several_threads_have_as_many_cores_in_launches_of_their_own() -> None:
    """Both sides the same ones; the case of one thread has one."""
    outcome, started = judged(cases=(CPU_CASE, replace(CPU_CASE, threads=2)))
    assert {one.verdict for one in outcome.decisions.values()} == {"same"}
    measured = started.cores[2:]  # the first two counted, on any core
    assert len(measured) == 2 * 2 * 8
    assert all(first == second for first, second in zip(measured[::2], measured[1::2], strict=True))
    assert {len(cores) for cores in measured} == {1, min(2, len(os.sched_getaffinity(0)))}


def test_the_folders_change_places_by_a_coin() -> None:
    """Which of the two letters a side sits in, over the pairs of a gate."""
    _, started = judged(slower=1.1)
    letters = [path[0] for path in started.forked if path.endswith("base")]
    assert 5 <= letters.count("q") <= 20


def test_ctrl_c_leaves_what_is_known() -> None:
    """In the confirming stage: what was screened stays, and nothing is slower."""
    special = when(messages.Measure, KeyboardInterrupt(), after=8 * 8 * 2 * 2)
    outcome, started = judged(special, slower=1.1)
    assert outcome.interrupted
    assert {decision.verdict for decision in outcome.decisions.values()} == {"undecided"}
    assert "interrupted, so undecided" in headline(outcome)
    assert started.closed == len(started.seeds)


def test_an_interrupted_screening_tells_what_it_has_seen_and_decides_nothing() -> None:
    """After three pairs; what is the same by them is undecided all the same."""
    special = when(messages.Measure, KeyboardInterrupt(), after=3 * 8 * 2 * 2)
    outcome, _ = judged(special)
    assert {decision.verdict for decision in outcome.decisions.values()} == {"undecided"}
    assert reasons(outcome) == {"interrupted after 3 of 8 pairs"}
    assert outcome.decisions[CPU_CASE.key].ratio == pytest.approx(1.0, abs=0.01)


def test_the_budget_bounds_the_pairs_that_are_wanted() -> None:
    """A noise of 30 % wants more than 16 pairs; a small budget leaves the rule's, a spent one stops."""
    wide = np.random.default_rng(2)

    def noisy(_: str, request: messages.Request) -> messages.Reply | None:
        if not isinstance(request, messages.Measure):
            return None
        laps = np.tile(LAPS, (request.iterations + 1, 1)) * wide.lognormal(0, 0.3)
        return messages.Measured(laps.astype(np.int64).tobytes(), None, 1)

    times = iter(np.arange(0.0, 1e6, 1.0))
    rich, _ = judged(noisy, budget_s=1e6, now=lambda: float(next(times)))
    assert rich.pairs[1] == Rule().most_pairs
    assert rich.wanted is not None
    assert rich.wanted[0] > Rule().most_pairs
    assert "(a gate takes 64 at most)" in gate_text(rich)
    poor, _ = judged(noisy, budget_s=1.0, now=lambda: float(next(times)))
    assert poor.pairs == (2, 0)
    assert {one.verdict for one in poor.decisions.values()} == {"undecided"}
    reason = "the budget of 1 s ended screening after 2 of 8 pairs"
    assert all(one.endswith(reason) for one in reasons(poor))


def test_the_budget_ends_the_confirming_stage_too() -> None:
    """What is slower by 10 % stays undecided where too few pairs are left to prove it."""
    spent = [0.0]

    def now() -> float:
        spent[0] += 1.0
        return spent[0]

    outcome, _ = judged(slower=1.1, budget_s=28.0, now=now)
    assert outcome.pairs[0] == 8
    assert 2 <= outcome.pairs[1] < 8
    assert {one.verdict for one in outcome.decisions.values()} == {"undecided"}
    assert all("the budget of 28 s ended confirming" in reason for reason in reasons(outcome))
    assert "confirming pairs (--budget=" in gate_text(outcome)
