"""One fault for each claim: what is done to a good day so that this claim fails, and no other."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec.structs
import numpy as np
from claims import Claim
from made_up_day import MadeUpDay
from made_up_runs import CUDA_CASE

from nncore_bench.cases import BLOCK_LAPS, STEP_PHASES, Case
from nncore_bench.gate.decide import Verdict
from nncore_bench.records import Account, CaseProfile, CaseRecord, DeviceActivity, PhaseCounters
from nncore_bench.runs import Block, Run

Fault = Callable[[MadeUpDay], None]
GRAPH_CASE = replace(CUDA_CASE, variant="cudagraph")
FUSED_CASE = replace(CUDA_CASE, variant="fused")


def of_probe(*path: str, to: object) -> Fault:
    """Return a fault that puts another value into the probe."""

    def damage(day: MadeUpDay) -> None:
        place: dict[str, Any] = day.probe
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = to

    return damage


def of_run(stage: str, **changes: Any) -> Fault:  # noqa: ANN401 - fields of the run
    def change(run: Run) -> Run:
        return msgspec.structs.replace(run, **changes)

    return lambda day: day.change_run(stage, change)


def of_machine(**facts: object) -> Fault:
    def change(run: Run) -> Run:
        return msgspec.structs.replace(run, machine=run.machine | facts)

    return lambda day: day.change_run("default", change)


def of_record(stage: str, case: Case = CUDA_CASE, **changes: Any) -> Fault:  # noqa: ANN401 - fields of the record
    def change(record: CaseRecord) -> CaseRecord:
        return msgspec.structs.replace(record, **changes)

    return lambda day: day.change_record(stage, case, change)


def of_counters(phase: str, **changes: int) -> Fault:
    def change(record: CaseRecord) -> CaseRecord:
        assert record.counters is not None
        changed = msgspec.structs.replace(record.counters.phases[phase], **changes)
        phases: dict[str, PhaseCounters] = {**record.counters.phases, phase: changed}
        return msgspec.structs.replace(
            record, counters=msgspec.structs.replace(record.counters, phases=phases)
        )

    return lambda day: day.change_record("default", CUDA_CASE, change)


def of_profile(change: Callable[[CaseProfile], CaseProfile]) -> Fault:
    return lambda day: day.change_profile("profile", CUDA_CASE, change)


def of_activity(change: Callable[[DeviceActivity], DeviceActivity]) -> Fault:
    def changed(profile: CaseProfile) -> CaseProfile:
        assert profile.device is not None
        return msgspec.structs.replace(profile, device=change(profile.device))

    return of_profile(changed)


def fewer_kernel_seconds(profile: CaseProfile) -> CaseProfile:
    """Return an account in which half of what kernels took is Python's."""

    def moved(account: Account) -> Account:
        half = account.kernel_s / 2
        return msgspec.structs.replace(account, kernel_s=half, python_s=account.python_s + half)

    return msgspec.structs.replace(profile, accounts=tuple(map(moved, profile.accounts)))


def of_blocks(
    change: Callable[[Block], Block], *kinds: str, case: Case = CUDA_CASE, stage: str = "default"
) -> Fault:
    return lambda day: day.change_blocks(
        stage, case, lambda block: change(block) if block.kind in kinds else block
    )


def one_zero_lap(block: Block) -> Block:
    assert block.device is not None
    spans = block.device.copy()
    spans[2, 0] = 0
    return replace(block, device=spans)


def phases_too_short(block: Block) -> Block:
    """Return a block in which six percent of the phases is found after them instead."""
    assert block.device is not None
    spans = block.device.copy()
    taken = (spans[:, : len(STEP_PHASES)] * 0.06).astype(np.int64)
    spans[:, : len(STEP_PHASES)] -= taken
    spans[:, -1] += taken.sum(axis=1)
    return replace(block, device=spans)


def dear_events(block: Block) -> Block:
    """Return a block in which each event takes 3 % of a step, by its spans and by the wall clock alike."""
    assert block.device is not None
    counted = len(block.host) - 1
    event_ns = round(0.03 * block.wall_ns / counted)
    wall_ns = block.wall_ns + event_ns * counted * len(BLOCK_LAPS["laps"])
    return replace(block, device=block.device + event_ns, wall_ns=wall_ns)


def without_feeding(day: MadeUpDay) -> None:
    """Leave out what was measured of feeding the GPU, as a run that names fewer phases does."""

    def change(record: CaseRecord) -> CaseRecord:
        fed = record.case.device == "cuda"
        phases = tuple(phase for phase in record.phases if not fed or phase not in ("data", "copy"))
        return msgspec.structs.replace(record, phases=phases)

    for one in day.runs["default"][0].cases:
        day.change_record("default", one.case, change)


def slower_in_the_gate(day: MadeUpDay) -> None:
    day.decisions[0] = replace(day.decisions[0], verdict=Verdict.SLOWER)


def nothing_on_the_device(day: MadeUpDay) -> None:
    day.decisions = [replace(decision, name="cpu-t1") for decision in day.decisions]


FAULTS: Mapping[Claim, Fault] = {
    Claim.STAGES: lambda day: day.endings.update(gate="exit code 124"),
    Claim.READINGS: of_probe("waits", to={"error": "RuntimeError: no"}),
    Claim.SPANS: of_probe("events", "busy", "span_ns", "zeros", to=3),
    Claim.GRAPH_OF_PROBE: of_probe("steps", "b1024-h512-cudagraph", "median", to=200.0),
    Claim.SESSIONS: of_probe("kernels", "b32-h128-session-2", "kernels", to=44.0),
    Claim.FINISHED: of_run("large", state="interrupted"),
    Claim.MEASURED: of_record("advise", FUSED_CASE, status="failed", reason="out of memory"),
    Claim.GPU_FACTS: of_machine(**dict.fromkeys(("gpu_a", "gpu_b", "gpu_c"), "unknown")),
    Claim.SAME_GPU: of_machine(gpu_uuid="GPU-0badcafe"),
    Claim.DEVICE_LAPS: of_blocks(lambda block: replace(block, device=block.host), "inference"),
    Claim.NO_ZERO_LAP: of_blocks(one_zero_lap, "laps"),
    Claim.FILLED: of_blocks(lambda block: replace(block, wall_ns=round(block.wall_ns * 0.97)), "feed"),
    Claim.EVENTS: of_blocks(dear_events, "laps"),
    Claim.PROBED_STEP: of_probe("steps", "b32-h128-eager", "median", to=300.0),
    Claim.PHASES: of_blocks(phases_too_short, "laps"),
    Claim.CEILINGS: of_counters("forward", flop=10**13),
    Claim.COUNTED: of_record("large", counters=None),
    Claim.UNDISTURBED: of_counters("step", synchronisations=1),
    Claim.FLOP: of_counters("step", flop=1_000),
    Claim.PROFILED: of_run("default", profiles=()),
    Claim.AGREEMENT: of_profile(lambda one: msgspec.structs.replace(one, disagreement="aten::mm 1 time")),
    Claim.ACCOUNT: of_profile(lambda one: msgspec.structs.replace(one, step_s=one.step_s * 1.05)),
    Claim.BUSY: of_activity(lambda one: msgspec.structs.replace(one, busy_share=0.0)),
    Claim.KERNELS: of_activity(lambda one: msgspec.structs.replace(one, kernels=42.0)),
    Claim.BUSY_OF_PLAIN: of_profile(fewer_kernel_seconds),
    Claim.NUMBERS: of_record("advise", FUSED_CASE, correct={"loss_error": 0.1, "tolerance": 1e-3}),
    Claim.GRAPH: of_blocks(
        lambda block: replace(block, wall_ns=4 * block.wall_ns), "plain", case=GRAPH_CASE, stage="advise"
    ),
    Claim.WORTH: without_feeding,
    Claim.GATED: nothing_on_the_device,
    Claim.EQUAL_CODE: slower_in_the_gate,
}
