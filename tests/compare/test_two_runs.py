"""Two runs are held against each other by batch size and width, each at its best, and both are named."""

from dataclasses import replace

import pytest
from made_up_runs import CPU_CASE, CUDA_CASE, blocks_of, cuda_blocks_of, record_of, run_of

from nncore_bench.cases import Case
from nncore_bench.companions import MIDDLE_NETWORK, SMALLEST, SMALLEST_NETWORK
from nncore_bench.compare.compare import compare_cases
from nncore_bench.compare.side_by_side import agreement, side_by_side, versus_table
from nncore_bench.estimate.results import rows_of
from nncore_bench.estimate.source import Source

TWO_THREADS = replace(CPU_CASE, threads=2)
WIDER = replace(CPU_CASE, hidden=512)


def source_of(cases: dict[Case, float], **changes: object) -> Source:
    """Return a run of these cases, each that many times as slow as the known laps."""
    blocks = []
    for number, (case, scale) in enumerate(cases.items()):
        launches = [0.999 * scale, scale, 1.001 * scale]
        blocks += (blocks_of if case.device == "cpu" else cuda_blocks_of)(number, launches=launches)
    run = run_of(map(record_of, cases), **changes)
    return Source(run, rows_of(run, blocks), [], None)


def test_a_run_against_one_of_half_the_speed_is_half_as_fast() -> None:
    """32 samples in 660 µs, and in 1320."""
    table = versus_table(*(source_of({CPU_CASE: scale}) for scale in (1.0, 2.0)))
    assert table is not None
    line = table.shown.iloc[0]
    assert line["A samples/s"].startswith("48,480 ± ")
    assert line["B samples/s"].startswith("24,240 ± ")
    assert line["B/A"] == "0.500 (0.498 to 0.502)"
    (raw,) = table.records()
    assert raw["ratio"] == pytest.approx(0.5)
    assert raw["a_samples_per_s"] == pytest.approx(32 / 660e-6)


def test_each_run_competes_with_its_best_place() -> None:
    """Threads and device are named and do not keep cases apart."""
    text = side_by_side(
        source_of({CPU_CASE: 1.0, TWO_THREADS: 0.5}), source_of({CPU_CASE: 3.0, CUDA_CASE: 0.1})
    )
    assert "cpu, 2 threads" in text
    assert "| cuda " in text
    assert "compared 1 of 1, 0 new, 0 missing" in text


def test_what_only_one_run_has_is_counted() -> None:
    """Nothing is dropped silently."""
    one, other = (
        source_of({CPU_CASE: 1.0, WIDER: 1.0}),
        source_of({CPU_CASE: 1.0, replace(WIDER, batch_size=1): 1.0}),
    )
    assert side_by_side(one, other).endswith("compared 1 of 2, 1 new, 1 missing")


def test_runs_with_nothing_in_common_are_told_apart() -> None:
    """Without a table."""
    text = side_by_side(source_of({CPU_CASE: 1.0}), source_of({WIDER: 1.0}))
    assert text.endswith("compared 0 of 1, 1 new, 1 missing")
    assert "|" not in text


def test_both_runs_are_named_with_host_and_models() -> None:
    """Whoever reads a ratio of two machines has to know which."""
    text = side_by_side(
        source_of({CPU_CASE: 1.0}, host="anvil", machine={"cpu_model": "Some CPU"}),
        source_of({CPU_CASE: 1.0}, host="forge", machine={"cpu_model": "Other CPU", "gpu": "Some GPU"}),
    )
    assert "A: run 20250102T030405Z-anvil-ab12 on anvil (Some CPU)" in text
    assert "B: run 20250102T030405Z-anvil-ab12 on forge (Other CPU; Some GPU)" in text


def test_a_comparison_of_stored_runs_is_no_verdict() -> None:
    """It says so itself."""
    text = side_by_side(source_of({CPU_CASE: 1.0}), source_of({CPU_CASE: 1.0}))
    assert "this is a screen, not a verdict" in text.replace("\n", " ")


def test_two_runs_of_one_machine_say_how_far_apart_they_are() -> None:
    """Place by place, from exact matches: 2 % slower at one width and 4 % at the other, 3 % in the median."""
    before = source_of({CPU_CASE: 1.0, WIDER: 1.0, TWO_THREADS: 1.0})
    after = source_of({CPU_CASE: 1.02, WIDER: 1.04, CUDA_CASE: 1.0})
    (said,) = agreement(before, after)
    assert said.startswith(
        "- On cpu, 1 thread, the undisturbed steps of 2 cases differ by 3.0 % in the median"
    )
    assert said.endswith("and 4.0 % at most (batch 32, hidden 512)")


def test_runs_of_two_machines_are_told_what_tells_them_apart() -> None:
    """Their times are not held against each other as if they were of one."""
    machine = {"cpu_model": "Some CPU", "load_before": 0.1}
    a = source_of({CPU_CASE: 1.0}, machine=machine)
    b = source_of({CPU_CASE: 1.0}, machine={"cpu_model": "Other CPU", "load_before": 3.0})
    assert "- The two differ in cpu_model (Some CPU against Other CPU): their times" in side_by_side(a, b)
    assert "The two differ" not in side_by_side(
        a, source_of({CPU_CASE: 1.0}, machine=machine | {"load_before": 2.0})
    )


def with_references(scale: float, drift: float, machine: dict[str, str]) -> Source:
    """Return a run of a case that many times as slow, on a machine that drifted by as much in all it does."""
    smallest = record_of(replace(CPU_CASE, batch_size=1, hidden=SMALLEST), role=SMALLEST_NETWORK)
    middle = record_of(replace(CPU_CASE, batch_size=128, hidden=128), role=MIDDLE_NETWORK)
    run = run_of([record_of(CPU_CASE)], companions=(smallest, middle), machine=machine)
    scales = (scale, 0.3, 1.5)
    blocks = [
        block
        for number, factor in enumerate(scales)
        for block in blocks_of(number, launches=(1.0, 1.0), scale=factor * drift)
    ]
    return Source(run, rows_of(run, blocks), [], None)


def test_the_drift_of_the_machine_is_taken_out() -> None:
    """The second run is 10 % slower in everything, and its step by 2 % more."""
    machine = {"cpu_model": "Some CPU"}
    a, b = with_references(1.0, 1.0, machine), with_references(1.02, 1.1, machine)
    (said,) = agreement(a, b)
    assert "differ by 12 % in the median" in said  # 1.02 x 1.1
    assert "with the machine's drift taken out, 1 case by 2.0 % in the median" in said


def test_drift_is_not_taken_out_between_two_machines() -> None:
    """Reference networks on another processor say nothing of this one."""
    a, b = with_references(1.0, 1.0, {"cpu_model": "A"}), with_references(1.0, 1.1, {"cpu_model": "B"})
    (said,) = agreement(a, b)
    assert "drift" not in said


def test_a_network_from_a_file_is_compared_wherever_its_folder_lies() -> None:
    """By the name of the file and the factory; another factory of that file is another network."""
    case = replace(CPU_CASE, subject="/a/folder/net.py:make", dataset="-", hidden="-")
    moved, other = (replace(case, subject=f"./elsewhere/{name}") for name in ("net.py:make", "net.py:tiny"))
    found = compare_cases(source_of({case: 1.0}), source_of({moved: 1.0, other: 1.0}))
    assert [result.case.key for result in found.results] == [case.key]
    assert [case.key for case in found.new] == [other.key]
    assert found.missing == ()
