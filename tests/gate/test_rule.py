"""The rule of the gate refuses what cannot work."""

from collections.abc import Mapping
from typing import Any

import pytest

from nncore_bench.gate.rule import Rule


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"margin": 5.0}, "margin: 5.0 is not a share"),
        ({"suite_margin": 0.0}, "suite_margin: 0.0 is not a share"),
        ({"alpha": float("nan")}, "alpha: nan is not a share"),
        ({"alpha_pass": 1.0}, "alpha_pass: 1.0 is not a share"),
        ({"second_pairs": 7}, "alpha: 0.005 is below 1 in 128, .* with 7 pairs"),
        ({"alpha": 0.00001}, "alpha: 1e-05 is below 1 in 10,000"),
    ],
)
def test_a_rule_that_cannot_work_is_refused_in_one_sentence(wrong: Mapping[str, Any], message: str) -> None:
    """It names the value and the way out."""
    with pytest.raises(ValueError, match=message) as error:
        Rule(**wrong)
    assert "(" in str(error.value)


def test_eight_pairs_are_enough_for_the_usual_rate() -> None:
    """1 in 256 is below 0.5 %."""
    assert Rule(second_pairs=8).second_pairs == 8
