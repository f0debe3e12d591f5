"""`--json FILE` of every command is one document of one schema, with values and not with words for them."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NoReturn

import msgspec
import pytest
from made_up_runs import CPU_CASE, STEP_LAPS, blocks_of, record_of, run_of, saved

from nncore_bench import __main__ as command
from nncore_bench.advise import measure as advise
from nncore_bench.advise.text import Advice
from nncore_bench.campaign import session as suite
from nncore_bench.commands import profile
from nncore_bench.estimate.estimates import Estimate
from nncore_bench.estimate.gains import Gain
from nncore_bench.estimate.source import Source
from nncore_bench.gate import gate
from nncore_bench.gate import text as verdicts
from nncore_bench.selftest import campaign as selftest
from nncore_bench.selftest.checks import Check

STEP_S = sum(STEP_LAPS.values()) / 1e9
Plain = str | int | float | bool | None


class Answered(msgspec.Struct, forbid_unknown_fields=True):
    """The document of every command but the gate, as a reader outside of this project would declare it."""

    schema_version: Literal[1]
    command: Literal["report", "compare", "profile", "advise", "selftest"]
    verdict: str | None
    cause: dict[str, Plain] | None
    next: str | None
    tables: dict[str, list[dict[str, Plain]]]


def answered(file: Path) -> Answered:
    """Return a document, which must be JSON to the letter (no NaN) and of the schema."""

    def refused(constant: str) -> NoReturn:
        raise AssertionError(constant)

    return msgspec.convert(json.loads(file.read_bytes(), parse_constant=refused), Answered)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return where the document is to go."""
    return tmp_path / "answer.json"


def test_a_report_names_the_slowest_phase_and_has_the_tables_in_seconds(file: Path, tmp_path: Path) -> None:
    """Of the made-up laps the optimizer's is the longest."""
    assert command.main(["report", str(saved(tmp_path, 1)), "--json", str(file)]) == 0
    found = answered(file)
    assert (found.command, found.verdict) == ("report", "optimizer")
    (step,) = (row for row in found.tables["phases"] if row["phase"] == "step")
    assert step["time_s"] == pytest.approx(STEP_S)
    assert (step["batch_size"], step["flop"], step["steady"]) == (32, None, True)


def test_all_has_more_tables_and_a_page_has_them_all(file: Path, tmp_path: Path) -> None:
    """As on the screen."""
    folder, names = str(saved(tmp_path, 1)), []
    for more in ([], ["--all"], ["--out", str(tmp_path / "report.html")]):
        command.main(["report", folder, "--json", str(file), *more])
        names.append(set(answered(file).tables))
    assert names[1] - names[0] >= {"quality", "facts"}
    assert names[1] == names[2]
    machine = {line["fact"]: line["value"] for line in answered(file).tables["facts"]}
    assert (machine["cores_logical"], machine["cpu_model"]) == (2, "Made-up CPU")


def test_two_runs_side_by_side_lead_to_a_comparison(file: Path, tmp_path: Path) -> None:
    """Which says more."""
    folders = [saved(tmp_path, day) for day in (1, 2)]
    command.main(["report", *map(str, folders), "--json", str(file)])
    found = answered(file)
    assert found.next == f"nncore-bench compare {folders[0].name} {folders[1].name}"
    (line,) = found.tables["versus"]
    assert line["ratio"] == pytest.approx(1)
    assert line["a_samples_per_s"] == pytest.approx(32 / STEP_S)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "ok"), (1.5, "suspect")])
def test_a_comparison_says_whether_anything_is_suspect_and_what_decides(
    factor: float, verdict: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a suspect has something to decide."""
    sources = [
        Source.of(run_of([record_of(CPU_CASE)], id=name), blocks_of(launches=launches, scale=scale), None)
        for launches in [(0.999, 1.0, 1.001)]
        for name, scale in (("a", 1.0), ("b", factor))
    ]
    left = iter(sources)
    monkeypatch.setattr("nncore_bench.estimate.source.read_source", lambda _: next(left))
    command.main(["compare", "a", "b", "--json", str(file)])
    found = answered(file)
    assert found.verdict == verdict
    gate_of_it = f"nncore-bench gate --base 0123abc --cases '{CPU_CASE.key}'"
    assert found.next == (gate_of_it if verdict == "suspect" else None)
    assert found.tables["compared"][0]["step_ratio"] == pytest.approx(factor, rel=0.01)


def test_advice_is_the_change_and_its_figures(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What never pays has no number of steps: infinity is no JSON."""
    fused, foreach = (replace(CPU_CASE, variant=name) for name in ("fused", "foreach"))
    found = [
        Gain(fused, "step", "faster", speed_up=Estimate(1.3, 1.2, 1.4), pays_after=float("inf")),
        Gain(foreach, "step", "slower", speed_up=Estimate(0.8, 0.7, 0.9)),
    ]
    for gains, change, bound in ((found, "fused", 1.2), (found[1:], "none", None)):
        advice = Advice(CPU_CASE, 1e-3, gains, [], [], 20.0, [])
        monkeypatch.setattr(advise, "advise", lambda *_, advice=advice: advice)
        assert command.main(["advise", "--json", str(file)]) == 0
        answer = answered(file)
        assert answer.verdict == change
        assert (answer.cause or {}).get("low") == bound
        assert "fused" in (answer.next or "") or change == "none"
        assert answer.tables["advice"][0]["pays_after"] is None


def test_a_selftest_names_the_first_check_that_failed(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 1, and on the screen nothing but the document where that was asked for."""

    def checks(*_: object) -> Iterator[Check]:
        yield Check("clock", passed=True, words="fine")
        yield Check("observer", passed=False, words="by {off:.0%}", figures={"off": 0.09})

    monkeypatch.setattr(selftest, "selftest", checks)
    assert command.main(["selftest", "--json", "-"]) == 1
    file.write_text(capsys.readouterr().out)
    found = answered(file)
    failed = {"check": "observer", "passed": False, "figure": "by 9 %", "off": 0.09}
    assert (found.verdict, found.cause) == ("failed", failed)
    assert found.tables["checks"][1] == failed


def test_a_profile_that_lacks_a_case_is_incomplete(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first such case is the cause, with the reason where there is one."""
    run = run_of([record_of(CPU_CASE, status="failed", reason="out of memory")])
    monkeypatch.setattr(suite, "measured_grid", lambda *_: Source.of(run, [], None))
    assert command.main(["profile", "--json", str(file)]) == 2
    assert "run folder" in capsys.readouterr().out
    found = answered(file)
    assert (found.verdict, found.cause) == ("incomplete", {"case": CPU_CASE.key, "reason": "out of memory"})


def test_the_outcome_of_a_gate_alone_is_on_the_screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the keys that its file has had before."""

    class Outcome:
        interrupted, changes, verdict = False, (), "slower"

    record: dict[str, Any] = {"verdict": "slower", "decisions": [], "pairs": [8, 16]}
    monkeypatch.setattr(gate, "gate", lambda *_: Outcome())
    monkeypatch.setattr(verdicts, "gate_text", lambda _: "words")
    monkeypatch.setattr(verdicts, "gate_record", lambda _: record)
    assert command.main(["gate", "--json", "-"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found | record == found
    assert (found["command"], found["schema_version"]) == ("gate", 1)


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the sentence of every other mistake."""

    def measured(*_: object) -> NoReturn:
        pytest.fail("it measured")

    monkeypatch.setattr(profile, "run", measured)
    assert command.main(["profile", "--json", str(tmp_path / "nowhere" / "file")]) == 2
    assert "nncore-bench profile: --json: " in capsys.readouterr().err
