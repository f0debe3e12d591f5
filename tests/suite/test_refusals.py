"""Bad input is one sentence with the value and the way out, and exit code 4, before anything is measured."""

from pathlib import Path
from typing import TypeAlias

import pytest
from sessions import SMALL, session_here

Capture: TypeAlias = pytest.CaptureFixture[str]
pytestmark = pytest.mark.machine


def sentence(stderr: str) -> str:
    """Return the only line that was printed as an error."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    assert len(lines) == 1, stderr
    assert lines[0].startswith("ERROR: ")
    return lines[0]


@pytest.mark.parametrize(
    ("argument", "value", "way_out"),
    [
        ("--step-devices=tpu", "'tpu'", "cpu, cuda"),
        ("--step-dataset=cifar", "'cifar'", "digits"),
        ("--step-subject=resnet", "'resnet'", "simplenn"),
        ("--step-batch-sizes=16,x", "'16,x'", "64,256"),
        ("--step-batch-sizes=0", "0", "smallest size is 1"),
        ("--step-hidden=-5", "-5", "smallest size is 1"),
        ("--step-threads=two", "'two'", "1,all"),
        ("--step-budget=soon", "'soon'", "60 or 2m"),
        ("--benchmark-cprofile=ncalls", "--benchmark-cprofile", "leave the option out"),
        ("--benchmark-warmup=on", "--benchmark-warmup", "leave the option out"),
        ("--benchmark-calibration-precision=5", "--benchmark-calibration-precision", "leave the option out"),
    ],
)
def test_an_option_that_cannot_be_used_is_one_sentence(
    capfd: Capture, tmp_path: Path, argument: str, value: str, way_out: str
) -> None:
    """Exit code 4, and not even the results folder is made."""
    results = tmp_path / "results"
    process = session_here(capfd, argument, f"--step-results={results}", "--benchmark-only")
    assert process.returncode == 4
    message = sentence(process.stderr)
    assert value in message
    assert way_out in message
    assert not results.exists()


def test_cuda_alone_without_a_device_is_refused(capfd: Capture, tmp_path: Path) -> None:
    """With cpu,cuda the cases are skipped; cuda alone could measure nothing."""
    process = session_here(
        capfd, "--step-devices=cuda", f"--step-results={tmp_path / 'results'}", "--benchmark-only"
    )
    if process.returncode == 0:
        pytest.skip("this machine has a CUDA device")
    assert process.returncode == 4
    assert "use --step-devices=cpu" in sentence(process.stderr)


def test_results_that_cannot_be_written_are_refused(capfd: Capture, tmp_path: Path) -> None:
    """The place of the folder is taken by a file."""
    (tmp_path / "file").write_text("")
    process = session_here(capfd, f"--step-results={tmp_path / 'file' / 'results'}", "--benchmark-only")
    assert process.returncode == 4
    assert "name a folder you may write" in sentence(process.stderr)


def test_a_data_set_with_broken_files_is_refused(
    capfd: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence names the folder and the choice that needs no files."""
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte").write_bytes(b"not an idx file")
    monkeypatch.setenv("NNCORE_DATA", str(tmp_path / "data"))
    process = session_here(
        capfd, "--step-dataset=mnist", f"--step-results={tmp_path / 'results'}", "--benchmark-only"
    )
    assert process.returncode == 4
    message = sentence(process.stderr)
    assert str(tmp_path / "data") in message
    assert "digits" in message


def test_collecting_measures_nothing(capfd: Capture, tmp_path: Path) -> None:
    """The default grid: 12 CPU cells of 8 phases per thread count, 16 CUDA cells of 9 and 8 not fed of 7."""
    process = session_here(
        capfd, "--collect-only", "-q", "--step-threads=1", f"--step-results={tmp_path / 'results'}"
    )
    assert process.returncode == 0
    assert process.stdout.count("test_phase[") == 12 * 8 + 16 * 9 + 8 * 7
    assert not (tmp_path / "results").exists()


def test_with_benchmarks_disabled_each_case_is_run_once_and_nothing_is_written(
    capfd: Capture, tmp_path: Path
) -> None:
    """What users of pytest-benchmark expect of --benchmark-disable."""
    process = session_here(
        capfd, *SMALL, "--step-devices=cpu", "--benchmark-disable", f"--step-results={tmp_path / 'results'}"
    )
    assert process.returncode == 0, process.stdout
    assert "8 passed" in process.stdout
    assert not (tmp_path / "results").exists()
