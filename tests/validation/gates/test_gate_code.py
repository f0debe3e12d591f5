"""A series of gates outlives what does not change how pairs are measured, and nothing else."""

import json
import shutil
from pathlib import Path

import pytest
from gate_code import (
    ACCEPTED,
    PACKAGES,
    ROOT,
    SERIES,
    agreement,
    digest_of,
    outcomes_of,
    series_of,
    statements_of,
)
from gates import code_of

BEFORE = '''"""A module."""

from nncore_bench.measure import messages
from nncore_bench.worker.clock import Clock

LEAST = 4


def lap(clock: Clock) -> int:
    """Return a lap."""
    return messages.Lap(clock.now()).ns  # a comment
'''


def test_imports_docstrings_and_names_of_modules_have_no_part_in_the_digest() -> None:
    """The module of messages is renamed and its import moved, and the docstrings say something else."""
    after = BEFORE.replace("from nncore_bench.measure import messages", "from bench.worker import protocol")
    after = (
        after.replace("messages.Lap", "protocol.Lap")
        .replace("Return a lap", "Lap")
        .replace("  # a comment", "")
    )
    assert after != BEFORE
    assert statements_of(after) == statements_of(BEFORE)


@pytest.mark.parametrize(
    ("old", "new"),
    [("LEAST = 4", "LEAST = 5"), (".ns", ".us"), ("clock.now()", "clock.now"), ("def lap(", "def laps(")],
)
def test_whatever_else_changes_is_seen(old: str, new: str) -> None:
    """A constant, an attribute, a call, a name."""
    assert statements_of(BEFORE.replace(old, new)) != statements_of(BEFORE)


def test_an_attribute_of_what_is_no_module_is_kept() -> None:
    """`Clock` is a class of this project: which of its members is read makes a difference."""
    assert statements_of("from bench.x import Clock\nClock.now") != statements_of(
        "from bench.x import Other\nOther.now"
    )


PACKAGE = "bench/nncore_bench"


def copied(folder: Path) -> Path:
    """Return a checkout that has what is digested."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def in_only_file(root: Path, text: str, new: str) -> None:
    """Replace a text in the only file that has it."""
    (file,) = [path for path in (root / PACKAGE).rglob("*.py") if text in path.read_text()]
    file.write_text(file.read_text().replace(text, new))


def test_a_definition_may_move_from_file_to_file(tmp_path: Path) -> None:
    """A constant that moves into another measuring module is what it was; one that is gone is missed."""
    root, moved = copied(tmp_path), "\n\nNANOSECONDS_PER_MILLISECOND = 1_000_000\n"
    in_only_file(root, moved, "\n")
    assert digest_of(root) != digest_of(ROOT)
    (blocks,) = (root / PACKAGE).rglob("blocks.py")
    blocks.write_text(blocks.read_text() + moved)
    assert digest_of(root) == digest_of(ROOT)


def test_modules_and_named_definitions_may_lie_in_any_folder(tmp_path: Path) -> None:
    """Every module of the package goes one folder down, and that of the gate's class has another name."""
    root = copied(tmp_path)
    (root / PACKAGE).rename(root / "aside")
    (root / PACKAGE).mkdir(parents=True)
    (root / "aside").rename(root / PACKAGE / "deeper")
    (stages,) = [path for path in (root / PACKAGE).rglob("*.py") if "class Gate:" in path.read_text()]
    stages.rename(stages.with_name("elsewhere.py"))
    assert digest_of(root) == digest_of(ROOT)


def test_what_is_gone_or_there_twice_is_told(tmp_path: Path) -> None:
    """Else the digest would be of less than it says, or of something else."""
    root = copied(tmp_path)
    twin = root / PACKAGE / "deeper" / "worker" / "blocks.py"
    twin.parent.mkdir(parents=True)
    twin.write_text("")
    with pytest.raises(LookupError, match="blocks is there 2 times"):
        digest_of(root)
    twin.unlink()
    in_only_file(root, "class Gate:", "class Judge:")
    with pytest.raises(LookupError, match=r"Gate\._stage is there 0 times"):
        digest_of(root)


def test_what_only_judges_has_no_part_in_the_digest(tmp_path: Path) -> None:
    """Recorded gates are judged again for that (rejudge_gates.py)."""
    in_only_file(copied(tmp_path), "MOST_EXPLAINED, EXAMPLES = 12, 2", "MOST_EXPLAINED, EXAMPLES = 9, 1")
    assert digest_of(tmp_path) == digest_of(ROOT)


def test_accepted_digests_are_one_series_for_each_torch(tmp_path: Path) -> None:
    """And a series in its folder goes on under the code it was begun with."""
    first, *_, last = ACCEPTED
    assert (
        series_of(f"gate {first}, torch 2.14.1")
        == series_of(f"gate {last}, torch 2.14.1")
        == f"{SERIES}, torch 2.14.1"
    )
    assert series_of(f"gate {first}, torch 2.15.0") != series_of(f"gate {first}, torch 2.14.1")
    assert series_of("gate 0123456789, torch 2.14.1") == "gate 0123456789, torch 2.14.1"
    (tmp_path / "series.json").write_text(json.dumps({"code": f"gate {first}, torch 2.14.1"}))
    assert code_of(tmp_path, f"gate {last}, torch 2.14.1") == f"gate {first}, torch 2.14.1"
    assert code_of(tmp_path, "gate 0123456789, torch 2.14.1") == "gate 0123456789, torch 2.14.1"
    assert code_of(tmp_path / "new", "gate 0123456789, torch 2.14.1") == "gate 0123456789, torch 2.14.1"


@pytest.mark.parametrize(
    ("same", "slower", "why"),
    [
        (["right"] * 12, ["right"] * 6, ""),
        (["right"] * 11, ["right"] * 6, "11 gates of equal code are too few"),
        (["right"] * 12, ["right"] * 5, "5 gates of +5 % are too few"),
        (
            ["right"] * 12 + ["false alarm"],
            ["right"] * 6,
            "1 of 13 gates of equal code disagree: false alarm",
        ),
        (["right"] * 12, ["right"] * 6 + ["missed"], "1 of 7 gates of +5 % disagree: missed"),
    ],
)
def test_fresh_gates_agree_only_where_all_are_right(same: list[str], slower: list[str], why: str) -> None:
    """Twelve and six of them at least, and no more gates make up for a wrong one."""
    found = agreement(same, slower)
    assert found.startswith(why)
    assert bool(found) == bool(why)


ONE_CASE = "cpu-t1-float32-eager-b32-h128"


def series(folder: Path, scenario: str, *slower: tuple[str, ...], code: str = "here") -> Path:
    """Return a folder with a gate for each of `slower`, in which these columns were called so."""
    folder.mkdir()
    (folder / "series.json").write_text(json.dumps({"scenario": scenario, "load": "none", "code": code}))
    for number, names in enumerate(slower, 1):
        decisions = [
            {"name": name, "kind": kind, "verdict": "slower" if name in names else "same"}
            for name, kind in ((ONE_CASE, "case"), ("suite", "suite"))
        ]
        (folder / f"{number:03}.json").write_text(json.dumps({"decisions": decisions}))
    return folder


def test_fresh_gates_are_counted_over_all_their_series(tmp_path: Path) -> None:
    """Two slices of equal code, one with a false alarm, and one of +5 % that was missed once."""
    fresh = [
        series(tmp_path / "first", "same", (), ()),
        series(tmp_path / "second", "same", ("suite",)),
        series(tmp_path / "slower", "case-5", (ONE_CASE,), (), (ONE_CASE, "suite")),
    ]
    same, slower = outcomes_of(fresh, "here")
    assert same == ["right", "right", "false alarm"]
    assert slower == ["right", "missed", "false alarm"]


def test_gates_of_other_code_prove_nothing(tmp_path: Path) -> None:
    """Nor do those of another scenario."""
    with pytest.raises(ValueError, match="was measured by there, and here is here"):
        outcomes_of([series(tmp_path / "other", "same", (), code="there")], "here")
    with pytest.raises(ValueError, match="has gates of tail"):
        outcomes_of([series(tmp_path / "tail", "tail", ())], "here")
