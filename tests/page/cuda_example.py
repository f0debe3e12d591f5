"""Write pages of runs with CUDA whose every time is made up by a formula, to look at; nothing is measured.

    PYTHONPATH=tests/support python tests/page/cuda_example.py OUT

OUT is a folder. On a machine with a GPU make a real one: `pytest bench/ --benchmark-only`.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from made_up_runs import STEP_NS, blocks_of, cuda_blocks_of, record_of, run_of

from nncore_bench.campaign.session import Suite
from nncore_bench.cases import DOES_NOT_APPLY, Case
from nncore_bench.companions import SMALLEST, SMALLEST_NETWORK
from nncore_bench.estimate.source import Source
from nncore_bench.options import Options
from nncore_bench.page.page import Material
from nncore_bench.page.publish import publish
from nncore_bench.records import (
    Account,
    CaseCounters,
    CaseProfile,
    DeviceActivity,
    PhaseCounters,
    ProfiledOperator,
)
from nncore_bench.runs import Block
from nncore_bench.variants import EAGER

MICRO = 1e-6
STEPS = 17
MADE_UP = "made-up machine (no time here was measured)"
LAUNCHES, ROUNDS = 4, 6
FIXED_US = {"cpu": 350.0, "cuda": 420.0}
NS_PER_SAMPLE_AND_UNIT = {"cpu": 24.0, "cuda": 0.4}
SPEED_OF_TWO_THREADS = 1.6
BETWEEN_LAUNCHES = 0.02
DEVICE_US = 60.0
"""What the device does of a step whose network is next to nothing."""

PROFILED = 1.8
"""So many times as long the host takes under the profiler."""

LAUNCHED = {"zero_grad": 0, "forward": 5, "loss": 2, "backward": 10, "optimizer": 28}
WORK = {"forward": 0.25, "loss": 0.02, "backward": 0.5, "optimizer": 0.23}
"""How the device's time is shared by the phases."""


def step_us(case: Case) -> float:
    """Return the length of a step: a fixed cost, and one for each sample and hidden unit."""
    width = float(case.hidden)
    grows = NS_PER_SAMPLE_AND_UNIT[case.device] * 1e-3 * case.batch_size * width
    threads = SPEED_OF_TWO_THREADS if case.threads not in (1, DOES_NOT_APPLY) else 1.0
    return FIXED_US[case.device] + grows / threads


def counters() -> CaseCounters:
    """Return the launches of a step."""
    step = {**LAUNCHED, "step": sum(LAUNCHED.values())}
    return CaseCounters({phase: PhaseCounters(kernel_launches=number) for phase, number in step.items()})


def profile(case: Case) -> CaseProfile:
    """Return a profile whose kernels take their time, in a step that the profiler made longer."""
    busy_us = DEVICE_US + step_us(case) - FIXED_US["cuda"]
    profiled_us = step_us(case) + (PROFILED - 1) * FIXED_US["cuda"]
    kernels = sum(LAUNCHED.values())
    gap_us = (profiled_us - busy_us) / kernels
    return CaseProfile(
        case,
        STEPS,
        profiled_us * MICRO,
        (Account("step", busy_us * MICRO, 0, 0, 0, 0, (profiled_us - busy_us) * MICRO),),
        tuple(
            ProfiledOperator(
                phase, "made-up::operator", "", "", "", "", 1.0, dispatched=False, share=1.0,
                host_s=profiled_us * share * MICRO, device_s=busy_us * share * MICRO,
            )
            for phase, share in WORK.items()
        ),
        device=DeviceActivity(
            busy_us / profiled_us, 0.0, kernels, kernels, gap_us * kernels * MICRO, gap_us * MICRO,
            gap_us * MICRO, 1.0,
        ),
        median_step_s=profiled_us * MICRO,
    )  # fmt: skip


def made_up(factor: float = 1.0, seed: int = 0) -> Source:
    """Return a run of the default grid, CUDA also with pinned memory, in times of the formula's length."""
    phases: dict[Case, list[str]] = {}
    for case, phase in Suite(Options.build({"step_threads": "1,2", "step_variants": "eager,pinned"})).cells:
        if case.variant == "eager" or case.device == "cuda":
            phases.setdefault(case, []).append(phase)
    cases = list(phases)
    random = np.random.default_rng(seed)
    on_device = [case for case in cases if case.device == "cuda"]
    smallest = replace(on_device[0], dataset=DOES_NOT_APPLY, batch_size=1, hidden=SMALLEST)
    run = run_of(
        [
            record_of(case, phases=tuple(names), counters=counters() if case in on_device else None)
            for case, names in phases.items()
        ],
        companions=(record_of(smallest, role=SMALLEST_NETWORK, counters=counters()),),
        profiles=tuple(profile(case) for case in on_device if case.variant == EAGER),
        id=f"made-up-{seed}",
        host=MADE_UP,
        machine={"cpu_model": MADE_UP, "gpu": MADE_UP, "cores_logical": 2},
    )
    blocks = [
        block
        for number, case in enumerate([*cases, smallest])
        for block in _blocks(number, case, factor, random)
    ]
    return Source.of(run, blocks, None)


def _blocks(number: int, case: Case, factor: float, random: np.random.Generator) -> Iterator[Block]:
    usual_us = STEP_NS * 1e-3 * (2 if case.device == "cuda" else 1)  # a made-up device takes twice as long
    scale = factor * step_us(case) / usual_us
    launches = scale * random.lognormal(0.0, BETWEEN_LAUNCHES, LAUNCHES)
    make = blocks_of if case.device == "cpu" else cuda_blocks_of
    for block in make(number, launches=list(launches), rounds=ROUNDS):
        noise = random.lognormal(0.0, BETWEEN_LAUNCHES / 2)
        device = None if block.device is None else (block.device * noise).astype(np.int64)
        host, wall_ns = (block.host * noise).astype(np.int64), round(block.wall_ns * noise)
        yield replace(block, host=host, device=device, wall_ns=wall_ns)


def main() -> None:
    """Write the page, and one with ten runs before it, the last three of them slower."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="a folder")
    out = parser.parse_args().out
    prices = {"cpu": 0.10, "cuda": 2.50}
    command = "PYTHONPATH=tests/support python tests/page/cuda_example.py (made up, nothing was measured)"
    publish(Material([made_up()], command, prices), out / "report.html", ("html",))
    runs = [made_up(1.08 if number > 7 else 1.0, number) for number in range(1, 12)]
    publish(Material(runs, command), out / "history.html", ("html",))


if __name__ == "__main__":
    main()
