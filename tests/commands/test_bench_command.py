"""`nncore-bench report` answers at once, prints runs again, and refuses bad input in one sentence."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from made_up_runs import saved

from nncore_bench import __main__ as command
from nncore_bench.commands import report
from nncore_bench.commands.answer import Answer

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: object, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "bench", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | changes,
        check=False,
        timeout=30,
    )


def test_a_run_is_printed_again_with_its_sentences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And its tables are written into its folder."""
    folder = saved(tmp_path, 1)
    assert command.main(["report", str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"run {folder.name} on anvil (Made-up CPU)\n")
    assert "Best throughput: 48,500 samples/s" in out
    assert (folder / "tables" / "phases.csv").exists()


def test_without_a_run_the_newest_is_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That of the results folder."""
    for day in (3, 5, 4):
        saved(tmp_path, day)
    assert command.main(["report", "--results", str(tmp_path)]) == 0
    assert "run 20250105T000000Z-anvil-ab12" in capsys.readouterr().out


def test_a_run_that_was_killed_is_told_from_its_finished_rounds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the files of the rounds, and with tables."""
    folder = saved(tmp_path, 1, state="running", merge=False)
    assert command.main(["report", str(folder)]) == 0
    assert "cut short (or is still running) after 2 of 8 rounds" in capsys.readouterr().out
    assert (folder / "tables" / "summary.md").exists()


def test_two_runs_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing is written."""
    folders = [saved(tmp_path, day) for day in (1, 2)]
    assert command.main(["report", *map(str, folders)]) == 0
    assert "compared 1 of 1, 0 new, 0 missing" in capsys.readouterr().out
    assert not (folders[0] / "tables").exists()


def test_all_prints_checks_and_machine_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which the usual text leaves to the files."""
    folder = saved(tmp_path, 1)
    titles = []
    for options in ([], ["--all"]):
        command.main(["report", str(folder), *options])
        titles.append(capsys.readouterr().out.count("\n## "))
    assert titles[1] == titles[0] + 3  # checks, facts, and the findings that do not apply


def test_a_folder_that_may_only_be_read_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables of other people's runs are printed and not written."""

    def refused(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied", f"{path}: {len(content)}")

    monkeypatch.setattr("nncore_bench.text.table.replace_file", refused)
    assert command.main(["report", str(saved(tmp_path, 1))]) == 0
    assert "Best throughput" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["report", "missing"], "'missing' does not exist"),
        (["report", "."], "is not a run: it has neither run.json nor benchmark.json"),
        (["report", "pyproject.toml"], "is not JSON"),
        (["report", "x" * 5000], "cannot be used (File name too long)"),
        (["report", "a", "b", "c"], "3 runs were given, but only 2 can be compared"),
        (["report", "--results", "missing"], "holds no run (make one: pytest bench/ --benchmark-only)"),
    ],
)
def test_what_is_no_run_is_refused_in_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With exit code 2 and nothing on standard output."""
    monkeypatch.chdir(ROOT)
    assert command.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nncore-bench report: ")
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["report", "--colour"], "--colour"),
        (["rapport"], "rapport"),
        ([], "COMMAND"),
    ],
)
def test_a_mistyped_command_is_refused_in_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 2."""
    with pytest.raises(SystemExit) as leaving:
        command.main(arguments)
    err = capsys.readouterr().err
    assert leaving.value.code == 2
    assert sentence in err
    assert err.count("\n") == 1


def test_an_interrupt_leaves_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    """With exit code 130, whatever was going on."""

    def interrupted(*_: object) -> Answer:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "run", interrupted)
    assert command.main(["report"]) == 130


@pytest.mark.machine
def test_help_answers_at_once() -> None:
    """Within 0.3 s at the fastest of three goes: pandas is imported only when it is needed."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        assert "report" in bench("--help").stdout
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3


def test_a_report_imports_neither_torch_nor_what_measures(tmp_path: Path) -> None:
    """Nor scipy.stats, which alone takes a second."""
    code = (
        "import sys; from nncore_bench.__main__ import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'nncore', 'nncore_bench.measure', 'scipy.stats'};"
        "print(code, sorted(heavy & {*sys.modules}))"
    )
    arguments = [sys.executable, "-c", code, "report", str(saved(tmp_path, 1))]
    out = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, check=True, timeout=30).stdout
    assert out.splitlines()[-1] == "0 []"


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    """As in `nncore-bench report | head -1`."""
    folder = saved(tmp_path, 1)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed_pipe:
        process = subprocess.run(
            [sys.executable, "-m", "bench", "report", str(folder)],
            stdout=closed_pipe,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            check=False,
            timeout=30,
        )
    assert (process.returncode, process.stderr) == (0, "")


def test_a_terminal_without_unicode_gets_a_report(tmp_path: Path) -> None:
    """With question marks for what it cannot show."""
    process = bench("report", saved(tmp_path, 1), PYTHONIOENCODING="ascii")
    assert (process.returncode, process.stderr) == (0, "")
    assert "step ?s" in process.stdout


@contextmanager
def open_for_a_reader(pipe: Path) -> Iterator[None]:
    """Hold the writing end of a pipe, as soon as somebody reads from it."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with suppress(OSError):
            writing = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            break
        time.sleep(0.02)
    yield
    os.close(writing)


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_ends_the_process_without_a_traceback(tmp_path: Path) -> None:
    """While it reads a run that is a pipe into which nobody writes."""
    pipe = tmp_path / "run" / "run.json"
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", "report", str(pipe.parent)], stderr=subprocess.PIPE, cwd=ROOT
    )
    with open_for_a_reader(pipe):
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)  # the pipe has ended by now, in case that it had begun to read
    assert (process.returncode, err) == (130, b"")


def test_the_bare_name_of_a_run_is_found_in_the_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is what a report prints, and what a reader copies; twice the same run is said to be the same."""
    name = saved(tmp_path, 1).name
    assert command.main(["report", "--results", str(tmp_path), name, name]) == 0
    assert "A and B are one and the same run." in capsys.readouterr().out
