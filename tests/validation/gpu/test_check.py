"""`check` passes a day that is as it should be, and each of its claims fails for one fault of its own."""

from dataclasses import replace
from pathlib import Path

import pytest
from check import FAILED, UNREADABLE, lines_of, main
from claims import Claim
from day import read_day
from faults import FAULTS, slower_in_the_gate
from made_up_day import MadeUpDay
from made_up_runs import CUDA_CASE


def failed(day: MadeUpDay) -> set[Claim]:
    """Return the claims that do not hold."""
    _, made = lines_of(day.day())
    return {finding.claim for finding in made if not finding.passed}


def test_every_claim_is_made_of_a_good_day_and_holds() -> None:
    _, made = lines_of(MadeUpDay.good().day())
    assert {finding.claim for finding in made} == set(Claim)
    assert [finding for finding in made if not finding.passed] == []


def test_every_claim_has_a_planted_fault() -> None:
    assert set(FAULTS) == set(Claim)


@pytest.mark.parametrize("claim", FAULTS, ids=lambda claim: claim.name)
def test_a_planted_fault_makes_its_claim_fail_and_no_other(claim: Claim) -> None:
    day = MadeUpDay.good()
    FAULTS[claim](day)
    assert failed(day) == {claim}


@pytest.mark.parametrize("stage", ["default", "advise"])
def test_what_did_not_come_back_fails_what_was_to_be_seen_in_it(stage: str) -> None:
    day = MadeUpDay.good()
    del day.runs[stage]
    lines, _ = lines_of(day.day())
    missing = [line for line in lines if "nothing to check it on" in line]
    assert len(missing) == len(failed(day)) > 0


def test_a_day_without_a_gate_or_a_probe_fails() -> None:
    day = MadeUpDay.good()
    day.probe = {}
    _, made = lines_of(replace(day.day(), gate=None))
    missing = {finding.claim for finding in made if not finding.passed}
    assert {Claim.GATED, Claim.EQUAL_CODE, Claim.READINGS, Claim.SPANS, Claim.PROBED_STEP} <= missing


def test_a_day_is_read_back_from_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MadeUpDay.good().save(tmp_path)
    assert main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "FAIL" not in said
    for claim in Claim:
        assert f"ok    {claim}: " in said
    done, of = said.splitlines()[-1].split(" of ")
    assert of == f"{done} checks passed"


def test_a_stage_that_ended_well_when_it_was_run_again_is_well(tmp_path: Path) -> None:
    day = MadeUpDay.good()
    day.endings["gate"] = "exit code 124"
    day.save(tmp_path)
    assert read_day(tmp_path).endings["gate"] == "exit code 124"
    (tmp_path / "second-gate.log").write_text("== gate: exit code 0 after 9 s\n")
    assert read_day(tmp_path).endings == MadeUpDay.good().endings


def test_a_claim_that_fails_is_one_line_with_its_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    day = MadeUpDay.good()
    slower_in_the_gate(day)
    day.save(tmp_path)
    assert main([str(tmp_path)]) == FAILED
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert lines == [f"FAIL  {Claim.EQUAL_CODE}: {CUDA_CASE.key}: 1.000"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("probe.json", b"{", "is not JSON"),
        ("probe.json", b"[]", "holds no readings by name"),
        ("default.tar.gz", b"broken", "cannot be unpacked"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, said: str
) -> None:
    MadeUpDay.good().save(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert main([str(tmp_path)]) == UNREADABLE
    error = capsys.readouterr().err
    assert said in error
    assert name in error
    assert error.count("\n") == 1


def test_a_folder_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nowhere"]) == UNREADABLE
    assert capsys.readouterr().err.startswith("'nowhere' is no folder")
