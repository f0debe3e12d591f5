"""Gates drawn from recorded pairs: the rule itself, on noise and effects that are known."""

import json
from typing import Any, cast

import numpy as np
import pytest
from gate_code import ROOT
from judge_gates import JudgeError, read_gates
from rejudge_gates import why_not
from replay_gates import EFFECTS, Effect, drawn, line, pairs_of

from nncore_bench.cases import STEP_PHASES
from nncore_bench.gate.decide import Verdict
from nncore_bench.gate.ratios import STEP
from nncore_bench.gate.text import gate_record

MEASURED = (STEP, *STEP_PHASES)

KEYS = ("cpu-t1-float32-eager-b32-h128", "cpu-t1-float32-eager-b128-h512")


def records(deviation: float, gates: int = 12) -> list[dict[str, Any]]:
    """Return gates of two cases with eight screening pairs each, and a confirming one that is far off."""
    noise = np.random.default_rng(0)

    def pair(stage: int, shift: float) -> dict[str, Any]:
        low, mean = (
            dict(
                zip(
                    MEASURED,
                    shift + noise.normal(0, deviation, len(MEASURED)),
                    strict=True,
                )
            )
            for _ in range(2)
        )
        return {"stage": stage, "low": low, "mean": mean, "low_ns": [(100, 100)], "mean_ns": [(105, 105)]}

    return [
        {"measured": {key: [*(pair(1, 0.0) for _ in range(8)), pair(2, 9.0)] for key in KEYS}}
        for _ in range(gates)
    ]


def test_the_screening_pairs_are_drawn_from_whole() -> None:
    """Eight of each gate, with both cases; what was confirmed was picked."""
    pairs = pairs_of(records(0.01))
    assert len(pairs) == 96
    assert all(set(pair) == set(KEYS) for pair in pairs)
    assert max(abs(pair[key]["low"]["step"]) for pair in pairs for key in KEYS) < 1


def test_an_effect_is_found_in_its_case_alone_and_nothing_is_the_same() -> None:
    """With 1 % between pairs, 5 % in one case of two."""
    pairs = pairs_of(records(0.01))
    same = [drawn(pairs, EFFECTS["nothing"], seed) for seed in range(10)]
    assert {one.verdict for outcome in same for one in outcome.decisions.values()} <= {
        Verdict.SAME,
        Verdict.UNDECIDED,
    }
    found = [drawn(pairs, EFFECTS["+5 % in one case"], seed) for seed in range(10)]
    assert [outcome.decisions[KEYS[0]].verdict for outcome in found] == [Verdict.SLOWER] * 10
    assert [outcome.decisions[KEYS[1]].verdict for outcome in found] == [Verdict.SAME] * 10
    assert found[0].decisions[KEYS[0]].ratio == pytest.approx(1.05, abs=0.01)


def test_a_phase_is_found_in_its_own_column() -> None:
    """5 % of backward everywhere is 1 % of a step of five equal phases."""
    pairs = pairs_of(records(0.001))
    outcome = drawn(pairs, EFFECTS["+5 % in every backward"], 0)
    assert outcome.decisions["backward"].ratio == pytest.approx(1.05, abs=0.002)
    assert outcome.decisions[KEYS[1]].ratio == pytest.approx(1.01, abs=0.002)
    assert "1 of 1 (" in line("backward", EFFECTS["+5 % in every backward"], [outcome])["found"]


def test_noise_that_wants_more_pairs_than_were_recorded_is_said() -> None:
    """Eight pairs are a screening and no more."""
    with pytest.raises(JudgeError, match="8 recorded pairs are too few"):
        drawn(pairs_of(records(0.2, gates=1)), Effect(0.0), 0)


def recorded(share: float) -> dict[str, Any]:
    """Return the record of a gate with so much more in one case, at a margin of 5 %, as its file holds it."""
    outcome = drawn(pairs_of(records(0.005)), Effect(share), 0)
    return cast("dict[str, Any]", json.loads(json.dumps(gate_record(outcome))))


@pytest.mark.parametrize("share", [0.0, 0.05, -0.05])
def test_a_recorded_gate_stands_under_the_rule_that_made_it(share: float) -> None:
    """It asks for the pairs that it had, and comes to the same verdicts."""
    assert why_not(recorded(share)) == ""


def test_a_recorded_gate_that_would_be_decided_otherwise_does_not_stand() -> None:
    """A verdict that is another now, a confirming stage where none was, and one that needs more pairs."""
    record = recorded(0.05)
    assert record["pairs"] == [8, 16]
    shown = next(one for one in record["decisions"] if one["name"] == KEYS[0])
    shown["verdict"] = Verdict.SAME
    assert why_not(record) == f"{KEYS[0]} was same, is slower"
    shown["verdict"] = Verdict.SLOWER
    record["measured"][KEYS[0]][-1:] = []
    assert why_not(record) == f"confirming {KEYS[0]} would take 16 pairs, and 15 are recorded"
    passed = recorded(0.0)
    for pair in passed["measured"][KEYS[1]]:
        pair["low"]["step"] += 0.03
    assert why_not(passed).endswith(" would take 16 pairs, and 0 are recorded")


def test_a_gate_that_had_no_time_for_more_pairs_stands() -> None:
    """Noise that asks for more than sixteen pairs, in a gate that took nearly its ten minutes."""
    record = recorded(0.05)
    for pair in record["measured"][KEYS[0]][:8:2]:
        pair["low"]["step"] += 0.1
    needed = why_not(record)
    assert needed.startswith(f"confirming {KEYS[0]} would take ")
    assert needed.endswith(" pairs, and 16 are recorded")
    assert why_not(record | {"seconds": 590.0}) == ""


def test_every_recorded_gate_stands() -> None:
    """All 306 of the present rule ask for the pairs they had, and come to their verdicts again."""
    files = sorted((ROOT / "results/reference/gates").glob("*.json.xz"))
    reasons = [why_not(record) for file in files for record in read_gates(file).records]
    assert reasons == [""] * 306
