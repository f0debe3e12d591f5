"""The script runs its stages with options that are taken, and its one line says whether to go on."""

import os
import re
import shutil
import subprocess
from argparse import ArgumentParser
from pathlib import Path

import pytest
from day import STAGES, read_day
from glance import glance
from made_up_day import MadeUpDay
from made_up_gpu_runs import good_runs
from made_up_probe import made_up_probe
from made_up_runs import CUDA_CASE
from msgspec.structs import replace
from readings_of_steps import FORMS, SIZES

from nncore_bench import options as step_options
from nncore_bench.__main__ import parse
from nncore_bench.options import Options
from nncore_bench.runs import RunFolder

HERE = Path(__file__).parent
BASH = shutil.which("bash") or "bash"
SCRIPT = HERE / "gpu_day.sh"
PYTHON = """#!/usr/bin/env bash
# Stands in for Python: notes how it was called, and leaves a folder where results are to go.
printf '%s\\0' "$@" >>"$CALLS"
printf '\\n' >>"$CALLS"
for word in "$@"; do
    case $word in --step-results=*) mkdir -p "${word#*=}" ;; esac
done
"""


class Machine:
    """Stand in for a machine with a GPU, on which every program ends at once."""

    def __init__(self, place: Path) -> None:
        self.out, self.calls, python = place / "out", place / "calls", place / "python"
        python.write_text(PYTHON)
        python.chmod(0o755)
        self.environment = os.environ | {
            "OUT": str(self.out),
            "CALLS": str(self.calls),
            "GPU_DAY_PYTHON": str(python),
            "GPU_DAY_WORK": str(place / "work"),
        }

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [BASH, str(SCRIPT), *words]
        return subprocess.run(
            command, env=self.environment | environment, capture_output=True, text=True, check=False
        )

    def commands(self, *leading: str) -> list[list[str]]:
        """Return how Python was called with these leading words, without them."""
        called = [line.split("\0")[:-1] for line in self.calls.read_text().splitlines()]
        return [words[len(leading) :] for words in called if words[: len(leading)] == list(leading)]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Return a machine on which both commands have been run."""
    found = Machine(tmp_path_factory.mktemp("machine"))
    for command in ("first", "second"):
        done = found.run(command)
        assert done.returncode == 0, done.stdout + done.stderr
    return found


def test_both_commands_run_every_stage_that_is_checked(machine: Machine) -> None:
    assert read_day(machine.out).endings == dict.fromkeys(STAGES, "exit code 0")


def test_what_comes_back_fits_what_may_come_back(machine: Machine) -> None:
    """At most eight files a command, in no folder, named in letters, digits, dots, dashes and lines."""
    archives = {f"{name}.tar.gz" for name in STAGES if name not in ("probe", "tests")}
    assert {file.name for file in machine.out.iterdir()} == archives | {
        "first.log",
        "second.log",
        "facts.txt",
    }
    assert all(file.is_file() for file in machine.out.iterdir())
    assert len(archives) - 1 + 1 <= 8


def test_every_option_of_a_stage_is_one_that_the_suite_takes(machine: Machine) -> None:
    sessions = machine.commands("-m", "pytest", "bench/")
    assert len(sessions) == 3
    parser = ArgumentParser(allow_abbrev=False)
    step_options.declare(parser.add_argument)
    for session in sessions:
        own = [word for word in session if word.startswith("--step-")]
        assert Options.build(step_options.typed(parser.parse_args(own))).devices[-1] == "cuda"


def test_every_command_of_a_stage_is_one_that_bench_takes(machine: Machine) -> None:
    commands = machine.commands("-m", "bench")
    assert [words[0] for words in commands] == ["advise", "gate", "profile"]
    for words in commands:
        given = parse(words)
        assert Options.build(step_options.typed(given)).devices == ("cuda",)


def test_the_tests_of_cuda_are_those_that_are_marked_so(machine: Machine) -> None:
    (tests,) = machine.commands("-m", "pytest", "-q", "-m", "cuda")
    named = {word for word in tests if word.endswith(".py")}
    assert "tests/worker/test_cuda_device.py" in named
    assert not any(word.startswith("tests/validation") for word in named)


def test_a_stage_that_no_longer_fits_is_skipped_with_a_line(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.run("second", "profile", "gate", GPU_DAY_S="19")
    log = (machine.out / "second-profile.log").read_text().splitlines()
    assert log == ["== profile: skipped, 19 s left", "== gate: skipped, 19 s left"]


def test_the_stages_of_each_command_fit_its_time_with_their_limits() -> None:
    """A command may take ten minutes; what its limits allow beyond its own time is skipped, least first."""
    text = SCRIPT.read_text()
    limits = {name: int(limit) for name, limit in re.findall(r"(?:stage|suite) (\w+) (\d+) ", text)}
    assert limits.keys() == set(STAGES)
    times = dict(re.findall(r"begin \"?(\w+)[^ ]* (\d+)$", text, re.MULTILINE))
    assert sum(limits[name] for name in STAGES[:3]) < int(times["first"]) + 20 <= 600
    assert int(times["second"]) + 20 <= 600


def test_the_scripts_are_sound() -> None:
    assert subprocess.run([BASH, "-n", str(SCRIPT)], check=False).returncode == 0
    if shellcheck := shutil.which("shellcheck"):
        done = subprocess.run([shellcheck, str(SCRIPT)], capture_output=True, text=True, check=False)
        assert done.stdout == ""


def test_an_unknown_command_says_what_there_is(tmp_path: Path) -> None:
    done = Machine(tmp_path).run("third")
    assert done.returncode == 2
    assert done.stdout == "prepare, first, second [STAGE...] or rehearse FOLDER [STAGE...]?\n"


def test_a_whole_run_on_the_device_says_go_on(tmp_path: Path) -> None:
    assert saved(tmp_path, MadeUpDay.good()).startswith(
        "GO ON: finished, 7 cases and companions on cuda, 0 of"
    )


def test_a_case_that_failed_on_the_device_says_stop_and_why(tmp_path: Path) -> None:
    day = MadeUpDay.good()
    reason = "CUDA error: no kernel image"
    day.change_record("default", CUDA_CASE, lambda one: replace(one, status="failed", reason=reason))
    assert "1 times CUDA error: no kernel image" in (said := saved(tmp_path, day))
    assert said.startswith("STOP")


def test_no_run_at_all_says_stop(tmp_path: Path) -> None:
    assert glance(tmp_path).startswith("STOP: ")


def saved(results: Path, day: MadeUpDay) -> str:
    """Save the default run of a day, and return the line about it."""
    folder = results / "20250102T030405Z-anvil-ab12"
    folder.mkdir()
    RunFolder(folder).save(day.runs["default"][0])
    return glance(results)


def test_the_made_up_day_has_the_sizes_that_the_probe_reads() -> None:
    assert {(one.case.batch_size, one.case.hidden) for one in good_runs()["large"][0].cases} == set(SIZES)
    forms = (*FORMS, "cudagraph")
    assert made_up_probe()["steps"].keys() == {f"b{b}-h{h}-{form}" for b, h in SIZES for form in forms}
