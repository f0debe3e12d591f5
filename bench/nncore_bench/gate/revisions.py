"""Revisions: the code of two versions laid out side by side, in folders that differ in one letter."""

import fcntl
import io
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from nncore_bench.errors import UserError

WORKING_TREE = "working tree"
MAIN_BRANCHES = ("origin/main", "main", "origin/master", "master")
SLOTS = ("p", "q")
PREFIX, LOCK = "nncore-bench-gate-", ".nncore-bench-gate.lock"
YOUNG_S = 60
"""Leave younger folders alone: they may not be locked yet."""


@dataclass(frozen=True)
class Revision:
    """A version of the code: its name as typed, and its commit (empty for a working tree)."""

    name: str
    commit: str

    @property
    def short(self) -> str:
        """The name with its commit, for people."""
        return self.name if not self.commit else f"{self.name} ({self.commit[:10]})"


class Repository:
    """The git repository that a folder belongs to."""

    def __init__(self, folder: Path) -> None:
        self.root = Path(_git(folder, "rev-parse", "--show-toplevel").strip())

    def revision(self, name: str) -> Revision:
        """Return a revision by any name that git understands, or the working tree; raises UserError."""
        if name == WORKING_TREE:
            return Revision(name, "")
        try:
            commit = _git(self.root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip()
        except UserError:
            raise UserError(f"{name!r} is no revision of {self.root} (git log --oneline has some)") from None
        return Revision(name, commit)

    def merge_base(self) -> Revision:
        """Return the commit at which this branch left main; raises UserError if there is no main."""
        for branch in MAIN_BRANCHES:
            try:
                commit = _git(self.root, "merge-base", "HEAD", branch).strip()
            except UserError:
                continue
            return Revision(f"merge base with {branch}", commit)
        raise UserError(f"{self.root} has no branch main to compare with (name one: --base REV)")

    def lay_out(self, revision: Revision, folder: Path) -> None:
        """Put the code of a revision into a folder, without history and ignored files."""
        folder.mkdir(parents=True)
        if revision.commit:
            archive = _git_bytes(self.root, "archive", "--format=tar", revision.commit)
            try:
                with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                    tar.extractall(folder, filter="data")
            except tarfile.TarError as error:
                raise UserError(f"{revision.short} cannot be laid out: {error}") from None
            return
        listed = _git(self.root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        for name in filter(None, listed.split("\0")):
            source, target = self.root / name, folder / name
            if source.is_file() or source.is_symlink():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)


class Layout:
    """Both revisions laid out twice, each once under either letter, until it is closed.

    `lay_out` puts the code of a revision into a folder that does not exist yet.
    """

    def __init__(
        self, lay_out: Callable[[Revision, Path], None], base: Revision, candidate: Revision
    ) -> None:
        remove_abandoned()
        self._folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = (self._folder / LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._folders = {
            (is_candidate, swapped): self._folder / "12"[swapped] / SLOTS[is_candidate != swapped]
            for is_candidate, swapped in product((False, True), repeat=2)
        }
        try:
            for (is_candidate, _), folder in self._folders.items():
                lay_out(candidate if is_candidate else base, folder)
        except BaseException:
            self.close()
            raise

    def paths(self, *, swapped: bool) -> tuple[Path, Path]:
        """Return the folders of base and candidate; swapping exchanges their letters."""
        return self._folders[False, swapped], self._folders[True, swapped]

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.close()


def remove_abandoned() -> None:
    """Remove the folders of killed gates: nobody holds their locks."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError), (folder / LOCK).open() as lock:
            if time.time() - folder.stat().st_mtime > YOUNG_S:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def _git(folder: Path, *arguments: str) -> str:
    return _git_bytes(folder, *arguments).decode(errors="replace")


def _git_bytes(folder: Path, *arguments: str) -> bytes:
    try:
        result = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - the user's own git
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise UserError(f"git cannot be run ({error.strerror}), and revisions come from it") from None
    if result.returncode:
        lines = result.stderr.decode(errors="replace").strip().splitlines()
        raise UserError(f"git {arguments[0]} failed: {lines[-1] if lines else 'it said nothing'}")
    return result.stdout
