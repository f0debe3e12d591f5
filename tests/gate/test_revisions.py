"""Revisions laid out from real repositories."""

import os
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest

from nncore_bench.errors import UserError
from nncore_bench.gate.revisions import LOCK, WORKING_TREE, Layout, Repository


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=A", "-c", "user.email=a@b.c")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)  # noqa: S607


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository with two commits, one of them on a branch, and changes on top."""
    git(tmp_path, "init", "-b", "main")
    (tmp_path / "code.py").write_text("one")
    (tmp_path / ".gitignore").write_text("ignored\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    git(tmp_path, "checkout", "-b", "work")
    (tmp_path / "code.py").write_text("two")
    git(tmp_path, "commit", "-am", "two")
    (tmp_path / "code.py").write_text("three")
    (tmp_path / "new.py").write_text("new")
    (tmp_path / "ignored").write_text("ignored")
    return tmp_path


def test_each_revision_has_its_own_code_under_either_letter(repository: Path) -> None:
    """The working tree with what is not committed, without what git ignores."""
    known = Repository(repository)
    with closing(Layout(known.lay_out, known.revision("main"), known.revision(WORKING_TREE))) as layout:
        folders = [layout.paths(swapped=swapped) for swapped in (False, True)]
        for base, candidate in folders:
            assert (base / "code.py").read_text() == "one"
            assert (candidate / "code.py").read_text() == "three"
            assert (candidate / "new.py").exists()
            assert not (candidate / "ignored").exists()
            assert len(str(base)) == len(str(candidate))
        assert [pair[0].name for pair in folders] == ["p", "q"]
    assert not folders[0][0].exists()


def test_the_merge_base_is_where_the_branch_left_main(repository: Path) -> None:
    """And not what main has become since."""
    known = Repository(repository)
    assert known.merge_base().commit == known.revision("main").commit
    assert known.revision("HEAD").commit != known.revision("main").commit


def test_what_a_killed_gate_left_is_removed_by_the_next_one(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing that is in use, too young to be locked, or somebody else's."""
    place = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    hour_ago = time.time() - 3600
    for name, files in (
        ("nncore-bench-gate-killed", [LOCK, "code.py"]),
        ("nncore-bench-gate-young", [LOCK]),
        ("nncore-bench-gate-other", ["code.py"]),
    ):
        (place / name).mkdir()
        for file in files:
            (place / name / file).touch()
        if name != "nncore-bench-gate-young":
            os.utime(place / name, (hour_ago, hour_ago))
    known = Repository(repository)
    with closing(Layout(known.lay_out, known.revision("main"), known.revision("HEAD"))) as layout:
        in_use = layout.paths(swapped=False)[0].parents[1]
        os.utime(in_use, (hour_ago, hour_ago))
        with closing(Layout(known.lay_out, known.revision("main"), known.revision("HEAD"))):
            left = {folder.name for folder in place.iterdir()}
        assert in_use.name in left
        assert left >= {"nncore-bench-gate-young", "nncore-bench-gate-other"}
        assert "nncore-bench-gate-killed" not in left


def test_the_repository_itself_is_left_as_it_was(repository: Path) -> None:
    """No worktree is registered, nothing is checked out."""
    known = Repository(repository)
    before = sorted(path.name for path in repository.iterdir())
    Layout(known.lay_out, known.revision("main"), known.revision("HEAD")).close()
    assert sorted(path.name for path in repository.iterdir()) == before
    assert (repository / "code.py").read_text() == "three"
    assert not (repository / ".git" / "worktrees").exists()


def test_an_unknown_revision_is_one_sentence(repository: Path) -> None:
    """That names it."""
    with pytest.raises(UserError, match="'nowhere' is no revision of"):
        Repository(repository).revision("nowhere")


def test_a_folder_outside_of_git_is_one_sentence(tmp_path: Path) -> None:
    """In git's own words."""
    with pytest.raises(UserError, match="not a git repository"):
        Repository(tmp_path)


def test_without_git_it_is_one_sentence(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no traceback."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="git cannot be run"):
        Repository(repository)


def test_a_repository_without_main_asks_for_a_base(repository: Path) -> None:
    """Rather than comparing with something else."""
    git(repository, "branch", "-D", "main")
    with pytest.raises(UserError, match="--base REV"):
        Repository(repository).merge_base()
