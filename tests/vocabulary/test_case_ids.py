"""Cases are named in a readable and stable way: their ids are history keys."""

from dataclasses import replace

import pytest
from made_up_runs import CPU_CASE, CUDA_CASE

from nncore_bench.campaign.session import Suite
from nncore_bench.cases import BLOCK_LAPS, PHASES, STEP_PHASES, Case
from nncore_bench.companions import reference_case
from nncore_bench.options import Options
from nncore_bench.records import CaseRecord


@pytest.mark.parametrize(
    ("case", "key"),
    [
        (CPU_CASE, "cpu-t1-float32-eager-b32-h128"),
        (CUDA_CASE, "cuda-float32-eager-b32-h128"),
        (replace(CPU_CASE, threads=12, batch_size=1024), "cpu-t12-float32-eager-b1024-h128"),
        (replace(CPU_CASE, hidden="-"), "cpu-t1-float32-eager-b32"),
        (replace(CPU_CASE, dataset="fashion-mnist"), "cpu-t1-float32-eager-b32-h128-fashion_mnist"),
        (replace(CPU_CASE, subject="./net.py:Net"), "cpu-t1-float32-eager-b32-h128-net_Net"),
        (replace(CPU_CASE, subject="/a/folder/net.py:Net"), "cpu-t1-float32-eager-b32-h128-net_Net"),
        (replace(CPU_CASE, subject="a-b.1=/a/net.py:Net"), "cpu-t1-float32-eager-b32-h128-a_b.1"),
        (replace(CPU_CASE, subject="./lr=0.1/net.py:Net"), "cpu-t1-float32-eager-b32-h128-net_Net"),
        (replace(CPU_CASE, subject="my.nets:Net"), "cpu-t1-float32-eager-b32-h128-my.nets_Net"),
    ],
)
def test_a_key_leaves_out_what_does_not_apply_or_is_usual(case: Case, key: str) -> None:
    """And holds nothing that a file name cannot."""
    assert case.key == key


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("./net.py:Net", "net:Net"),
        ("/other/folder/net.py:Net", "net:Net"),
        ("net:Net", "net:Net"),
        ("my.nets:Net", "my.nets:Net"),
        ("torchvision:resnet18", "torchvision:resnet18"),
        ("small=./net.py:Net", "small"),
        ("small=my.nets:Net", "small"),
        ("simplenn", "simplenn"),
    ],
)
def test_a_subject_is_compared_by_the_name_it_was_given_or_by_file_and_factory(
    subject: str, name: str
) -> None:
    """Wherever its folder lies; and once more changes nothing."""
    case = replace(CPU_CASE, subject=subject).by_name
    assert case.subject == name
    assert case.by_name == case


def test_parameters_are_strings_and_integers_in_their_order() -> None:
    """An object would end up as UNSERIALIZABLE in pytest-benchmark's file."""
    parameters = CUDA_CASE.parameters("forward")
    assert list(parameters) == [
        *("phase", "subject", "device", "threads", "precision", "variant", "batch_size", "hidden"),
    ]
    assert all(type(value) in (str, int) for value in parameters.values())


def test_nothing_is_copied_to_the_cpu() -> None:
    """So the CPU has no such phase, and a device has."""
    assert set(CUDA_CASE.phases()) - set(CPU_CASE.phases()) == {"copy"}
    assert CUDA_CASE.phases() == PHASES


def test_the_grid_runs_through_its_axes_in_reading_order() -> None:
    """Threads apply to the CPU alone."""
    texts = {
        "step_devices": "cpu,cuda",
        "step_threads": "1,all",
        "step_batch_sizes": "1,32",
        "step_hidden": "8",
    }
    cases = Options.build(texts).cases(all_threads=4)
    assert [case.key for case in cases] == [
        "cpu-t1-float32-eager-b1-h8",
        "cpu-t1-float32-eager-b32-h8",
        "cpu-t4-float32-eager-b1-h8",
        "cpu-t4-float32-eager-b32-h8",
        "cuda-float32-eager-b1-h8",
        "cuda-float32-eager-b32-h8",
    ]


def test_the_default_grid_feeds_no_batch_that_only_cuda_has() -> None:
    """A DataLoader takes seconds for 65,536 samples; a user who asks for them gets all there is."""
    cells = Suite(Options.build({"step_threads": "1"})).cells
    phases_of: dict[Case, list[str]] = {}
    for case, phase in cells:
        phases_of.setdefault(case, []).append(phase)
    assert len(phases_of) == 4 * 3 + 6 * 4
    large = {case for case in phases_of if case.batch_size in {8192, 65536}}
    assert {case.device for case in large} == {"cuda"}
    for case, phases in phases_of.items():
        assert set(case.phases()) - set(phases) == ({"data", "copy"} if case in large else set())
        assert len(phases) == len(set(phases))
    asked = Suite(Options.build({"step_threads": "1", "step_batch_sizes": "65536"})).cells
    assert {phase for _, phase in asked} == set(PHASES)


@pytest.mark.parametrize(
    ("phases", "kinds"),
    [
        (["forward"], ("laps", "plain")),
        (["step"], ("laps", "plain")),
        (["data"], ("feed",)),
        (["inference"], ("inference",)),
        (list(PHASES), ("laps", "plain", "feed", "inference")),
        ([], ()),
    ],
)
def test_a_chosen_phase_brings_the_blocks_it_needs(phases: list[str], kinds: tuple[str, ...]) -> None:
    """Laps never come without plain blocks: each checks the other."""
    assert CaseRecord(CPU_CASE, tuple(phases)).kinds == kinds


def test_every_phase_is_a_lap_of_some_block() -> None:
    """The five parts of the step in the order in which they run."""
    assert set(PHASES) <= {lap for laps in BLOCK_LAPS.values() for lap in laps}
    assert BLOCK_LAPS["laps"][:-1] == STEP_PHASES


def test_the_reference_case_has_one_thread_and_is_nearest_to_batch_128_and_width_128() -> None:
    """It is the one that is profiled, and the example in the first sentence."""
    cases = [replace(CPU_CASE, threads=4, batch_size=128), replace(CPU_CASE, batch_size=1), CPU_CASE]
    assert reference_case(cases) == CPU_CASE
