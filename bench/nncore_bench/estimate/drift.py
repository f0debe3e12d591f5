"""Drift: the ratio of two runs, corrected for the machine's own change of speed.

A shared machine is a few percent faster or slower from one minute to the next, in everything it does, and no
run can see that in itself. Two networks of fixed size, measured in the same rounds, show it: their work never
changes. Dispatch and work drift apart, though, so each phase is compared with both, on a logarithmic scale:
with the same phase of the smallest network, which is all dispatch, weighted by the share of its time that is
dispatch, and with that of a middle one, weighted by the rest.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import exp, log
from typing import TypeAlias

import numpy as np

from nncore_bench.cases import Case, Place
from nncore_bench.companions import MIDDLE_NETWORK, SMALLEST_NETWORK
from nncore_bench.estimate.estimates import OF_RATIOS, Estimate, Lows, Spread, launch_spread
from nncore_bench.estimate.laps import lows_of
from nncore_bench.estimate.rows import Row
from nncore_bench.records import CaseRecord
from nncore_bench.runs import NANO, BlocksOfCase

RUN_TO_RUN = Spread(0.010, 20.0)
"""Extra standard error between runs that no single run can observe, after drift correction.

Chosen with OF_RATIOS on 38 runs under six loads and in loud hours: their intervals hold zero in 90 to 99 %
of the pairs of a load, 96 % in all.
"""

References: TypeAlias = Mapping[str, Mapping[str, Lows]]
"""The reference times of one place: by role and phase."""


def references_of(
    companions: Sequence[CaseRecord], blocks: Mapping[int, BlocksOfCase], first: int
) -> Mapping[Place, References]:
    """Return the references of every place (device, threads, precision); blocks number them from `first`."""
    found: dict[Place, dict[str, Mapping[str, Lows]]] = {}
    for number, record in enumerate(companions, first):
        if record.status == "ok" and record.role in (SMALLEST_NETWORK, MIDDLE_NETWORK):
            lows = {phase: lows_of(blocks[number], phase, record.case) for phase in record.phases}
            found.setdefault(record.case.place, {})[record.role] = {p: low for p, low in lows.items() if low}
    return found


def with_reference(row: Row, references: References) -> Row:
    """Return a row with its reference times, if all of its launches have them.

    A phase that the two networks lack (data, copy) is compared with their whole steps.
    """
    networks = (references.get(role, {}) for role in (SMALLEST_NETWORK, MIDDLE_NETWORK))
    smallest, middle = (lows.get(row.phase) or lows.get("step") for lows in networks)
    if not (row.time_s and smallest and middle and smallest.run_ns and middle.run_ns):
        return row
    known = replace(row, reference_smallest_s=smallest.run_ns * NANO, reference_middle_s=middle.run_ns * NANO)
    launches = (
        row.launch_times_s,
        *([low.launches_ns[n] for n in sorted(low.launches_ns)] for low in (smallest, middle)),
    )
    if len(set(map(len, launches))) > 1 or not all(map(all, launches)):
        return known
    own, small, mid = np.log(launches)
    weight = dispatch_weight(known) or 0.0
    spread = launch_spread(own - weight * small - (1 - weight) * mid, OF_RATIOS, averaged=row.case.on_device)
    if spread is None:
        return known
    return replace(known, relative_error=spread.error, relative_freedom=spread.freedom)


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
