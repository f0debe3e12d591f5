"""The test of the gate: what it counts, and what it makes of the counts."""

from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import pytest

from nncore_bench import __main__ as command
from nncore_bench.gate.revisions import Layout, Revision
from nncore_bench.selftest import gate as selftest_gate
from nncore_bench.selftest.gate import CASES, SAME_CODE, SLOW_CASE, SLOWER_CODE
from nncore_bench.selftest.injected import Planted, lay_out_planted


@dataclass
class Made:
    """Stand in for the decision on a case."""

    name: str
    verdict: str


@dataclass
class Outcome:
    """Stand in for an outcome in which the verdict on the slow case is known, and the others are the same."""

    verdict: str
    seconds: float = 20.0
    interrupted: bool = False
    decisions: dict[str, Made] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.decisions = {case.key: Made(case.key, "same") for case in CASES}
        self.decisions[SLOW_CASE.key].verdict = self.verdict

    def of(self, verdict: str) -> list[Made]:
        return [one for one in self.decisions.values() if one.verdict == verdict]


def run(monkeypatch: pytest.MonkeyPatch, same: list[str], slower: list[str]) -> int:
    """Return the exit code of the command where gates end as given."""
    left = {SAME_CODE: list(same), SLOWER_CODE: list(slower)}

    def once(arm: str, _: object) -> Outcome:
        verdict = left[arm].pop(0)
        return Outcome(verdict, interrupted=verdict == "interrupted")

    monkeypatch.setattr(selftest_gate, "run_once", once)
    return command.main(["selftest", "--gate", f"--runs={len(same)}"])


def test_a_gate_that_is_always_right_passes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No alarm in ten, ten found in ten, with the bounds of Clopper and Pearson: 1 - 0.05 ** (1 / 10)."""
    assert run(monkeypatch, ["same"] * 10, ["slower"] * 10) == 0
    told = capsys.readouterr().out
    assert "ok    gate: false alarms: 0 of 10 (0.0 to 25.9 %)" in told
    assert "ok    gate: +5 % found: 10 of 10 (74.1 to 100.0 %)" in told
    assert "ok    gate: +5 % passed: 0 of 10 (0.0 to 25.9 %)" in told
    assert f"10 of 10, {SLOWER_CODE}: {SLOW_CASE.key} slower (20 s)" in told


@pytest.mark.parametrize(
    ("same", "slower", "name"),
    [
        ([*["slower"] * 3, *["same"] * 7], ["slower"] * 10, "false alarms"),
        (["same"] * 10, [*["undecided"] * 6, *["slower"] * 4], "+5 % found"),
        (["same"] * 10, [*["same"] * 3, *["slower"] * 7], "+5 % passed"),
    ],
)
def test_a_gate_that_is_wrong_more_often_than_it_claims_fails(
    same: list[str],
    slower: list[str],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By more than chance explains once in a thousand times."""
    assert run(monkeypatch, same, slower) == 1
    assert f"FAIL  gate: {name}" in capsys.readouterr().out


def test_what_is_known_so_far_is_told_when_it_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After three runs of either kind."""
    assert run(monkeypatch, [*["same"] * 3, "interrupted"], ["slower"] * 4) == 130
    assert "gate: +5 % found: 3 of 3" in capsys.readouterr().out


@pytest.mark.parametrize("runs", ["0", "-1", "many"])
def test_a_number_of_runs_that_is_none_is_one_sentence(runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is measured."""
    assert command.main(["selftest", "--gate", f"--runs={runs}"]) == 2
    assert f"--runs: '{runs}' is not a positive integer (example: 4)" in capsys.readouterr().err


def test_planted_code_is_nncore_with_what_is_planted() -> None:
    """Each arm its own."""
    lay_out = partial(lay_out_planted, {"base": Planted(), "slower": Planted(share=0.05)})
    with closing(Layout(lay_out, Revision("base", ""), Revision("slower", ""))) as layout:
        texts = [(path / "nncore" / "step.py").read_text() for path in layout.paths(swapped=False)]
        assert [text.count("'share': 0.05") for text in texts] == [0, 1]
        assert all("class TrainStep" in text for text in texts)
