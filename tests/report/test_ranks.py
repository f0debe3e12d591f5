"""Ranks that were watched together: which one is late, from marks that are made up."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from nncore_bench.report.ranks import folders_of_ranks, late_rank, ranks_of, ranks_table
from nncore_bench.watch.marks import FACTS_FILE, STEPPED, Marks, prepare, window_mark
from nncore_bench.watch.windows import WATCHED

NAMES = ["other", "data:0", "forward", "backward", "optimizer"]
US = 1_000


def trained(results: Path, rank: int, group: str, phases: Mapping[str, int], when: str = "120000") -> Path:
    """Write what a rank leaves behind: two windows of four steps that count."""
    folder = results / f"20261129T{when}Z-here-{rank}{group}"
    folder.mkdir(parents=True)
    prepare(folder, 1_000, rank=rank, ranks=2, group=group, names=NAMES, name="train.py")
    marks, now = Marks(folder), 1_000
    for after in (10, 40):
        marks.mark(window_mark(WATCHED, 0, after), now)
        for _ in range(5):
            for name, took in phases.items():
                marks.mark(NAMES.index(name), now)
                now += took * US
            marks.mark(STEPPED, now)
    return folder


QUICK = {"data:0": 100, "forward": 200, "backward": 900, "optimizer": 100}
SLOW = {"data:0": 500, "forward": 220, "backward": 480, "optimizer": 100}


def test_the_late_rank_is_named_with_what_makes_it_late(tmp_path: Path) -> None:
    """It waits 400 µs longer for its data, 20 more in forward, and the others wait for it in backward."""
    folder = trained(tmp_path, 0, "a", QUICK)
    trained(tmp_path, 1, "a", SLOW)
    trained(tmp_path, 2, "a", QUICK)
    ranks = ranks_of(folders_of_ranks(folder))
    assert [one.own_s for one in ranks] == [
        pytest.approx(400e-6),
        pytest.approx(820e-6),
        pytest.approx(400e-6),
    ]
    assert [one.last for one in ranks] == [0, 1, 0]
    assert late_rank(ranks) == (
        "Rank 1 is late: it begins to exchange gradients 420 µs after the others (mean), last in 100 % of the"
        " steps; its waiting for data takes 400 µs longer than theirs."
    )
    table = ranks_table(ranks)
    assert table is not None
    assert [line["last"] for line in table.records()] == [0, 1, 0]


def test_ranks_that_are_alike_are_not_accused(tmp_path: Path) -> None:
    folder = trained(tmp_path, 0, "a", QUICK)
    trained(tmp_path, 1, "a", {**QUICK, "forward": 210})
    assert late_rank(ranks_of(folders_of_ranks(folder))).startswith("No rank is late: they begin")


def test_only_those_that_trained_together_are_put_together(tmp_path: Path) -> None:
    """Not another training, nor one of another time with the same port, nor what is no run."""
    folder = trained(tmp_path, 0, "a", QUICK)
    trained(tmp_path, 1, "b", SLOW)
    trained(tmp_path, 1, "a", SLOW, when="130000")
    (tmp_path / "notes.txt").write_text("")
    assert folders_of_ranks(folder) == {0: folder}
    assert ranks_table(ranks_of({0: folder})) is None


def test_a_run_of_one_process_has_no_ranks(tmp_path: Path) -> None:
    folder = trained(tmp_path, 0, "a", QUICK)
    (folder / FACTS_FILE).write_text(json.dumps({"names": NAMES}))
    assert folders_of_ranks(folder) == {}


def test_a_rank_in_which_nothing_was_watched_is_left_out(tmp_path: Path) -> None:
    folder = trained(tmp_path, 0, "a", QUICK)
    empty = tmp_path / "20261129T120001Z-here-1a"
    empty.mkdir()
    prepare(empty, 10, rank=1, ranks=2, group="a")
    assert [one.rank for one in ranks_of(folders_of_ranks(folder))] == [0]
