"""`python -m nncore` as its users meet it: what it prints, and how it ends."""

import os
import re
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from nncore import DATASETS
from nncore.__main__ import main, parse

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "nncore"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program and wait for its end."""
    return subprocess.run([*PROGRAM, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def one_sentence(stderr: str) -> str:
    """Return what was said, checked to be one line."""
    assert stderr.startswith("python -m nncore: ")
    assert stderr.count("\n") == 1
    assert stderr.endswith("\n")
    return stderr


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the sentence with which a command line ends in exit code 2 before any training."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    captured = capsys.readouterr()
    assert caught.value.code == 2
    assert captured.out == ""
    return one_sentence(captured.err)


@pytest.mark.machine
def test_digits_are_trained_and_tested(tmp_path: Path) -> None:
    """One line per epoch, then accuracy and loss on the test set; nothing on standard error."""
    done = run("--epochs", "2", "--data-dir", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    patterns = [
        r"digits on (cpu|cuda): 1437 training and 360 test samples",
        r"Epoch \[1/2\], Loss: \d\.\d{4}",
        r"Epoch \[2/2\], Loss: \d\.\d{4}",
        r"Test accuracy: \d\d\.\d\d %",
        r"Test loss: \d\.\d{4}",
    ]
    for pattern, line in zip(patterns, done.stdout.splitlines(), strict=True):
        assert re.fullmatch(pattern, line)
    assert (tmp_path / "digits.npz").exists()


def test_help_names_every_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has to guess them."""
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in DATASETS)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *product(
            ["--epochs", "--batch-size", "--hidden", "--lr", "--seed"], ["-1", "x", "nan", "1e999", "-0.5"]
        ),
        *product(["--epochs", "--batch-size", "--hidden", "--seed"], ["1.5", "99999999999"]),
    ],
)
def test_bad_numbers_are_one_sentence(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It names option and value."""
    sentence = refused(capsys, f"{option}={value}")
    assert option in sentence
    assert repr(value) in sentence


@pytest.mark.parametrize("option", ["--epochs", "--batch-size", "--hidden", "--lr"])
def test_zero_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of nothing nothing comes; only a seed may be 0."""
    assert "'0'" in refused(capsys, option, "0")
    assert parse(["--seed", "0"]).seed == 0


def test_unknown_option_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """It is named, and abbreviations are unknown options."""
    assert "--epoch" in refused(capsys, "--epoch", "3")


def test_unknown_device_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """It is named with the way out."""
    assert "'tpu' is not a known device (choose cpu or cuda)" in refused(capsys, "--device", "tpu")


def test_unwritable_download_folder_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is fetched."""
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    arguments = ("--dataset=mnist", "--download", f"--data-dir={blocked}")
    assert f"{blocked}/MNIST/raw cannot be written" in refused(capsys, *arguments)


@pytest.mark.machine
def test_absent_files_end_the_real_program_in_one_sentence(tmp_path: Path) -> None:
    """Exit code 2, nothing on standard output, one line on standard error."""
    done = run("--dataset", "mnist", "--data-dir", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert str(tmp_path) in one_sentence(done.stderr)


def test_unknown_dataset_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """It lists what can be had."""
    assert ", ".join(DATASETS) in refused(capsys, "--dataset", "minst")


def test_bad_number_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """It names the option, the value and what is allowed."""
    sentence = "python -m nncore: argument --epochs: '0' is not a whole number from 1 to 1000000"
    assert refused(capsys, "--epochs", "0") == f"{sentence}\n"


@pytest.mark.machine
def test_interrupt_ends_with_130_and_no_traceback(tmp_path: Path) -> None:
    """Ctrl-C in the middle of the training says nothing more."""
    process = subprocess.Popen(
        [*PROGRAM, "--epochs", "1000000", "--data-dir", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, Ctrl-C is switched off and would be inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads
    )
    try:
        assert process.stdout is not None
        assert any(line.startswith("Epoch [1/") for line in process.stdout)
        os.kill(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, stderr) == (130, "")
