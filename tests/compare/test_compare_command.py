"""`nncore-bench compare` tells two runs apart, says why, and never claims a verdict."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec.structs
import pandas as pd
import pytest
from made_up_runs import CPU_CASE, blocks_of, cases_of, record_of, run_of

from nncore_bench import __main__ as command
from nncore_bench.cases import Case
from nncore_bench.records import CaseCounters, OperatorCount, PhaseCounters
from nncore_bench.runs import RunFolder

ROOT = Path(__file__).resolve().parents[2]
PHASE = {"forward": PhaseCounters(collections=0)}
ADDMM = OperatorCount("forward", "aten::addmm", "4x4", "float32", 2, 1_000)
CLONE = OperatorCount("forward", "aten::clone", "4x4", "float32", 1, 1_600_000)


def saved(
    results: Path,
    name: str,
    *,
    cases: tuple[Case, ...] = (CPU_CASE,),
    scale: float = 1.0,
    inventory: tuple[OperatorCount, ...] = (ADDMM,),
    **changes: object,
) -> Path:
    """Save a run whose steps are that many times as slow as the known laps; return its folder."""
    counters = CaseCounters(PHASE, parameters=100, inventory=inventory)
    folder = RunFolder.create(results, name, now=datetime(2025, 1, 1, tzinfo=UTC), short_id="ab12")
    records = [record_of(case, counters=counters) for case in cases]
    folder.save(run_of(records, id=folder.path.name, **changes))
    for number in range(len(cases)):
        blocks = blocks_of(number, launches=(0.999, 1.0, 1.001), rounds=2, scale=scale)
        for place, block in enumerate(blocks):
            folder.save_round(100 * number + place, [block])
    folder.merge_rounds()
    return folder.path


def compare(*arguments: object) -> int:
    return command.main(["compare", *map(str, arguments)])


def test_equal_runs_are_ok(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, and how much was compared."""
    assert compare(saved(tmp_path, "a"), saved(tmp_path, "b")) == 0
    out = capsys.readouterr().out
    assert out.rstrip().endswith("compared 1 of 1, 0 new, 0 missing: 1 ok")
    assert "## Why" not in out


def test_a_slower_run_is_suspect_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """20 % more in every phase and a clone in forward; exit code 1 only where that was asked for."""
    folders = saved(tmp_path, "a"), saved(tmp_path, "b", scale=1.2, inventory=(ADDMM, CLONE))
    assert compare(*folders) == 0
    out = capsys.readouterr().out
    assert "1.20 (1.19 to 1.21)" in out
    assert "1 suspect" in out
    assert "+1 aten::clone per step, +1,600 kB moved" in out
    assert compare(*folders, "--fail-above", "5%") == 1
    assert compare(*folders, "--fail-above", "30%") == 0


def test_an_exact_change_is_told_where_times_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same on every machine."""
    compare(saved(tmp_path, "a"), saved(tmp_path, "b", inventory=(ADDMM, CLONE)))
    out = capsys.readouterr().out
    assert "+1 aten::clone" in out
    assert "1 ok" in out


def test_runs_of_two_machines_are_not_comparable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The fact that tells them apart is named, and a gate on them cannot be green."""
    other = saved(tmp_path, "b", scale=2.0, machine={"cpu_model": "Another CPU", "cores_logical": 2})
    base = saved(tmp_path, "a")
    assert compare(base, other) == 0
    out = capsys.readouterr().out
    assert "1 not comparable" in out
    assert "cpu_model (Made-up CPU against Another CPU)" in out
    assert compare(base, other, "--fail-above", "5%") == 2


def test_cases_without_a_partner_are_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing one is exit code 2, a new one is fine."""
    many = tuple(cases_of(["cpu"]))
    few = saved(tmp_path, "few", cases=many[:3]), saved(tmp_path, "many", cases=many)
    assert compare(*few) == 0
    out = capsys.readouterr().out
    assert "compared 3 of 3, 1 new, 0 missing: 3 ok" in out
    assert f"new in B: {many[3].key}" in out
    assert compare(*reversed(few)) == 2
    assert "compared 3 of 4, 0 new, 1 missing" in capsys.readouterr().out


def test_runs_with_no_case_in_common_compare_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which is an error, and not a green result."""
    many = cases_of(["cpu"])
    assert compare(saved(tmp_path, "a", cases=(many[0],)), saved(tmp_path, "b", cases=(many[1],))) == 2
    assert "compared 0 of 1, 1 new, 1 missing" in capsys.readouterr().out


def test_options_and_code_that_differ_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a user changed is often the answer."""
    compare(
        saved(tmp_path, "a", options={"launches": 4}),
        saved(tmp_path, "b", options={"launches": 8, "energy": True}),
    )
    assert "The two differ in --step-launches 4 against 8." in capsys.readouterr().out


def test_a_run_without_counters_says_what_cannot_be_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And compares the times all the same."""
    base = saved(tmp_path, "a")
    run = msgspec.json.decode((base / "run.json").read_bytes())
    for case in run["cases"]:
        case["counters"] = None
    (base / "run.json").write_bytes(json.dumps(run).encode())
    assert compare(base, saved(tmp_path, "b")) == 0
    out = capsys.readouterr().out
    assert "A has no counters" in out
    assert "0 of 1 cases were profiled in both runs" in out
    assert "1 ok" in out


def test_what_is_printed_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Markdown as it was printed, and the raw numbers of both tables."""
    folders = saved(tmp_path, "a"), saved(tmp_path, "b", scale=1.2, inventory=(ADDMM, CLONE))
    compare(*folders, "--out", tmp_path / "out")
    assert (tmp_path / "out" / "compare.md").read_text() == capsys.readouterr().out
    ratios, causes = (pd.read_csv(tmp_path / "out" / f"{name}.csv") for name in ("compared", "why"))
    assert ratios["step_ratio"].iloc[0] == pytest.approx(1.2, abs=0.01)
    assert causes["what"].iloc[0] == "aten::clone"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["compare", "missing", "missing"], "'missing' does not exist"),
        (["compare", "only-one"], "the following arguments are required: CAND"),
        (["compare", "a", "b", "--fail-above", "much"], "--fail-above: 'much' is not a share"),
        (["compare", "pyproject.toml", "pyproject.toml"], "is not JSON"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 2 and without a traceback."""
    try:
        code = command.main(arguments)
    except SystemExit as error:
        code = int(error.code or 0)
    err = capsys.readouterr().err
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1


def test_a_truncated_record_and_another_schema_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which names the file and the way out."""
    good, cut, old = (saved(tmp_path, name) for name in ("a", "b", "c"))
    (cut / "run.json").write_bytes((cut / "run.json").read_bytes()[:200])
    assert compare(good, cut) == 2
    assert "is not a run record" in capsys.readouterr().err
    record = json.loads((old / "run.json").read_text()) | {"schema_version": 1}
    (old / "run.json").write_text(json.dumps(record))
    assert compare(good, old) == 2
    assert "has schema version 1" in capsys.readouterr().err


def test_torch_is_not_imported(tmp_path: Path) -> None:
    """Two runs are compared on a laptop without it."""
    folders = [str(saved(tmp_path, name)) for name in ("a", "b")]
    program = (
        "import sys; from nncore_bench.__main__ import main; code = main(sys.argv[1:]);"
        " sys.exit(code or ('torch' in sys.modules) * 99)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program, "compare", *folders],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0


def test_a_run_whose_step_was_not_timed_is_no_green_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2: what was asked for could not be compared."""
    base, other = saved(tmp_path, "a"), saved(tmp_path, "b")
    record = json.loads((other / "run.json").read_text())
    for case in record["cases"]:
        case["phases"] = ["inference"]
    (other / "run.json").write_text(json.dumps(record))
    assert compare(base, other, "--fail-above", "5%") == 2
    assert "1 not comparable" in capsys.readouterr().out


def test_runs_without_laps_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rather than comparing 0 of 0 without a word."""
    base, other = saved(tmp_path, "a"), saved(tmp_path, "b")
    (other / "samples.npz").unlink()
    assert compare(base, other) == 2
    assert "B has no times" in capsys.readouterr().out
