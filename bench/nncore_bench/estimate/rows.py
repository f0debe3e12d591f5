"""Rows of the tidy frame: one per case and phase, computed from the laps of a run."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from operator import sub, truediv
from typing import Any, Self

import msgspec
import msgspec.structs
import numpy as np

from nncore_bench.cases import UNATTRIBUTED, Case, kind_of
from nncore_bench.estimate.estimates import (
    BETWEEN_LAUNCHES,
    FEWEST,
    OF_RATIOS,
    WITHIN_ONE_PROCESS,
    Estimate,
    Laps,
    Spread,
    block_time,
    launch_spread,
    median_time,
    paired,
)
from nncore_bench.estimate.laps import lows_of, published, spans_of
from nncore_bench.records import CaseRecord, PhaseCounters
from nncore_bench.runs import NANO, Block, BlocksOfCase

CASE_COLUMNS = tuple(field.name for field in fields(Case))
EVENTS_TOLERATED = 0.03
"""Subtract the time of recording events from the phases if they lengthen a step by more than this share."""

NOT_COUNTED = PhaseCounters()
SEEN_IN_CHECK = ("first_step_s", "loss_error", "gradient_error", "parameter_error")


@dataclass(frozen=True)
class Row:
    """The results of one phase of one case; None is unknown, never zero.

    `time_s` is the undisturbed time with its interval `time_low_s` to `time_high_s`; `median_s`, likewise, is
    the median with all noise, and `samples_per_s` comes from it; `disturbance` is their ratio;
    `launch_times_s` are those of the launches in their order, from which the interval comes. `host_s` and
    `device_s` are the medians of the time to enqueue and of the span on the device; `wall_s` is the median
    over blocks of the wall time of an iteration. `share` is that of undisturbed laps in the step for its
    parts, and of means in the feeding loop for `data` and `copy`, and everywhere on a device. Rows of the
    step also carry `lap_overhead_s` (iteration with laps less iteration without; on a device the cost of
    recording events, subtracted from the phases if it exceeds EVENTS_TOLERATED), `phases_over_step` (sum of
    the laps over the plain step) and `unattributed_s`.

    `flop_per_s` and `bytes_per_s` are FLOP and moved
    bytes over the undisturbed time, `flop_share` and `bytes_share` their shares of the rates of this
    machine's matrix product and of its copy within a cache; `limit` and `limit_share` come from
    `ceilings.limit_of`.

    `reference_smallest_s` and `reference_middle_s` are the undisturbed times of the same phase of two
    networks of fixed size, in the same rounds, by which `drift` compares two runs; `relative_error` is the
    standard error as a share, with its degrees of freedom.

    On a device `kernel_s` is the profiled time of the phase's kernels, copies and fills, and the step's
    `launch_floor_s` the time its launches take at `Ceilings.launch_s` each.

    The step's `first_step_s` is the time of the first one, compiling included; `loss_error`, `gradient_error`
    and `parameter_error` are a variant's distances from eager float32 (`numerical_error`).
    """

    phase: str
    case: Case
    status: str
    reason: str
    time_s: float | None = None
    time_low_s: float | None = None
    time_high_s: float | None = None
    interval: str = ""
    launch_times_s: tuple[float, ...] = ()
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
    counters: PhaseCounters = NOT_COUNTED
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
    def time(self) -> Estimate | None:
        """Return the undisturbed time in seconds."""
        return _estimate(self.time_s, self.time_low_s, self.time_high_s)

    @property
    def between_launches(self) -> float | None:
        """Return the standard deviation of the launches' undisturbed times, as a share; None of one."""
        if len(self.launch_times_s) < FEWEST or not min(self.launch_times_s) > 0:
            return None
        return float(np.std(np.log(self.launch_times_s), ddof=1))

    @property
    def median(self) -> Estimate | None:
        """Return the median time in seconds."""
        return _estimate(self.median_s, self.median_low_s, self.median_high_s)

    @property
    def relative_deviation(self) -> Spread | None:
        """Return the deviation of its launches' times relative to the references, as a logarithm."""
        if self.relative_error is None or self.relative_freedom is None:
            return None
        return Spread(self.relative_error / OF_RATIOS, self.relative_freedom)

    def over(self, other: "Row") -> Estimate | None:
        """Return how many times as long it takes as another row of the run; None where either is unknown.

        The interval is that of a comparison inside a run: it comes from how the ratio differs between
        launches, which share what the machine did, and says nothing of other runs. Without launches in common
        it is made of both intervals.
        """
        if not (self.time and other.time and self.time.value and other.time.value):
            return None
        own, others = self.launch_times_s, other.launch_times_s
        if len(own) != len(others) or not all(own) or not all(others):
            return self.time.over(other.time)
        spread = launch_spread(np.log(own) - np.log(others), averaged=self.case.on_device)
        ratio = self.time.value / other.time.value
        return Estimate.around_ratio(ratio, spread.half_width) if spread else self.time.over(other.time)

    def as_record(self) -> dict[str, Any]:
        """Return the row as plain values, column by column, those of its case and counters among them."""
        nested = {"case": vars(self.case), "counters": msgspec.structs.asdict(self.counters)}
        columns = (nested.get(name, {name: value}) for name, value in vars(self).items())
        return {name: value for some in columns for name, value in some.items()}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Return the row of such a record; raises msgspec.ValidationError."""
        return msgspec.convert({**record, "case": record, "counters": record}, cls)


def _estimate(value: float | None, low: float | None, high: float | None) -> Estimate | None:
    return None if value is None else Estimate(value, low, high)


def timed_rows(
    records: Sequence[CaseRecord], blocks: Mapping[int, BlocksOfCase], first: int = 0
) -> list[Row]:
    """Return the rows of records in order; blocks number the records from `first`.

    A phase without a finished block has a row without times, and a reason.
    """
    return [
        _phase_row(record, phase, blocks[number])
        for number, record in enumerate(records, first)
        for phase in record.phases
    ]


def _phase_row(record: CaseRecord, phase: str, by_kind: BlocksOfCase) -> Row:
    case = record.case
    blank = Row(
        phase,
        case,
        status=record.status,
        reason=record.reason,
        steady=record.steady,
        bound="unknown" if case.on_device else "host",
    )
    blocks = by_kind[kind_of(phase)]
    if record.status != "ok":
        return blank  # laps from before a failure stay in the samples, but are no result
    if not blocks:
        return replace(blank, status="failed", reason="no round was finished")
    pairs = _pairs(by_kind)
    mark_ns = _mark_ns(pairs) if case.on_device else 0.0
    samples = case.batch_size * record.correct.get("calls", 1.0)
    row = replace(blank, **_times(by_kind, phase, case, mark_ns, samples))
    if phase != "step":
        return row
    seen: dict[str, Any] = {name: record.correct.get(name) for name in SEEN_IN_CHECK}
    return replace(row, **seen, **(_checks(pairs, case, mark_ns) if pairs else {}))


def _times(by_kind: BlocksOfCase, phase: str, case: Case, mark_ns: float, samples: float) -> dict[str, Any]:
    """Return the times of a phase, and the throughput of iterations that take so many samples."""
    blocks = by_kind[kind_of(phase)]
    chosen = [published(block, phase, case, mark_ns) for block in blocks]
    launches: dict[int, list[Laps]] = defaultdict(list)
    for block, laps in zip(blocks, chosen, strict=True):
        launches[block.launch].append(laps)
    of_launches = list(launches.values())
    time, lows = _undisturbed(by_kind, phase, case, mark_ns, block_time(of_launches).scaled(NANO))
    median = median_time(of_launches).scaled(NANO)
    everything = np.concatenate(chosen)
    return {
        "time_s": time.value,
        "time_low_s": time.low,
        "time_high_s": time.high,
        "interval": BETWEEN_LAUNCHES if len(launches) > 1 else WITHIN_ONE_PROCESS,
        "launch_times_s": lows,
        "median_s": median.value,
        "median_low_s": median.low,
        "median_high_s": median.high,
        "mean_s": float(everything.mean()) * NANO,
        "disturbance": median.value / time.value if time.value else None,
        "samples_per_s": samples / median.value if median.value else None,
        "share": _share(blocks, phase, case, chosen, mark_ns) if len(blocks[0].laps) > 1 else None,
        "launches": len(launches),
        "rounds": len(blocks),
        "laps": len(everything),
        **(_three_times(blocks, phase) if case.on_device else {}),
    }


def _undisturbed(
    by_kind: BlocksOfCase, phase: str, case: Case, mark_ns: float, of_blocks: Estimate
) -> tuple[Estimate, tuple[float, ...]]:
    """Return the undisturbed time of a phase and that of each launch, in seconds.

    On a device it is the time by blocks. On the CPU a single launch has an interval by its blocks as well.
    """
    lows = lows_of(by_kind, phase, case, mark_ns)
    if lows is None:
        return of_blocks, ()
    launches_s = tuple(NANO * lows.launches_ns[launch] for launch in sorted(lows.launches_ns))
    if case.on_device:
        return of_blocks, launches_s
    spread = launch_spread(np.log(launches_s)) if min(launches_s) > 0 else None
    if spread is not None:
        return Estimate.around_ratio(lows.run_ns * NANO, spread.half_width), launches_s
    half = of_blocks.half_width
    return Estimate.around(lows.run_ns * NANO, half), launches_s


def _three_times(blocks: Sequence[Block], phase: str) -> dict[str, float | None]:
    """Return the median times on a device: to enqueue, between its events, and by the wall clock."""
    spans = [column for block in blocks if (column := block.device_column(phase)) is not None]
    return {
        "host_s": float(np.median(np.concatenate([block.column(phase) for block in blocks]))) * NANO,
        "device_s": float(np.median(np.concatenate(spans))) * NANO if spans else None,
        "wall_s": float(np.median([block.wall_mean_ns for block in blocks])) * NANO,
    }


def _share(
    blocks: Sequence[Block], phase: str, case: Case, laps: Sequence[Laps], mark_ns: float
) -> float | None:
    """Return the share of a phase in its iteration: of undisturbed laps for the parts of a step on the CPU.

    Elsewhere of means over the same iterations. The length of a loop that feeds a device is its wall time:
    the host fetches while the device still computes, so the laps of neither add up to it.
    """
    if blocks[0].kind == "laps" and not case.on_device:
        smallest = np.min([block.host[1:].min(axis=0) for block in blocks], axis=0)
        whole = float(smallest.sum())
        return float(smallest[blocks[0].laps.index(phase)]) / whole if whole else None
    part = sum(float(one.mean()) * block.iterations for block, one in zip(blocks, laps, strict=True))
    return part / sum(_whole_ns(block, mark_ns) for block in blocks)


def _whole_ns(block: Block, mark_ns: float) -> float:
    if block.device is None:
        return float(block.each_ns.sum())
    if block.kind == "feed":
        return float(block.wall_ns)
    return float(spans_of(block, mark_ns).sum()) * block.iterations


def _pairs(by_kind: BlocksOfCase) -> list[tuple[Block, Block]]:
    """Return the blocks with laps, each with the plain block of the same round."""
    plain_of = {block.turn: block for block in by_kind["plain"]}
    return [(block, plain_of[block.turn]) for block in by_kind["laps"] if block.turn in plain_of]


def _mark_ns(pairs: Sequence[tuple[Block, Block]]) -> float:
    """Return the nanoseconds that recording an event takes on a device, to be subtracted from its laps.

    The median over rounds of the wall time of a step with events less that of a step without, divided by the
    events of a step; 0 up to EVENTS_TOLERATED of the step.
    """
    if not pairs:
        return 0.0
    overhead = paired(sub, *_walls(pairs))
    plain = float(np.median([plain.wall_mean_ns for _, plain in pairs]))
    if overhead <= EVENTS_TOLERATED * plain:
        return 0.0
    lapped = pairs[0][0]
    return overhead / (len(lapped.laps) + 1 / lapped.iterations)  # a block ends with one more


def _walls(pairs: Sequence[tuple[Block, Block]]) -> tuple[list[Laps], list[Laps]]:
    """Return the wall time of an iteration with laps and without, for each pair of blocks."""
    lapped, plain = ([np.array([block.wall_mean_ns]) for block in of] for of in zip(*pairs, strict=True))
    return lapped, plain


def _checks(pairs: Sequence[tuple[Block, Block]], case: Case, mark_ns: float) -> dict[str, Any]:
    """Compare the blocks with laps to the plain blocks of the same rounds.

    By their smallest iterations on the CPU, and by their means on a device, like the times.
    """
    if case.on_device:
        everything, walls = _walls(pairs)
        phases = [spans_of(lapped, mark_ns)[:-1].sum(keepdims=True) for lapped, _ in pairs]
    else:
        walls = [plain.column("step") for _, plain in pairs]
        everything = [lapped.each_ns for lapped, _ in pairs]
        phases = [lapped.host[1:, :-1].sum(axis=1) for lapped, _ in pairs]
    left_over = [published(lapped, UNATTRIBUTED, case, mark_ns) for lapped, _ in pairs]
    return {
        "lap_overhead_s": paired(sub, everything, walls) * NANO,
        "phases_over_step": paired(truediv, phases, walls),
        "unattributed_s": float(np.median(np.concatenate(left_over))) * NANO,
    }
