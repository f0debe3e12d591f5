"""A report comes out of whatever is left of a run, or is refused in one sentence."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from made_up_runs import CPU_CASE, CUDA_CASE, blocks_of, record_of, run_of

from nncore_bench.estimate.results import rows_of
from nncore_bench.estimate.source import read_source
from nncore_bench.report.report import render, write_tables
from nncore_bench.runs import SCHEMA_VERSION, Run, RunError, RunFolder

LEFT_OUT = ("loss", "inference")


@pytest.fixture
def run() -> Run:
    """Return a run of a case that went well and one that was skipped."""
    skipped = record_of(CUDA_CASE, status="skipped", reason="no CUDA device was found")
    return run_of([record_of(CPU_CASE), skipped])


@pytest.fixture
def folder(tmp_path: Path, run: Run) -> Path:
    """Return the folder of that run, its rounds not yet merged."""
    folder = RunFolder(tmp_path / "run")
    (folder.path / "rounds").mkdir(parents=True)
    folder.save(run)
    for number in range(2):
        folder.save_round(number, [block for block in blocks_of() if block.round == number])
    return folder.path


def benchmark_json(run: Run, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of the file
    """Return what the suite leaves in pytest-benchmark's file, as far as it is read."""
    rows = rows_of(run, blocks_of())
    tests = [{"name": row.phase, "extra_info": row.as_record()} for row in rows if row.status == "ok"]
    rest = [row.as_record() for row in rows if row.status != "ok"]
    ours = {"schema_version": SCHEMA_VERSION, "run": msgspec.to_builtins(run), "rows": rest}
    return {"machine_info": {}, "benchmarks": tests, "nncore_bench": ours, "version": "5.3.1"} | changes


def test_folder_record_and_benchmark_file_tell_the_same(folder: Path, run: Run, tmp_path: Path) -> None:
    """One report, three ways in."""
    published = tmp_path / "published"
    published.mkdir()
    (published / "benchmark.json").write_text(json.dumps(benchmark_json(run)))
    ways = [folder, folder / "run.json", published, published / "benchmark.json"]
    texts = {render(source).full_text for source in map(read_source, ways)}
    assert len(texts) == 1
    assert "Best throughput: 48,500 samples/s" in texts.pop()


def test_a_record_without_laps_falls_back_on_the_benchmark_file(folder: Path, run: Run) -> None:
    """Laps are large and need not be published."""
    for part in (folder / "rounds").iterdir():
        part.unlink()
    (folder / "benchmark.json").write_text(json.dumps(benchmark_json(run)))
    assert read_source(folder).rows == rows_of(run, blocks_of())


def test_a_benchmark_file_under_another_name_is_read_but_gets_no_tables(run: Run, tmp_path: Path) -> None:
    """It lies by itself, in nobody's run folder."""
    file = tmp_path / "downloaded.json"
    file.write_text(json.dumps(benchmark_json(run)))
    assert read_source(file).folder is None


def test_what_is_missing_from_a_benchmark_file_is_named(run: Run, tmp_path: Path) -> None:
    """A test that did not pass leaves no times there."""
    content = benchmark_json(run)
    content["benchmarks"] = [test for test in content["benchmarks"] if test["name"] not in LEFT_OUT]
    (tmp_path / "benchmark.json").write_text(json.dumps(content))
    source = read_source(tmp_path)
    assert {
        row.phase: row.reason for row in source.rows if row.case.device == "cpu" and row.status != "ok"
    } == dict.fromkeys(LEFT_OUT, "no result of it is in benchmark.json")


def test_unknown_intervals_survive_the_benchmark_file(tmp_path: Path) -> None:
    """A single block has no interval, and the file says null."""
    run = run_of([record_of(CPU_CASE, phases=("step",))])
    row = rows_of(run, blocks_of(rounds=1))[0]
    content = benchmark_json(run) | {"benchmarks": [{"extra_info": row.as_record()}]}
    (tmp_path / "benchmark.json").write_text(json.dumps(content))
    assert "± n/a" in render(read_source(tmp_path)).text


def test_tables_are_written_as_markdown_and_csv(folder: Path) -> None:
    """Every table twice, and the text."""
    source = read_source(folder)
    report = render(source)
    write_tables(folder, report)
    written = {file.name for file in (folder / "tables").iterdir()}
    names = [table.name for table in report.tables]
    assert written == {"summary.md", *(f"{name}.{kind}" for name in names for kind in ("md", "csv"))}
    assert (folder / "tables" / "summary.md").read_text() == report.text + "\n"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe\xff", "is not JSON"),
        (b"[]", "is not a run of this suite: it has no key 'nncore_bench'"),
        (b'{"benchmarks": []}', "is not a run of this suite: it has no key 'nncore_bench'"),
        (
            b'{"nncore_bench": {"schema_version": 9}}',
            "has schema version 9, and this version reads 2 (read it",
        ),
        (b'{"nncore_bench": {"schema_version": 2}}', "does not hold the rows of a run"),
        (b'{"nncore_bench": {"schema_version": 2, "run": {}}}', "does not hold the rows of a run"),
    ],
)
def test_a_broken_benchmark_file_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    """In one sentence that names it."""
    (tmp_path / "benchmark.json").write_bytes(content)
    with pytest.raises(RunError, match=f"benchmark.json' {re.escape(sentence)}") as refusal:
        read_source(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "change", [{"benchmarks": [{}]}, {"benchmarks": 3}, {"benchmarks": [{"extra_info": {}}]}]
)
def test_rows_of_another_kind_are_refused(run: Run, tmp_path: Path, change: dict[str, Any]) -> None:
    """Other plugins keep other things under extra_info."""
    (tmp_path / "benchmark.json").write_text(json.dumps(benchmark_json(run, **change)))
    with pytest.raises(RunError, match="does not hold the rows of a run"):
        read_source(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_what_is_no_archive_of_laps_is_refused(folder: Path, content: bytes) -> None:
    """Under a name that says it is."""
    (folder / "rounds" / "00001.npz").write_bytes(content)
    with pytest.raises(RunError, match="laps that can"):
        read_source(folder)


@pytest.mark.parametrize("damage", ["cut off", "overwritten"])
def test_a_damaged_archive_of_laps_is_refused(folder: Path, damage: str) -> None:
    """By its directory or by its checksums."""
    file = folder / "rounds" / "00001.npz"
    content = file.read_bytes()
    middle = len(content) // 2
    rest = b"" if damage == "cut off" else bytes(100) + content[middle + 100 :]
    file.write_bytes(content[:middle] + rest)
    with pytest.raises(RunError, match="laps that can"):
        read_source(folder)


@pytest.mark.parametrize("path", ["", "missing"])
def test_what_is_no_run_is_refused(tmp_path: Path, path: str) -> None:
    """An empty folder, and none."""
    with pytest.raises(RunError, match=r"is not a run: it has neither|does not exist"):
        read_source(tmp_path / path)
