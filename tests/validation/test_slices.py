"""A slice probes the machine first, has the load of its run, and says in one sentence why it ends."""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import pytest
import slices
from burner import BurnerError, burning
from slices import SeriesError, loaded, recorded_loudness, settle, slice_of, slice_parser

PATIENCE_S = 30


@dataclass(frozen=True)
class Settings:
    """Settings of a made-up series."""

    load: str = "none"


def no_session(_command: Sequence[str], _log: Path) -> int:
    return 0


def test_a_folder_holds_runs_of_one_kind(tmp_path: Path) -> None:
    """The same settings go on; others are refused with those it was begun with."""
    settle(tmp_path, Settings())
    settle(tmp_path, Settings())
    with pytest.raises(SeriesError, match="begun with --load 'none'"):
        settle(tmp_path, Settings("bursty"))


def test_the_load_of_a_run_depends_on_seed_and_number_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However a series is cut into slices, its runs have the same load again; another seed has another."""
    begun: list[tuple[str, str]] = []

    @contextmanager
    def noted(kind: str, seed: str) -> Iterator[tuple[()]]:
        begun.append((kind, seed))
        yield ()

    monkeypatch.setattr(slices, "burning", noted)
    for seed, numbers in ((0, (1, 2, 3)), (0, (1,)), (0, (2, 3)), (1, (1,))):
        run = loaded("bursty", seed, no_session)
        for number in numbers:
            run(number, [], tmp_path)
    assert begun[:3] == begun[3:6]
    assert len(set(begun)) == 4
    assert {kind for kind, _ in begun} == {"bursty"}


def test_a_load_that_has_ended_ends_the_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its run would count as disturbed and was not."""

    @contextmanager
    def dead(kind: str, seed: str) -> Iterator[Sequence[Popen[bytes]]]:
        with burning(kind, seed, core=100_000) as processes:
            for process in processes:
                process.wait(PATIENCE_S)
            yield processes

    monkeypatch.setattr(slices, "burning", dead)
    with pytest.raises(BurnerError, match="ended with 1"):
        loaded("steady", 0, no_session)(1, [], tmp_path)


@pytest.mark.machine
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores cannot be chosen here")
def test_each_slice_leaves_a_probe_beside_those_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of every core, and none where none is wanted."""
    for seconds in (0.02, 0.0, 0.02):
        with slice_of(tmp_path, Settings(), seconds):
            pass
    first, second = recorded_loudness(tmp_path)
    cores = sorted(os.sched_getaffinity(0))
    assert [one.core for one in first.cores] == [one.core for one in second.cores] == cores
    assert first.started < second.started
    assert capsys.readouterr().out.count("core ") == 2 * len(cores)


def test_a_series_that_was_not_probed_has_none(tmp_path: Path) -> None:
    """As those have that were recorded before there was a probe."""
    assert recorded_loudness(tmp_path) == []


def test_a_machine_that_cannot_be_probed_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is measured."""
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(SystemExit, match="the machine cannot be probed"), slice_of(tmp_path, Settings(), 1.0):
        pytest.fail("it went on")


@pytest.mark.parametrize(
    ("error", "said"),
    [(SeriesError("gate 1 ended"), "gate 1 ended"), (KeyboardInterrupt(), "the same command goes on")],
)
def test_what_ends_a_slice_is_one_sentence(tmp_path: Path, error: BaseException, said: str) -> None:
    """And the folder's lock is free again."""
    with pytest.raises(SystemExit, match=said), slice_of(tmp_path, Settings(), 0.0):
        raise error
    with slice_of(tmp_path, Settings(), 0.0):
        pass


def test_a_slice_is_probed_unless_it_is_not_to_be() -> None:
    """For as long as is asked."""
    parser = slice_parser("What it does.", "gates")
    given = [parser.parse_args(["--out=x", *more]).probe for more in ([], ["--probe=5"], ["--no-probe"])]
    assert given == [2.0, 5.0, 0.0]
