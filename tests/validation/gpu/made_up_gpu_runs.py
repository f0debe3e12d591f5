"""Runs on a GPU, made up so that each agrees with itself, with the made-up probe, and with what is known."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec.structs
from checks_of_counts import flop_of
from made_up_probe import KERNELS, STEP_US, UUID
from made_up_runs import CUDA_CASE, STEP_NS, block_of, blocks_of, cases_of, cuda_blocks_of, record_of, run_of

from nncore_bench.cases import KERNELS as REFERENCE
from nncore_bench.cases import Case
from nncore_bench.companions import REFERENCE_KERNELS, companions_of
from nncore_bench.records import Account, CaseCounters, CaseProfile, CaseRecord, DeviceActivity, PhaseCounters
from nncore_bench.runs import Block, Run

LAUNCHES, ROUNDS = (0.995, 1.0, 1.005), 2
CPU_STEP_US = {(32, 128): 700.0, (32, 512): 1500.0, (1024, 128): 6000.0, (1024, 512): 25_000.0}
PROFILED_US, BUSY_US = 400.0, 92.0
GEMM_NS, CACHED_NS, COLD_NS = 2_750_000, 54_000, 192_000
WORK = {"gemm_flop": 2.0 * 4096**3, "cached_bytes": 2.0 * 8 * 2**24, "cold_bytes": 2.0 * 2**28}
MACHINE = {
    "cpu_model": "Made-up CPU",
    "gpu": "Made-up GPU",
    "gpu_uuid": f"GPU-{UUID}",
    "gpu_driver": "580.1",
    "gpu_power_limit_w": 700,
    "gpu_mig_mode": "unknown",
    "gpu_sm_mhz_before": 345,
    "gpu_sm_mhz_after": 1980,
    "gpu_sm_mhz_max": 1980,
}
GATED = (CUDA_CASE.key, replace(CUDA_CASE, batch_size=1024, hidden=512).key)


@cache
def good_runs() -> dict[str, tuple[Run, list[Block]]]:
    """Return the runs of a good day by stage."""
    both = cases_of(["cpu", "cuda"], sizes=(32, 1024))
    of_device = [case for case in both if case.key in GATED]
    return {
        "default": made_up_run(both, profiled=of_device[:1]),
        "advise": _advised(),
        "profile": made_up_run(of_device, profiled=of_device, options={"profile": True}),
        "large": made_up_run(of_device),
    }


def made_up_run(
    cases: Sequence[Case],
    *,
    profiled: Sequence[Case] = (),
    options: dict[str, Any] | None = None,
) -> tuple[Run, list[Block]]:
    """Return a run of these cases with all that is measured beside them, and its blocks."""
    records = [record_of(case, counters=_counters(case)) for case in cases]
    companions = [
        msgspec.structs.replace(one, correct=WORK) if one.role == REFERENCE_KERNELS else one
        for one in companions_of(cases, ())
    ]
    profiles = tuple(_profile(case) for case in profiled)
    run = run_of(records, companions=companions, machine=MACHINE, options=options or {}, profiles=profiles)
    return run, _blocks((*records, *companions))


def _advised() -> tuple[Run, list[Block]]:
    """Return a run such as `advise` makes: variants, two of which cannot run, and nothing beside them."""
    variants = [replace(CUDA_CASE, variant=name) for name in ("eager", "fused", "cudagraph")]
    correct = {"loss_error": 0.0, "gradient_error": 1e-8, "parameter_error": 1e-7, "tolerance": 1e-3}
    records = [record_of(case, correct=correct, counters=_counters(case)) for case in variants]
    channels, allocator = (
        replace(CUDA_CASE, variant=name) for name in ("channels-last", "default-allocator")
    )
    records.append(record_of(channels, status="failed", reason="the network has no images"))
    records.append(record_of(allocator, status="skipped", reason="it is about the CPU's memory"))
    return run_of(records, machine=MACHINE, options={}), _blocks(records)


def _blocks(records: Sequence[CaseRecord]) -> list[Block]:
    return [
        block
        for number, record in enumerate(records)
        if record.status == "ok"
        for block in (_of_kernels if record.role == REFERENCE_KERNELS else _of_steps)(number, record)
    ]


def _of_steps(number: int, record: CaseRecord) -> list[Block]:
    case = record.case
    on_device = case.device == "cuda"
    # A made-up device takes twice as long as its host.
    usual_us = STEP_NS / 1000 * (2 if on_device else 1)
    cpu_us = CPU_STEP_US.get((case.batch_size, int(case.hidden)), 500.0)
    scale = (STEP_US.get(case.variant, 250.0) if on_device else cpu_us) / usual_us
    make = cuda_blocks_of if on_device else blocks_of
    made = make(number, launches=[scale * launch for launch in LAUNCHES], rounds=ROUNDS)
    return [_with_a_copy(block) for block in made if block.kind in record.kinds]


def _with_a_copy(block: Block) -> Block:
    """Return a block in which copying takes a tenth of the rest of a loop that feeds a device."""
    if block.kind != "feed" or block.device is None:
        return block
    spans = block.device.copy()
    copy, rest = (block.laps.index(name) for name in ("copy", "rest"))
    spans[:, copy] = spans[:, rest] // 10
    spans[:, rest] -= spans[:, copy]
    return replace(block, device=spans)


def _of_kernels(number: int, record: CaseRecord) -> list[Block]:
    laps = dict(zip(REFERENCE, (GEMM_NS, CACHED_NS, COLD_NS), strict=True))
    spans = laps if record.case.device == "cuda" else None
    return [
        block_of(kind, laps=laps, case=number, launch=launch, number=launch, device_laps=spans)
        for kind in record.kinds
        for launch in range(len(LAUNCHES))
    ]


def _counters(case: Case) -> CaseCounters:
    on_device = case.device == "cuda"
    bytes_ = 4 * case.batch_size * 784
    step = PhaseCounters(
        flop=flop_of(case),
        operators=70,
        moved_bytes=3 * bytes_,
        peak_bytes=bytes_,
        copies=0 if on_device else None,
        synchronisations=0 if on_device else None,
        kernel_launches=int(KERNELS) if on_device else None,
    )
    forward = PhaseCounters(flop=flop_of(case) // 3, operators=5, moved_bytes=bytes_)
    return CaseCounters({"forward": forward, "step": step}, leaked_bytes=0 if on_device else None)


def _profile(case: Case) -> CaseProfile:
    """Return a profile in which the step takes longer than without, and the device is at work as long."""
    kernel, memset, runtime, operator = 90e-6, 2e-6, 100e-6, 150e-6
    python = PROFILED_US * 1e-6 - kernel - memset - runtime - operator
    account = Account("step", kernel, 0.0, memset, runtime, operator, python)
    activity = DeviceActivity(BUSY_US / PROFILED_US, 0.0, KERNELS, 44.0, 3e-4, 7e-6, 1e-5, 0.5)
    return CaseProfile(case, 17, PROFILED_US * 1e-6, (account,), (), device=activity)
