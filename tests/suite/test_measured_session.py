"""One small session, really measured, and everything that must hold of it."""

import csv
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sessions import SMALL, session

from nncore_bench.cases import PHASES, STEP_PHASES
from nncore_bench.runs import SCHEMA_VERSION, Block, Run, read_blocks, read_run

pytestmark = pytest.mark.machine

CPU_PHASES = [phase for phase in PHASES if phase != "copy"]


class Measured:
    """What one session left behind."""

    def __init__(self, process: subprocess.CompletedProcess[str], results: Path, theirs: Path) -> None:
        self.process = process
        self.folder = next(results.iterdir())
        self.run: Run = read_run(self.folder)
        # The only case is number 0; what follows was measured beside it.
        self.blocks: list[Block] = [block for block in read_blocks(self.folder) if block.case == 0]
        self.ours: dict[str, Any] = json.loads((self.folder / "benchmark.json").read_text())
        self.theirs: dict[str, Any] = json.loads(theirs.read_text())


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Measure one small grid once for this whole file; CUDA is asked for where it can only be skipped."""
    folder = tmp_path_factory.mktemp("measured")
    theirs = folder / "theirs.json"
    process = session(
        *SMALL,
        *(() if torch.cuda.is_available() else ("--step-devices=cpu,cuda",)),
        "--benchmark-only",
        f"--step-results={folder / 'results'}",
        f"--benchmark-json={theirs}",
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return Measured(process, folder / "results", theirs)


def test_every_phase_of_the_case_is_a_test_that_passed(measured: Measured) -> None:
    """Eight phases on the CPU, where nothing is copied."""
    assert f"{len(CPU_PHASES)} passed" in measured.process.stdout
    assert [b["params"]["phase"] for b in measured.theirs["benchmarks"]] == CPU_PHASES


def test_node_ids_read_as_the_contract_says(measured: Measured) -> None:
    """Outside tools keep histories under these names."""
    names = [b["fullname"] for b in measured.theirs["benchmarks"]]
    assert "bench/test_phases.py::test_phase[forward-cpu-t1-float32-eager-b32-h32]" in names


def test_parameters_are_strings_and_integers(measured: Measured) -> None:
    """Anything else ends up as UNSERIALIZABLE in the file."""
    for benchmark in measured.theirs["benchmarks"]:
        params = benchmark["params"]
        assert set(params) == {
            "phase", "subject", "device", "threads", "precision", "variant", "batch_size", "hidden"
        }  # fmt: skip
        assert all(isinstance(value, str | int) for value in params.values())
    assert "UNSERIALIZABLE" not in json.dumps(measured.theirs)


def test_our_file_is_theirs_and_one_key_more(measured: Measured) -> None:
    """Every reader of pytest-benchmark's file reads ours."""
    assert {"machine_info", "commit_info", "benchmarks", "datetime", "version"} <= set(measured.ours)
    assert measured.ours["nncore_bench"]["schema_version"] == SCHEMA_VERSION
    assert measured.ours["nncore_bench"]["run"]["id"] == measured.folder.name
    for ours, theirs in zip(measured.ours["benchmarks"], measured.theirs["benchmarks"], strict=True):
        assert ours["stats"] == theirs["stats"]
        assert ours["extra_info"] == theirs["extra_info"]


def test_pytest_benchmark_reports_the_means_of_the_recorded_blocks(measured: Measured) -> None:
    """Its statistics are those of our samples, computed here once more from the laps on disk."""
    for benchmark in measured.theirs["benchmarks"]:
        phase = benchmark["params"]["phase"]
        blocks = [b for b in measured.blocks if phase in b.laps]
        means = [float(b.host[1:, b.laps.index(phase)].mean()) * 1e-9 for b in blocks]
        assert benchmark["stats"]["data"] == pytest.approx(means, rel=1e-12)
        assert benchmark["stats"]["rounds"] == len(blocks)


def test_the_row_of_the_frame_is_in_extra_info(measured: Measured) -> None:
    """With its interval and both estimates, in seconds."""
    for benchmark in measured.theirs["benchmarks"]:
        row = benchmark["extra_info"]
        assert row["status"] == "ok"
        assert row["launches"] == 2
        assert row["time_low_s"] <= row["time_s"] <= row["time_high_s"]
        assert row["time_s"] <= row["median_s"]
        assert row["samples_per_s"] == pytest.approx(32 / row["median_s"])


def test_what_was_counted_is_in_the_rows(measured: Measured) -> None:
    """FLOP, parameters and Adam's state to the byte, and what limits each phase of a real case."""
    rows = {b["params"]["phase"]: b["extra_info"] for b in measured.theirs["benchmarks"]}
    batch, inputs, hidden, classes = 32, 784, 32, 10
    first, second = 2 * batch * inputs * hidden, 2 * batch * hidden * classes
    assert rows["forward"]["flop"] == first + second
    assert rows["backward"]["flop"] == first + 2 * second
    assert rows["optimizer"]["flop"] is None
    parameters = inputs * hidden + hidden + hidden * classes + classes
    assert rows["step"]["parameter_bytes"] == 4 * parameters
    assert rows["step"]["state_bytes"] == 2 * 4 * parameters + 4 * 4  # and one step counter per tensor
    assert rows["step"]["leaked_bytes"] == 0
    assert {rows[phase]["limit"] for phase in STEP_PHASES} <= {"dispatch", "compute", "memory", "unknown"}
    assert 0 < rows["forward"]["flop_share"] < 1
    assert rows["step"]["reference_smallest_s"] < rows["step"]["reference_middle_s"]


def test_what_was_measured_beside_the_case_is_in_the_file(measured: Measured) -> None:
    """Reference kernels, two networks of fixed size, and the case under the default allocator."""
    beside = measured.ours["nncore_bench"]["companions"]
    assert {row["phase"] for row in beside} >= {"gemm", "copy_cached", "copy_cold", "step"}
    assert [record.role for record in measured.run.companions][:3] == [
        *("reference-kernels", "smallest-network", "middle-network")
    ]
    assert all(record.status == "ok" for record in measured.run.companions)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_cases_are_skipped_with_one_reason_where_there_is_no_device(measured: Measured) -> None:
    """The rows say so in the file; nothing is silently left out."""
    skipped = measured.ours["nncore_bench"]["rows"]
    assert {row["reason"] for row in skipped} == {"no CUDA device was found"}
    assert [row["phase"] for row in skipped] == list(PHASES)
    assert f"{len(CPU_PHASES)} passed, {len(PHASES)} skipped" in measured.process.stdout


@pytest.mark.cuda
def test_a_session_on_a_gpu_compares_it_with_the_cpu(tmp_path: Path) -> None:
    """Both devices are measured in one campaign, and the question is answered."""
    process = session(*SMALL, "--step-devices=cpu,cuda", "--benchmark-only", f"--step-results={tmp_path}")
    assert process.returncode == 0, process.stdout + process.stderr
    assert "CPU against CUDA" in process.stdout
    assert f"{len(PHASES) + len(CPU_PHASES)} passed" in process.stdout


def test_every_lap_is_on_disk_with_its_leading_one_flagged_by_place(measured: Measured) -> None:
    """At least four counted iterations a block; laps and plain blocks in every round."""
    assert measured.run.state == "finished"
    assert measured.run.campaign is not None
    rounds = range(measured.run.campaign.rounds_done)
    for kind in ("laps", "plain", "feed", "inference"):
        blocks = [b for b in measured.blocks if b.kind == kind]
        assert sorted(b.round for b in blocks) == list(rounds)
        assert all(len(b.host) >= 5 for b in blocks)
    assert all((b.host > 0).all() for b in measured.blocks if b.kind == "plain")


def test_hardly_anything_of_a_block_lies_outside_its_laps(measured: Measured) -> None:
    """The block's own clock, read around all iterations, sees what the laps see."""
    covered = [block.host[1:].sum() / block.wall_ns for block in measured.blocks]
    assert np.median(covered) >= 0.99


def test_shares_of_the_step_and_what_is_left_over_make_one(measured: Measured) -> None:
    """Shares are of the smallest laps, which add up to the time of the step."""
    laps = np.concatenate([b.host[1:] for b in measured.blocks if b.kind == "laps"])
    rows = {b["params"]["phase"]: b["extra_info"] for b in measured.theirs["benchmarks"]}
    smallest = laps.min(axis=0)
    left_over = smallest[5] / smallest.sum()
    assert sum(rows[phase]["share"] for phase in STEP_PHASES) + left_over == pytest.approx(1.0)
    assert rows["step"]["time_s"] == pytest.approx(smallest.sum() * 1e-9)


def test_the_check_before_timing_is_in_the_record(measured: Measured) -> None:
    """The first loss of ten classes is near log 10; every parameter got a gradient and moved."""
    correct = measured.run.cases[0].correct
    assert correct["loss"] == pytest.approx(np.log(10), abs=0.3)
    assert correct["gradients"] == correct["moved"] == 1.0


def test_one_case_was_profiled_and_its_trace_can_be_read(measured: Measured) -> None:
    """The operators are named as PyTorch names them, and every phase label is in the trace."""
    import gzip  # noqa: PLC0415 - one use

    (own,) = [profile for profile in measured.run.profiles if not profile.role]
    events = json.loads(gzip.decompress((measured.folder / own.trace).read_bytes()))["traceEvents"]
    assert set(STEP_PHASES) <= {event.get("name") for event in events}
    addmm = [o for o in own.operators if o.phase == "forward" and o.operator == "aten::addmm"]
    assert {(o.module, o.calls) for o in addmm} == {("fc1", 1.0), ("fc2", 1.0)}
    assert own.disagreement == ""
    for phase in STEP_PHASES:
        assert sum(o.share for o in own.operators if o.phase == phase) == pytest.approx(1.0)


def test_our_tables_come_last_on_the_screen_and_are_in_the_folder(measured: Measured) -> None:
    """pytest-benchmark's table first, ours after it, as .md and .csv too."""
    screen = measured.process.stdout
    assert screen.index("benchmark 'forward'") < screen.index("samples/s")
    names = {path.suffix for path in (measured.folder / "tables").iterdir()}
    assert names == {".md", ".csv"}
    assert re.search(r"run folder: .*results", screen)


def test_every_figure_of_a_table_is_in_the_file_for_machines(measured: Measured) -> None:
    """By the table's name, as in its CSV; what is unknown is null, and not NaN, which JSON does not have."""
    text = (measured.folder / "benchmark.json").read_text()
    tables = json.loads(text, parse_constant=pytest.fail)["nncore_bench"]["tables"]
    written = {path.stem: path for path in (measured.folder / "tables").glob("*.csv")}
    assert tables.keys() == written.keys()
    for name in ("phases", "scaling", "quality"):
        if name in written:
            with written[name].open() as lines:
                expected = list(csv.DictReader(lines))
            for record, line in zip(tables[name], expected, strict=True):
                for column, value in record.items():
                    assert line[column] == ("" if value is None else str(value))


def test_the_record_names_code_machine_and_options(measured: Measured) -> None:
    """What was measured, where, and how it was asked for."""
    run = measured.run
    assert run.code.path
    assert run.machine["torch"]
    assert "MALLOC_MMAP_THRESHOLD_" in run.machine["allocator_policy"]
    assert run.options["batch-sizes"] == [32]
    assert run.campaign is not None
    assert run.campaign.measured_s < run.campaign.wall_s
