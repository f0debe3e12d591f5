"""Rows of the tidy frame: one per case and phase, computed from the laps of a run."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from nncore_bench.cases import BLOCK_LAPS, STEP_PHASES, UNATTRIBUTED, BlockKind, Case
from nncore_bench.estimate.estimates import (
    Estimate,
    Laps,
    between_launches,
    lived_through,
    paired_difference,
    paired_ratio,
    undisturbed,
)
from nncore_bench.estimate.laps import published, spans_of, wall_of
from nncore_bench.records import CaseRecord
from nncore_bench.runs import Block

NANO = 1e-9
CASE_COLUMNS = tuple(field.name for field in fields(Case))
EVENTS_TOLERATED = 0.03
"""Events that make a step on a device longer by a larger share are taken off its phases."""

SEEN_IN_CHECK = ("first_step_s", "loss_error", "gradient_error", "parameter_error")
KIND_OF_PHASE: dict[str, BlockKind] = {
    lap: kind for kind, laps in BLOCK_LAPS.items() for lap in laps if lap not in ("rest", UNATTRIBUTED)
}


@dataclass(frozen=True)
class Row:
    """Hold what is known of one phase of one case; None is unknown, never zero.

    `time_s` is the undisturbed time with its interval `time_low_s` to `time_high_s`; `median_s`, likewise, is
    what the user lived through, and `samples_per_s` comes from it; `disturbance` is their ratio;
    `between_launches` is by what share processes differ, which is part of the interval. `host_s` and
    `device_s` are the medians of the time to enqueue and of the span on the device; `wall_s` is the median
    over blocks of the wall time of an iteration. `share` is of the mean laps over the same steps: of the
    step for its parts, of the feeding loop for `data` and `copy`. Rows of the step also carry
    `lap_overhead_s` (iteration with laps less iteration without; on a device what recording its events takes,
    which is taken off the phases where it exceeds EVENTS_TOLERATED), `phases_over_step` (sum of the laps over
    the plain step) and `unattributed_s`.

    The counters are those of `PhaseCounters`. `flop_per_s` and `bytes_per_s` are FLOP and moved
    bytes over the undisturbed time, `flop_share` and `bytes_share` what that is of this machine's matrix
    product and of its copy within a cache, and `limit` with `limit_share` what `limits` says.

    `reference_smallest_s` and `reference_middle_s` are the undisturbed times of the same phase of two
    networks of fixed size, in the same rounds: what `drift` compares two
    runs by, with `relative_error`, the standard error as a share, and its degrees of freedom.

    On a device `kernel_s` is how long it was at work (kernels, copies, fills) on the phase, by the profile of
    the case, and of the step `launch_floor_s` is what its launches take by `Ceilings.launch_s`.

    Of the step, `first_step_s` is what the first one took, compiling included; of a variant, `loss_error`,
    `gradient_error` and `parameter_error` are how far it is off eager float32, as `comparison` says.
    """

    phase: str
    subject: str
    dataset: str
    device: str
    threads: int | str
    precision: str
    variant: str
    batch_size: int
    hidden: int | str
    status: str
    reason: str
    time_s: float | None = None
    time_low_s: float | None = None
    time_high_s: float | None = None
    interval: str = ""
    between_launches: float | None = None
    median_s: float | None = None
    median_low_s: float | None = None
    median_high_s: float | None = None
    mean_s: float | None = None
    disturbance: float | None = None
    samples_per_s: float | None = None
    share: float | None = None
    host_s: float | None = None
    device_s: float | None = None
    wall_s: float | None = None
    kernel_s: float | None = None
    launch_floor_s: float | None = None
    lap_overhead_s: float | None = None
    phases_over_step: float | None = None
    unattributed_s: float | None = None
    launches: int = 0
    rounds: int = 0
    laps: int = 0
    steady: bool = True
    bound: str = "unknown"
    flop: int | None = None
    operators: int | None = None
    autograd_nodes: int | None = None
    allocations: int | None = None
    allocated_bytes: int | None = None
    peak_bytes: int | None = None
    moved_bytes: int | None = None
    copies: int | None = None
    synchronisations: int | None = None
    kernel_launches: int | None = None
    collections: int | None = None
    flop_per_s: float | None = None
    flop_share: float | None = None
    bytes_per_s: float | None = None
    bytes_share: float | None = None
    limit: str = "unknown"
    limit_share: float | None = None
    parameter_bytes: int | None = None
    state_bytes: int | None = None
    leaked_bytes: int | None = None
    reference_smallest_s: float | None = None
    reference_middle_s: float | None = None
    relative_error: float | None = None
    relative_freedom: float | None = None
    first_step_s: float | None = None
    loss_error: float | None = None
    gradient_error: float | None = None
    parameter_error: float | None = None

    @property
    def case(self) -> Case:
        """Return the case that the row belongs to."""
        return Case(**{name: getattr(self, name) for name in CASE_COLUMNS})

    @property
    def time(self) -> Estimate | None:
        """Return the undisturbed time in seconds."""
        return self._estimate(self.time_s, self.time_low_s, self.time_high_s)

    @property
    def median(self) -> Estimate | None:
        """Return the median time in seconds."""
        return self._estimate(self.median_s, self.median_low_s, self.median_high_s)

    def _estimate(self, value: float | None, low: float | None, high: float | None) -> Estimate | None:
        return None if value is None else Estimate(value, low, high, self.interval)

    def as_record(self) -> dict[str, Any]:
        """Return the row as plain values, column by column."""
        return asdict(self)


def timed_rows(records: Sequence[CaseRecord], blocks: Iterable[Block], first: int = 0) -> list[Row]:
    """Return the rows of some records, in order, of which blocks number the leading one `first`.

    A phase without a single finished block has a row without times, whose reason says so.
    """
    by_case: dict[int, list[Block]] = defaultdict(list)
    for block in blocks:
        by_case[block.case - first].append(block)
    return [row for n, record in enumerate(records) for row in _case_rows(record, by_case.get(n, []))]


def _case_rows(record: CaseRecord, blocks: list[Block]) -> list[Row]:
    by_kind: dict[BlockKind, list[Block]] = defaultdict(list)
    for block in sorted(blocks, key=lambda b: b.round):
        by_kind[block.kind].append(block)
    return [_phase_row(record, phase, by_kind) for phase in record.phases]


def _phase_row(record: CaseRecord, phase: str, by_kind: dict[BlockKind, list[Block]]) -> Row:
    case = record.case
    blank = Row(
        **case.parameters(phase),  # type: ignore[arg-type] # the parameters are the leading columns
        dataset=case.dataset,
        status=record.status,
        reason=record.reason,
        steady=record.steady,
        bound="host" if not case.on_device else "unknown",
    )
    blocks = by_kind.get(KIND_OF_PHASE[phase], [])
    if record.status != "ok":
        return blank  # what a case did before it failed is in the samples, and no result of it
    if not blocks:
        return replace(blank, status="failed", reason="no round was finished")
    pairs = _pairs(by_kind)
    mark_ns = _mark_ns(pairs) if case.on_device else 0.0
    row = replace(blank, **_times(blocks, phase, case, mark_ns))
    if phase != "step":
        return row
    seen: dict[str, Any] = {name: record.correct.get(name) for name in SEEN_IN_CHECK}
    return replace(row, **seen, **(_checks(pairs, mark_ns) if pairs else {}))


def _times(blocks: Sequence[Block], phase: str, case: Case, mark_ns: float) -> dict[str, Any]:
    on_device = case.on_device
    chosen = [published(block, phase, on_device=on_device, mark_ns=mark_ns) for block in blocks]
    launches: dict[int, list[Laps]] = defaultdict(list)
    for block, laps in zip(blocks, chosen, strict=True):
        launches[block.launch].append(laps)
    time, median = undisturbed(list(launches.values())), lived_through(list(launches.values()))
    everything = np.concatenate(chosen)
    return {
        "time_s": time.value * NANO,
        "time_low_s": _seconds(time.low),
        "time_high_s": _seconds(time.high),
        "interval": time.basis,
        "between_launches": between_launches(list(launches.values())),
        "median_s": median.value * NANO,
        "median_low_s": _seconds(median.low),
        "median_high_s": _seconds(median.high),
        "mean_s": float(everything.mean()) * NANO,
        "disturbance": median.value / time.value if time.value else None,
        "samples_per_s": case.batch_size / (median.value * NANO) if median.value else None,
        "share": _share(blocks, chosen, mark_ns) if len(blocks[0].laps) > 1 else None,
        "launches": len(launches),
        "rounds": len(blocks),
        "laps": len(everything),
        **(_three_times(blocks, phase) if on_device else {}),
    }


def _three_times(blocks: Sequence[Block], phase: str) -> dict[str, float | None]:
    """Return the medians of the three times of a device: enqueued by the host, on the device, wall clock."""
    spans = [column for block in blocks if (column := block.device_column(phase)) is not None]
    return {
        "host_s": float(np.median(np.concatenate([block.column(phase) for block in blocks]))) * NANO,
        "device_s": float(np.median(np.concatenate(spans))) * NANO if spans else None,
        "wall_s": float(np.median([wall_of(block) for block in blocks])) * NANO,
    }


def _share(blocks: Sequence[Block], laps: Sequence[Laps], mark_ns: float) -> float:
    """Return the mean lap of a phase over the mean of the whole iteration, both from the same iterations.

    A loop that feeds a device is as long as the clock on the wall says: the host fetches while the device
    still computes, so neither's laps add up to it.
    """
    part = sum(
        float(of_block.mean()) * (len(block.host) - 1) for block, of_block in zip(blocks, laps, strict=True)
    )
    return part / sum(_whole_ns(block, mark_ns) for block in blocks)


def _whole_ns(block: Block, mark_ns: float) -> float:
    if block.device is None:
        return float(block.host[1:].sum())
    iterations = len(block.host) - 1
    return (
        float(block.wall_ns) if block.kind == "feed" else float(spans_of(block, mark_ns).sum()) * iterations
    )


def _seconds(nanoseconds: float | None) -> float | None:
    return None if nanoseconds is None else nanoseconds * NANO


def _pairs(by_kind: Mapping[BlockKind, Sequence[Block]]) -> list[tuple[Block, Block]]:
    """Return the blocks with laps, each with the plain block that ran beside it in the same round."""
    plain_of = {(b.launch, b.round): b for b in by_kind.get("plain", ())}
    lapped = [b for b in by_kind.get("laps", ()) if (b.launch, b.round) in plain_of]
    return [(b, plain_of[b.launch, b.round]) for b in lapped]


def _mark_ns(pairs: Sequence[tuple[Block, Block]]) -> float:
    """Return what recording an event on a device takes in nanoseconds, where its laps are to lose that.

    It is what a step with events takes longer by the wall clock than one without, the median over rounds,
    divided by the events of a step. Up to EVENTS_TOLERATED of the step nothing is taken off.
    """
    if not pairs:
        return 0.0
    overhead = paired_difference(*_walls(pairs))
    plain = float(np.median([wall_of(plain) for _, plain in pairs]))
    if overhead <= EVENTS_TOLERATED * plain:
        return 0.0
    iterations = len(pairs[0][0].host) - 1
    return overhead / (len(BLOCK_LAPS["laps"]) + 1 / iterations)  # a block ends with one more


def _walls(pairs: Sequence[tuple[Block, Block]]) -> tuple[list[Laps], list[Laps]]:
    """Return the wall time of an iteration with laps and without, for each pair of blocks."""
    return [np.array([wall_of(lapped)]) for lapped, _ in pairs], [
        np.array([wall_of(plain)]) for _, plain in pairs
    ]


def _checks(pairs: Sequence[tuple[Block, Block]], mark_ns: float) -> dict[str, Any]:
    """Compare the blocks with laps to the plain blocks that ran beside them in the same rounds.

    On the CPU by the smallest iteration of each; on a device by the mean one, as the times are.
    """
    on_device = pairs[0][0].device is not None
    if on_device:
        everything, walls = _walls(pairs)
        phases = [spans_of(lapped, mark_ns)[: len(STEP_PHASES)].sum(keepdims=True) for lapped, _ in pairs]
    else:
        walls = [plain.column("step") for _, plain in pairs]
        everything = [lapped.host[1:].sum(axis=1) for lapped, _ in pairs]
        phases = [lapped.host[1:, : len(STEP_PHASES)].sum(axis=1) for lapped, _ in pairs]
    left_over = [published(lapped, UNATTRIBUTED, on_device=on_device, mark_ns=mark_ns) for lapped, _ in pairs]
    return {
        "lap_overhead_s": paired_difference(everything, walls) * NANO,
        "phases_over_step": paired_ratio(phases, walls),
        "unattributed_s": float(np.median(np.concatenate(left_over))) * NANO,
    }
