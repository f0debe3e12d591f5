"""Drift: the ratio of two runs, corrected for the machine's own change of speed.

A shared machine is a few percent faster or slower from one minute to the next, in everything it does, and no
run can see that in itself. Two networks of fixed size, measured in the same rounds, show it: their work never
changes. Dispatch and work drift apart, though, so each phase is compared with both, on a logarithmic scale:
with the same phase of the smallest network, which is all dispatch, weighted by the share of its time that is
dispatch, and with that of a middle one, weighted by the rest.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import exp, log
from typing import TypeAlias

import numpy as np

from nncore_bench.cases import Case, Place, kind_of
from nncore_bench.companions import MIDDLE_NETWORK, SMALLEST_NETWORK
from nncore_bench.estimate.estimates import Estimate, Laps, Spread, midmean, spread_of
from nncore_bench.estimate.laps import published
from nncore_bench.estimate.rows import Row
from nncore_bench.records import CaseRecord
from nncore_bench.runs import NANO, BlocksOfCase

RUN_TO_RUN = Spread(0.006, 20.0)
"""Extra standard error between runs that no single run can observe, after drift correction.

Chosen on six series of ten runs, whose intervals held zero in 83 to 98 % of pairs without it (92 % in all)
and in 91 to 99 % with it (95 % in all).
"""

LEAST_COMMON = 0.9
"""Compare a row only if this share of its rounds has references."""

Times = Mapping[tuple[int, int], float]
"""The logarithm of the smallest lap of a block, in seconds, by launch and round."""


References: TypeAlias = Mapping[str, Mapping[str, Times]]
"""The reference times of one place: by role and phase."""


def references_of(
    companions: Sequence[CaseRecord], blocks: Mapping[int, BlocksOfCase], first: int
) -> Mapping[Place, References]:
    """Return the references of every place (device, threads, precision); blocks number them from `first`."""
    found: dict[Place, dict[str, Mapping[str, Times]]] = {}
    for number, record in enumerate(companions, first):
        if record.status == "ok" and record.role in (SMALLEST_NETWORK, MIDDLE_NETWORK):
            times = {phase: block_times(blocks[number], phase, record.case) for phase in record.phases}
            found.setdefault(record.case.place, {})[record.role] = times
    return found


def block_times(blocks: BlocksOfCase, phase: str, case: Case) -> Times:
    """Return the logarithm of the smallest lap of a phase, in seconds, in each block."""
    smallest = {block.turn: published(block, phase, case).min() for block in blocks[kind_of(phase)]}
    return {turn: log(lap * NANO) for turn, lap in smallest.items() if lap > 0}


def with_reference(row: Row, blocks: BlocksOfCase, references: References) -> Row:
    """Return a row with its reference times, if nearly all of its rounds have them.

    A phase that the two networks lack (data, copy) is compared with their whole steps.
    """
    networks = (references.get(role, {}) for role in (SMALLEST_NETWORK, MIDDLE_NETWORK))
    smallest, middle = (times.get(row.phase, times.get("step", {})) for times in networks)
    times = block_times(blocks, row.phase, row.case)
    common = sorted(set(times) & set(smallest) & set(middle), key=lambda key: (key[1], key[0]))
    if not row.time_s or len(common) < LEAST_COMMON * len(times):
        return row
    own, small, mid = (np.array([source[key] for key in common]) for source in (times, smallest, middle))
    smallest_s = exp(midmean(small))
    weight = min(1.0, smallest_s / row.time_s)
    relative = own - weight * small - (1 - weight) * mid
    spread = spread_of(_grid(common, relative))
    return replace(
        row,
        reference_smallest_s=smallest_s,
        reference_middle_s=exp(midmean(mid)),
        relative_error=spread.error if spread else None,
        relative_freedom=spread.freedom if spread else None,
    )


def _grid(keys: Sequence[tuple[int, int]], values: Laps) -> Laps:
    """Return values as [launches, cycles]: the rounds of each launch in order, cut to the fewest."""
    by_launch: dict[int, list[float]] = defaultdict(list)
    for (launch, _round), value in zip(keys, values, strict=True):
        by_launch[launch].append(float(value))
    cycles = min(map(len, by_launch.values()))
    return np.array([rounds[:cycles] for rounds in by_launch.values()])


def dispatch_weight(row: Row) -> float | None:
    """Return the share of a row's time that is dispatch, by the smallest network; None where unknown."""
    if not row.time_s or row.reference_smallest_s is None:
        return None
    return min(1.0, row.reference_smallest_s / row.time_s)


def relative_time(row: Row, weight: float) -> float | None:
    """Return the time of a row over that of its references, weighted geometrically; it has no unit.

    Compare two runs at one weight: at different ones their figures are not of one kind.
    """
    if row.time_s is None or row.reference_smallest_s is None or row.reference_middle_s is None:
        return None
    logs = weight * log(row.reference_smallest_s) + (1 - weight) * log(row.reference_middle_s)
    return row.time_s / exp(logs)


def relative_spread(row: Row) -> Spread | None:
    """Return the spread of a row's relative time over runs, on the logarithmic scale; None where unknown."""
    if row.relative_error is None or row.relative_freedom is None:
        return None
    return Spread(row.relative_error, row.relative_freedom).joined(RUN_TO_RUN)


def drift_free_ratio(base: Row, candidate: Row) -> Estimate | None:
    """Return how many times as long a row takes in one run as in another, corrected for drift.

    Both runs are weighted by the mean of their weights; their standard errors join as Welch's do, on the
    logarithmic scale, with RUN_TO_RUN. None if a run has no references. The caller ensures that both were
    made on one machine: references of another one mean nothing here.
    """
    weights = dispatch_weight(base), dispatch_weight(candidate)
    if weights[0] is None or weights[1] is None:
        return None
    before, after = (relative_time(row, (weights[0] + weights[1]) / 2) for row in (base, candidate))
    if not before or not after:
        return None
    spread, other = relative_spread(base), relative_spread(candidate)
    half = spread.joined(other).half_width if spread and other else None
    return Estimate.around_ratio(after / before, half)


def drift_free_ratios(base: Iterable[Row], candidate: Iterable[Row]) -> dict[Case, dict[str, Estimate]]:
    """Return the drift-free ratios of two runs, by case and phase, of the rows that have one."""
    before = {(row.case, row.phase): row for row in base}
    found: dict[Case, dict[str, Estimate]] = {}
    for row in candidate:
        own = before.get((row.case, row.phase))
        if own and (ratio := drift_free_ratio(own, row)):
            found.setdefault(row.case, {})[row.phase] = ratio
    return found
