"""Series of gates: what is planted takes what it should, slices resume, and what is said of them is true."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from arms import BASE, DIFFERENCES, NEUTRAL, arms_of, planted_repository
from gates import SAME, GateSettings, command_of, go_on
from judge_gates import (
    Gates,
    JudgeError,
    bias_table,
    finds,
    gate_table,
    joined,
    judge,
    packed,
    passes,
    read_gates,
    red_by,
    run_table,
)
from loudness import Loudness, Probe, Stretches, loudness_table
from rules import RULES, Samples
from scipy import stats
from slices import LOUDNESS_FILE, SeriesError, settle

from nncore_bench.cases import STEP_PHASES as PHASES
from nncore_bench.selftest.checks import bounds
from nncore_bench.selftest.injected import Planted, code_of

TOOK = 1_000_000
CASE = "cpu-t1-float32-eager-b32-h128"


class Clock:
    """Tell a time that passes by being asked, a nanosecond each, and by work."""

    def __init__(self) -> None:
        self.now = 0

    def perf_counter_ns(self) -> int:
        self.now += 1
        return self.now


class Model:
    """Have one parameter of 128 rows."""

    def parameters(self) -> Sequence[Sequence[int]]:
        return iter([range(128)])  # type: ignore[return-value]


def durations(planted: Planted, monkeypatch: pytest.MonkeyPatch, batch: int = 32) -> list[dict[str, int]]:
    """Return what each phase of a hundred steps takes, where it took a millisecond before."""
    clock = Clock()
    monkeypatch.setattr("time.perf_counter_ns", clock.perf_counter_ns)

    def work(*_: Any) -> None:  # noqa: ANN401 - whatever a phase is given
        clock.now += TOOK

    step = type("TrainStep", (), dict.fromkeys(PHASES, work) | {"model": Model()})
    exec(code_of(planted), {"TrainStep": step})  # noqa: S102 - the code under test
    one, found = step(), []
    for _ in range(100):
        of_step = {}
        for phase in PHASES:
            before = clock.now
            getattr(one, phase)(range(batch))
            of_step[phase] = clock.now - before
        found.append(of_step)
    return found


def test_nothing_is_added_to_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the readings of the clock."""
    for step in durations(Planted(), monkeypatch):
        assert step == pytest.approx(dict.fromkeys(PHASES, TOOK), abs=10)


@pytest.mark.parametrize("name", ["case-5", "case-3", "case-2", "backward-5", "call-20us", "suite-1.5"])
def test_what_is_planted_is_added(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the phases and in the case it is meant for, from the second step on, and nowhere else."""
    planted = DIFFERENCES[name].planted
    more = planted.share * TOOK + planted.extra_ns
    expected = {phase: TOOK + (more if phase in planted.phases else 0) for phase in PHASES}
    assert durations(planted, monkeypatch)[-1] == pytest.approx(expected, abs=10)
    elsewhere = durations(planted, monkeypatch, batch=128)[-1]
    wanted = dict.fromkeys(PHASES, TOOK) if planted.case else expected
    assert elsewhere == pytest.approx(wanted, abs=10)


def test_one_step_in_fifty_takes_ten_times_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the others what they took."""
    forwards = [step["forward"] for step in durations(DIFFERENCES["tail"].planted, monkeypatch)]
    assert [n for n, forward in enumerate(forwards, 1) if forward > 2 * TOOK] == [50, 100]
    assert forwards[49] == pytest.approx(10 * TOOK, abs=100)  # ten times the readings, too


def test_every_branch_is_nncore_and_differs(tmp_path: Path) -> None:
    """A neutral one in its files alone."""
    folder = planted_repository(tmp_path)

    def shown(branch: str, file: str) -> str:
        command = ["git", "-C", str(folder), "show", f"{branch}:nncore/{file}"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    base = shown(BASE, "step.py")
    assert all(shown(name, "step.py") != base for name in DIFFERENCES)
    assert shown("comment", "step.py").partition("\n")[2] == base
    assert shown("renamed", "training_step.py") == base
    assert shown("import", "step.py") == base
    assert shown("import", "model.py") != shown(BASE, "model.py")


def test_neutral_arms_take_turns_on_both_sides() -> None:
    """Six runs are all of them."""
    pairs = {arms_of(SAME, number) for number in range(6)}
    assert pairs == {(BASE, name) for name in NEUTRAL} | {(name, BASE) for name in NEUTRAL}
    assert arms_of("case-3", 1) == (BASE, "case-3")


def test_a_slice_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    """What is there is not run again; another scenario in the same folder is refused."""
    settings, ran = GateSettings("case-3"), []

    def run(_number: int, command: Sequence[str], _: Path) -> int:
        ran.append(command)
        Path(command[-1]).write_text("{}")
        return 1

    settle(tmp_path, settings)
    assert [go_on(tmp_path, settings, 3, run, at_most=2), go_on(tmp_path, settings, 3, run)] == [2, 1]
    assert len(ran) == 3
    assert "--margin=3%" in ran[0]
    assert "--margin=3%" not in command_of(GateSettings(SAME), 1, tmp_path)
    with pytest.raises(SeriesError, match="begun with --scenario"):
        settle(tmp_path, GateSettings(SAME))


@pytest.mark.parametrize("code", [2, 130])
def test_a_gate_that_could_not_be_run_ends_the_slice(tmp_path: Path, code: int) -> None:
    """It is neither a pass nor an alarm."""

    def run(_number: int, command: Sequence[str], _: Path) -> int:
        Path(command[-1]).write_text("{}")
        return code

    with pytest.raises(SeriesError, match=f"gate 1 ended with {code}"):
        go_on(tmp_path, GateSettings(SAME), 1, run)
    assert not list(tmp_path.glob("0*.json"))


def record(verdict: str, ratio: float = 1.0, *, suite: str = "same") -> dict[str, Any]:
    """Return the record of a gate of one case."""
    random = np.random.default_rng(0)
    base = 1e6 + random.normal(0, 1000, (8, 8))
    candidate = ratio * (1e6 + random.normal(0, 1000, (8, 8)))
    steps = np.stack([base, candidate], axis=2).tolist()
    pairs = [{"stage": 1, "low": {"step": float(np.log(ratio))}, "low_ns": s, "mean_ns": s} for s in steps]
    far = {"stage": 2, "low": {"step": 9.0}, "low_ns": [[1e6, 1e6 * ratio]], "mean_ns": [[1e6, 1e6 * ratio]]}
    return {
        "decisions": [
            {"name": CASE, "kind": "case", "verdict": verdict},
            {"name": "suite", "kind": "suite", "verdict": suite},
        ],
        "measured": {CASE: [*pairs, far]},
        "seconds": 100.0,
        "pairs": [8, 1],
        "base": "base (1)",
        "candidate": "other (2)",
    }


def test_counts_come_with_the_bounds_of_clopper_and_pearson() -> None:
    """None in 149 is at most 2 %; all of 29 at least 90 %."""
    assert bounds(0, 149) == "0 of 149 (0.0 to 2.0 %)"
    assert bounds(29, 29) == "29 of 29 (90.2 to 100.0 %)"


def test_alarms_are_counted_where_nothing_differs_and_finds_where_something_does() -> None:
    """Undecided is neither."""
    same = Gates(SAME, "none", [record("same"), record("slower"), record("undecided")])
    case = Gates("case-5", "none", [record("slower"), record("same"), record("undecided", suite="slower")])
    table = gate_table([same, case]).splitlines()
    assert "| 1 of 3 (1.7 to 86.5 %) " in table[2]
    assert case.target == CASE
    assert table[3].count("1 of 3 (") == 4  # found, false alarm, passed, undecided


def test_every_gate_has_a_line_undecided_ones_included() -> None:
    """Numbered within its series."""
    series = Gates(SAME, "none", [record("slower"), record("undecided")], "a")
    assert run_table([series]).splitlines()[1:] == [
        f"same,none,a,1,base (1),other (2),8 1,100,{CASE},",
        f"same,none,a,2,base (1),other (2),8 1,100,,{CASE}",
    ]


def test_series_of_one_kind_and_code_are_one() -> None:
    """Two sessions' runs of a scenario; those of another load or code by themselves."""
    same, slow = record("same"), record("slower")
    made = ("none", [same], "a"), ("bursty", [same], "a"), ("none", [slow, slow], "a"), ("none", [same], "b")
    parts = [Gates(SAME, load, records, code) for load, records, code in made]
    found = {(gates.load, len(gates.records), gates.code) for gates in joined(parts)}
    assert found == {("none", 3, "a"), ("bursty", 1, "a"), ("none", 1, "b")}


def test_a_tail_passes_where_any_case_does() -> None:
    """Of the means over cases nothing is asked."""
    tail = Gates("tail", "none", [])
    assert passes(record("same"), tail)
    assert not passes(record("undecided"), tail)
    assert finds(record("slower"), tail)
    assert not finds(record("undecided", suite="slower"), tail)


def test_the_bias_is_that_of_screening_pairs() -> None:
    """1 % in every pair, whatever was confirmed."""
    records = [record("same", ratio) for ratio in (1.009, 1.011, 1.010)]
    line = bias_table([Gates(SAME, "none", records)]).splitlines()[2]
    logs = np.repeat(np.log([1.009, 1.011, 1.010]), 8)
    low, high = stats.t.interval(0.95, 23, logs.mean(), stats.sem(logs))
    assert f"| 24 | +{100 * logs.mean():.3f} | +{100 * low:.3f} to +{100 * high:.3f} |" in " ".join(
        line.split()
    )


@pytest.mark.parametrize("name", RULES)
def test_other_rules_see_a_fifth_and_not_nothing(name: str) -> None:
    """With a noise of 0.1 % all of them agree."""
    assert red_by(name, record("slower", 1.2))
    assert not red_by(name, record("same", 0.999))


def test_rules_look_at_what_their_tools_look_at() -> None:
    """One block in eight ten times as long moves means, and neither minima nor medians."""
    steady, disturbed = np.full(64, 1.0), np.where(np.arange(64) % 8, 1.0, 10.0)
    samples = Samples((steady, steady), (steady, disturbed))
    assert RULES["pytest-benchmark mean:5%"](samples)
    assert not RULES["pytest-benchmark min:5%"](samples)
    assert not RULES["asv (factor 1.1)"](samples)


def test_a_folder_without_gates_is_one_sentence(tmp_path: Path) -> None:
    """That names it."""
    with pytest.raises(JudgeError, match="is no series of gates"):
        judge([tmp_path])
    (tmp_path / "series.json").write_text(json.dumps({"scenario": SAME, "load": "none"}))
    with pytest.raises(JudgeError, match="no finished gate"):
        judge([tmp_path])
    (tmp_path / "001.json").write_text(json.dumps(record("same")))
    (tmp_path / "002.json").write_text(json.dumps(record("same", 1.001)))
    assert "0 of 2 (0.0 to 77.6 %)" in judge([tmp_path])


def test_a_packed_series_is_judged_as_its_folder_is(tmp_path: Path) -> None:
    """But for what is beyond a nanosecond."""
    (tmp_path / "series.json").write_text(json.dumps({"scenario": SAME, "load": "none"}))
    for number, ratio in enumerate((1.0, 1.002)):
        made = record("same", ratio)
        for pair in made["measured"][CASE]:
            pair["mean"] = pair["low"]
        (tmp_path / f"{number:03}.json").write_text(json.dumps(made))
    file = tmp_path / "same.json.xz"
    file.write_bytes(packed(read_gates(tmp_path)))
    assert judge([file]) == judge([tmp_path])
    assert judge([file]).endswith("How loud the machine was: not recorded")


def test_series_that_are_joined_keep_what_was_probed_and_packing_does(tmp_path: Path) -> None:
    """Of two slices one was probed, with a core that was slow for a quarter of the time."""
    probe = Probe("", (Loudness(0, 1e-3, 0.25, 1.4, Stretches(2e-3, 0.5), Stretches(3e-3, 0.1)),))
    settings = {"scenario": SAME, "load": "bursty", "seed": 7}
    (tmp_path / "series.json").write_text(json.dumps(settings))
    (tmp_path / "001.json").write_text(json.dumps(record("same") | {"measured": {}}))
    (tmp_path / LOUDNESS_FILE).write_bytes(msgspec.json.encode([probe]))
    file = tmp_path / "same.json.xz"
    file.write_bytes(packed(read_gates(tmp_path)))
    assert read_gates(file) == read_gates(tmp_path)
    assert (read_gates(file).seed, list(read_gates(file).loudness)) == (7, [probe])
    (both,) = joined([read_gates(file), Gates(SAME, "bursty", [record("same")])])
    assert list(both.loudness) == [probe]
    line = loudness_table([({"load": both.load}, both.loudness)]).splitlines()[-1]
    assert [cell.strip() for cell in line.split("|")[1:5]] == ["bursty", "0", "1", "25 (25 to 25)"]
