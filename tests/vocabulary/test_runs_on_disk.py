"""A run on disk reads back as it was, whole or cut short, or is refused in one sentence."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import CPU_CASE, CUDA_CASE, blocks_of, cuda_blocks_of, record_of, run_of

from nncore_bench.runs import (
    Block,
    Run,
    RunError,
    RunFolder,
    newest_run,
    pack,
    read_blocks,
    read_run,
    replace_file,
    unpack,
)


def same(first: Block, second: Block) -> bool:
    """Tell whether two blocks hold the same."""
    keys = [(b.case, b.launch, b.round, b.kind, b.wall_ns) for b in (first, second)]
    devices = [np.empty(0) if b.device is None else b.device for b in (first, second)]
    alike = np.array_equal(first.host, second.host) and np.array_equal(*devices)
    return keys[0] == keys[1] and alike and (first.device is None) == (second.device is None)


@pytest.fixture
def run() -> Run:
    """Return a run of two cases."""
    return run_of([record_of(CPU_CASE), record_of(CUDA_CASE, status="failed", reason="out of memory")])


@pytest.fixture
def folder(tmp_path: Path, run: Run) -> RunFolder:
    """Return the folder of that run with two rounds in it."""
    folder = RunFolder.create(
        tmp_path, "anvil", now=datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC), short_id="ab12"
    )
    folder.save(run)
    for number in range(2):
        folder.save_round(number, [block for block in blocks_of() if block.round == number])
    return folder


def test_packed_blocks_unpack_to_the_same() -> None:
    """Host and device laps, of every kind."""
    blocks = [*blocks_of(), *cuda_blocks_of(1)]
    unpacked = list(unpack(**pack(blocks)))
    assert len(unpacked) == len(blocks)
    assert all(map(same, blocks, unpacked))


def test_no_blocks_pack_to_nothing() -> None:
    """A round in which every case failed is a round."""
    assert list(unpack(**pack([]))) == []


def test_the_folder_is_named_by_time_host_and_id(folder: RunFolder) -> None:
    """The name sorts by time."""
    assert folder.path.name == "20250102T030405Z-anvil-ab12"


def test_a_record_reads_back_as_it_was(folder: RunFolder, run: Run) -> None:
    """From the folder and from its file."""
    assert read_run(folder.path) == run
    assert read_run(folder.path / "run.json") == run


def test_a_killed_run_keeps_its_finished_rounds(folder: RunFolder) -> None:
    """They are there before any merging."""
    assert not (folder.path / "samples.npz").exists()
    assert all(map(same, blocks_of(), read_blocks(folder.path)))


def test_half_a_round_under_its_temporary_name_is_not_read(folder: RunFolder) -> None:
    """What was being written when the process was killed does not count."""
    (folder.path / "rounds" / ".00002.npz").write_bytes(b"PK half a file")
    assert len(list(read_blocks(folder.path))) == len(blocks_of())


def test_merging_keeps_every_lap_and_leaves_one_file(folder: RunFolder) -> None:
    """Even with something half-written in the way."""
    (folder.path / "rounds" / ".00002.npz").write_bytes(b"PK half a file")
    folder.merge_rounds()
    assert all(map(same, blocks_of(), read_blocks(folder.path)))
    assert not (folder.path / "rounds").exists()


def test_replacing_a_file_leaves_nothing_else_behind(tmp_path: Path) -> None:
    """The old content is there until the new one is whole."""
    target = tmp_path / "run.json"
    for content in (b"old", b"new"):
        replace_file(target, content)
        assert target.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_a_file_that_cannot_be_written_whole_keeps_its_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that is full."""
    target = tmp_path / "run.json"
    replace_file(target, b"old")

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as stream:
            stream.write(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(target, b"new")
    assert target.read_bytes() == b"old"


def test_the_newest_run_is_the_last_by_name(tmp_path: Path, folder: RunFolder) -> None:
    """Names begin with the time."""
    later = RunFolder.create(tmp_path, "anvil", now=datetime(2025, 1, 3, tzinfo=UTC), short_id="0000")
    later.save(read_run(folder.path))
    assert newest_run(tmp_path) == later.path


def test_a_results_folder_without_runs_says_how_to_make_one(tmp_path: Path) -> None:
    """Also where there is no such folder."""
    for results in (tmp_path, tmp_path / "none"):
        with pytest.raises(RunError, match=r"holds no run .*pytest bench/"):
            newest_run(results)


def test_results_that_cannot_be_written_are_refused_by_name(tmp_path: Path) -> None:
    """With the way out."""
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"--step-results: .*file.* cannot be written .*name a folder"):
        RunFolder.create(tmp_path / "file", "anvil", now=datetime.now(UTC), short_id="ab12")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "not a run record"),
        (b"[]", "not a run record"),
        (b'{"id": "x"}', "not a run record"),
        (b"\xff\xfe", "not a run record"),
    ],
)
def test_a_broken_record_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    """In one sentence that names the file."""
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunError, match=f"run.json' is {reason}"):
        read_run(tmp_path)


def test_another_schema_is_refused_with_the_way_out(folder: RunFolder) -> None:
    """Both versions are named."""
    record = json.loads((folder.path / "run.json").read_text()) | {"schema_version": 7}
    (folder.path / "run.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match=r"schema version 7, and this version reads 2 \(read it with"):
        read_run(folder.path)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    """Because run.json is missing."""
    with pytest.raises(RunError, match=r"is not a run: run\.json cannot be read"):
        read_run(tmp_path)
