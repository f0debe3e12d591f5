"""Gates drawn from recorded pairs: the rule itself, on noise and effects that are known."""

from typing import Any

import numpy as np
import pytest
from judge_gates import JudgeError
from replay_gates import EFFECTS, Effect, drawn, line, pairs_of

from bench.measure.pairs import MEASURED
from bench.verdict.outcome import SAME, SLOWER, UNDECIDED

KEYS = ("cpu-t1-float32-eager-b32-h128", "cpu-t1-float32-eager-b128-h512")


def records(deviation: float, gates: int = 12) -> list[dict[str, Any]]:
    """Return gates of two cases with eight screening pairs each, and a confirming one that is far off."""
    noise = np.random.default_rng(0)

    def pair(stage: int, shift: float) -> dict[str, Any]:
        low, mean = (
            dict(zip(MEASURED, shift + noise.normal(0, deviation, len(MEASURED)), strict=True))
            for _ in range(2)
        )
        return {"stage": stage, "low": low, "mean": mean}

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
    assert {one.verdict for outcome in same for one in outcome.decisions.values()} <= {SAME, UNDECIDED}
    found = [drawn(pairs, EFFECTS["+5 % in one case"], seed) for seed in range(10)]
    assert [outcome.decisions[KEYS[0]].verdict for outcome in found] == [SLOWER] * 10
    assert [outcome.decisions[KEYS[1]].verdict for outcome in found] == [SAME] * 10
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
