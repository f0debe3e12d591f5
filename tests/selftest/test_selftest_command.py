"""`nncore-bench selftest` as it is typed: a line a check, and an exit code that says how it went."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from nncore_bench import __main__ as command
from nncore_bench.campaign.launcher import WorkerError
from nncore_bench.selftest import campaign as selftest
from nncore_bench.selftest.checks import Check

ROOT = Path(__file__).parents[2]
GOOD, BAD = Check("clock", passed=True, words="fine"), Check("observer", passed=False, words="+9 %")
LOUD = Check("parts", passed=None, words="± 9 %")


def answering(*checks: Check, error: Exception | None = None) -> object:
    """Return a self-test that has these checks, and then perhaps breaks."""

    def run(_effort: selftest.Effort, progress: object) -> Iterator[Check]:
        assert callable(progress)
        yield from checks
        if error:
            raise error

    return run


def test_every_check_is_a_line_and_all_passed_is_exit_code_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the figure, whether it passed or not."""
    monkeypatch.setattr(selftest, "selftest", answering(GOOD, GOOD))
    assert command.main(["selftest"]) == 0
    assert capsys.readouterr().out == "ok    clock: fine\nok    clock: fine\n2 of 2 checks passed\n"


def test_one_failed_check_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are told all the same."""
    monkeypatch.setattr(selftest, "selftest", answering(GOOD, BAD, GOOD))
    assert command.main(["selftest", "--quick"]) == 1
    out = capsys.readouterr().out
    assert "FAIL  observer: +9 %\n" in out
    assert out.endswith("2 of 3 checks passed\n")


def test_a_machine_too_loud_to_tell_is_exit_code_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a failure counts for more."""
    monkeypatch.setattr(selftest, "selftest", answering(GOOD, LOUD))
    assert command.main(["selftest"]) == 3
    out = capsys.readouterr().out
    assert out == "ok    clock: fine\nloud  parts: ± 9 %\n1 of 2 checks passed, 1 too loud to tell\n"
    monkeypatch.setattr(selftest, "selftest", answering(LOUD, BAD))
    assert command.main(["selftest"]) == 1


def test_a_machine_that_cannot_measure_is_one_sentence_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where torch cannot be imported."""
    monkeypatch.setattr(selftest, "selftest", answering(error=WorkerError("it ended with exit code 1")))
    assert command.main(["selftest"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said == ["nncore-bench selftest: this machine cannot be tested: it ended with exit code 1"]


def test_a_mistyped_option_is_one_sentence() -> None:
    """And nothing is measured."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", "selftest", "--fast"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "--fast" in done.stderr


@pytest.mark.machine
def test_ctrl_c_ends_with_130_and_leaves_no_process() -> None:
    """In the middle of warming up."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench", "selftest", "--quick"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert any("warm-up" in line for line in process.stderr)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in rest
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert workers
    assert alive == []


def test_a_worker_that_dies_in_a_check_fails_that_check_alone() -> None:
    """The rest of the self-test goes on."""

    def dying() -> list[Check]:
        raise WorkerError("was killed by signal 9")

    (check,) = selftest.checks_of(dying, "counters")
    assert (check.name, check.passed) == ("counters", False)
    assert check.figure == "its worker process was killed by signal 9"
    assert selftest.checks_of(lambda: [GOOD], "clock") == [GOOD]
