"""What a gate found, told: slower first, changes as counted, and no more than a summary may hold."""

import json
from dataclasses import replace

import pytest
from made_up_runs import CPU_CASE

from nncore_bench.cases import STEP_PHASES
from nncore_bench.compare.changes import Change
from nncore_bench.compare.explain import Cause
from nncore_bench.gate.decide import Decision, Ground, Verdict
from nncore_bench.gate.outcome import Outcome
from nncore_bench.gate.ratios import PairRatios
from nncore_bench.gate.rule import Rule
from nncore_bench.gate.text import gate_record, gate_summary, gate_text, headline
from nncore_bench.runs import plain_json
from nncore_bench.text.table import MOST_SUMMARY_BYTES

MICRO = 1e-6
OTHER = replace(CPU_CASE, batch_size=128)
CLONE = Change("forward", "aten::clone", "+1 aten::clone per step", "a tensor is copied")
CLONED = Cause(
    "forward", "aten::clone", "+1 aten::clone per step", "a tensor is copied", 40 * MICRO, exact=True
)
SLOWER_CALLS = Cause("forward", "aten::addmm", "slower calls", "", 20 * MICRO, exact=False)
PAIR = PairRatios({"step": 0.1}, {"step": 0.2}, {"step": 660e-9}, ((660.0, 726.0),), ((700.0, 770.0),))


def decision(name: str, verdict: str, ratio: float = 1.0, kind: str = "case") -> Decision:
    return Decision(
        name, kind, Verdict(verdict), ratio, ratio - 0.01, ratio + 0.01, ratio, ratio, 0.001, 0.2, 0.03,
        pairs=16, stage=2, ground=Ground.SAME, mean_margin=0.05,  # type: ignore[arg-type]
    )  # fmt: skip


def outcome(*decisions: Decision, **changes: object) -> Outcome:
    phases = dict.fromkeys(STEP_PHASES, (0.0, 100 * MICRO))
    phases |= {
        "forward": (60 * MICRO, 100 * MICRO),
        "loss": (5 * MICRO, 20 * MICRO),
        "step": (66 * MICRO, 660 * MICRO),
    }
    usual: dict[str, object] = {
        "base": "main (0123456789)", "candidate": "working tree", "rule": Rule(), "cases": (CPU_CASE, OTHER),
        "new": {}, "changes": {CPU_CASE: (CLONE,)},
        "decisions": {one.name: one for one in decisions}, "phases": {CPU_CASE: phases}, "seconds": 61.0,
        "causes": {CPU_CASE: (CLONED, SLOWER_CALLS)}, "pairs": (8, 16),
        "measured": {CPU_CASE: ((PAIR,), (PAIR,))}, "discarded": (), "interrupted": False,
        "again": ("gate", "--base", "main", "--margin=3%"),
    }  # fmt: skip
    return Outcome(**(usual | changes))  # type: ignore[arg-type]


def test_what_is_slower_comes_first_with_where_and_why() -> None:
    """66 µs of the step, 60 of them in forward, where a clone was counted, and how to see it again."""
    text = gate_text(outcome(decision(OTHER.key, "same"), decision(CPU_CASE.key, "slower", 1.1)))
    assert text.startswith(
        "# Gate: working tree against main (0123456789): slower (margin 5.0 %: 1 slower, 1 same)"
    )
    table = text.partition("## Verdicts")[2]
    assert table.index("slower") < table.index(OTHER.key)
    assert f"{CPU_CASE.key} is slower by 66.0 µs: forward 60.0 of 100, loss 5.0 of 20.0" in text
    assert (
        "Because: forward aten::clone +1 aten::clone per step (a tensor is copied) +40.0 µs;"
        " forward aten::addmm slower calls +20.0 µs. Again:" in text
    )
    assert f"nncore-bench gate --base main --margin=3% --cases {CPU_CASE.key}`" in text
    assert (
        f"- counted: forward: aten::clone +1 aten::clone per step (a tensor is copied) [{CPU_CASE.key}]"
        in text
    )


@pytest.mark.parametrize(
    ("verdicts", "interrupted", "words"),
    [
        (["same", "faster"], False, "not slower"),
        (["same", "undecided"], False, "undecided"),
        (["slower", "undecided"], False, "slower"),
        ([], True, "interrupted, so undecided"),
    ],
)
def test_the_headline_is_the_worst_of_all(verdicts: list[str], interrupted: bool, words: str) -> None:  # noqa: FBT001
    """And green only where everything is proven."""
    found = outcome(
        *(decision(str(n), verdict) for n, verdict in enumerate(verdicts)), interrupted=interrupted
    )
    assert f": {words} (margin" in headline(found)


def test_a_new_case_is_told_and_not_judged() -> None:
    """Its absence from the table is no oversight."""
    found = outcome(decision(OTHER.key, "same"), new={CPU_CASE: "no such layer"})
    assert f"- new: {CPU_CASE.key} cannot run in the base" in gate_text(found)
    assert gate_record(found)["new"] == {CPU_CASE.key: "no such layer"}


def test_the_record_is_plain_json() -> None:
    """Everything that is printed, as numbers."""
    record = json.loads(plain_json(gate_record(outcome(decision(CPU_CASE.key, "slower", 1.1)))))
    assert record["verdicts"] == {"slower": 1, "undecided": 0, "faster": 0, "same": 0}
    assert record["decisions"][0]["ratio"] == pytest.approx(1.1)
    assert record["changes"][CPU_CASE.key][0]["what"] == "aten::clone"
    assert record["measured"][CPU_CASE.key][0]["low_ns"] == [[660.0, 726.0]]
    assert [pair["stage"] for pair in record["measured"][CPU_CASE.key]] == [1, 2]
    assert record["phases"][CPU_CASE.key]["forward"] == {"difference_s": 60 * MICRO, "base_s": 100 * MICRO}


def test_the_record_begins_with_the_verdict_its_cause_and_the_next_command() -> None:
    """The slowest case by itself; or a budget that decides, of what is open; or nothing."""
    again = "nncore-bench gate --base main --margin=3%"
    slower = gate_record(outcome(decision(OTHER.key, "slower", 1.1), decision(CPU_CASE.key, "slower", 1.2)))
    assert slower["verdict"] == "slower"
    assert (slower["cause"]["case"], slower["cause"]["what"]) == (CPU_CASE.key, "aten::clone")
    assert slower["next"] == f"{again} --cases {CPU_CASE.key}"
    same = gate_record(outcome(decision(CPU_CASE.key, "same"), causes={}))
    assert (same["verdict"], same["cause"], same["next"]) == ("same", None, None)
    open_ = [decision(CPU_CASE.key, "undecided"), decision(OTHER.key, "same")]
    wanted = gate_record(outcome(*open_, wanted=(20, 3.0)))
    assert (wanted["verdict"], wanted["next"]) == ("undecided", f"{again} --budget=3m --cases {CPU_CASE.key}")
    mean = gate_record(outcome(*open_, decision("suite", "undecided", kind="suite"), wanted=(20, 3.0)))
    assert mean["next"] == f"{again} --budget=3m --cases '{CPU_CASE.key} or {OTHER.key}'"
    assert gate_record(outcome(*open_, wanted=(65, 3.0)))["next"] is None


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [(["same", "same"], "same"), (["same", "faster"], "faster"), (["faster", "undecided"], "undecided")],
)
def test_the_verdict_of_a_gate_is_the_worst_of_its_columns(verdicts: list[str], whole: str) -> None:
    """Of one that was interrupted it is undecided."""
    decisions = [decision(str(n), verdict) for n, verdict in enumerate(verdicts)]
    assert outcome(*decisions).verdict == whole
    assert outcome(*decisions, interrupted=True).verdict == "undecided"


def test_a_summary_never_holds_more_than_a_job_summary_may() -> None:
    """Of 2,000 columns those that are the same are left out first."""
    many = [decision(f"case {number}", "same") for number in range(2_000)]
    summary = gate_summary(outcome(decision(CPU_CASE.key, "slower", 1.1), *many))
    assert len(summary.encode()) <= MOST_SUMMARY_BYTES
    assert "1 slower" in summary
    assert "rows that are the same are left out" in summary
    assert ": not slower (" in gate_summary(outcome(*many))
    slower = [decision(f"case {number}", "slower") for number in range(2_000)]
    assert len(gate_summary(outcome(*slower, phases={}, cases=(), causes={})).encode()) <= MOST_SUMMARY_BYTES
