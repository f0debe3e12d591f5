"""Ceilings: the best rates of a machine, and which of its limits a phase reaches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nncore_bench.cases import Case, Place
from nncore_bench.companions import REFERENCE_KERNELS, SMALLEST_NETWORK
from nncore_bench.estimate.rows import Row
from nncore_bench.records import CaseCounters, CaseRecord, PhaseCounters

DISPATCH, COMPUTE, MEMORY, UNKNOWN = "dispatch", "compute", "memory", "unknown"
LEAST_SHARE = 0.10
"""Name a limit only if it explains at least this share of the time of a phase."""

MOST_DISPATCH = 1.1
"""Ignore the dispatch floor where it exceeds the time by 10 %: an asynchronous device overlaps it."""

WORK = {"gemm": "gemm_flop", "copy_cached": "cached_bytes", "copy_cold": "cold_bytes"}
"""The work of one lap of each reference kernel, by its name in the record."""

COUNTED_OF_CASE = ("parameter_bytes", "state_bytes", "leaked_bytes")


@dataclass(frozen=True)
class Ceilings:
    """The best rates of one place (device, threads, precision), by undisturbed times.

    `gemm_flop_per_s` is the rate of a square matrix product; `cached_bytes_per_s` and `cold_bytes_per_s` are
    the bytes that a copy reads and writes within a core's own caches and beyond. `dispatch` has the time in
    seconds and the operators of each phase of the smallest network (batch 1, eight hidden units), which
    computes and moves next to nothing; `smallest_step_s` is the time of its step, and `smallest_launches` the
    number of kernels that its step launches on a device. None, or no entry, is unknown.
    """

    gemm_flop_per_s: float | None = None
    cached_bytes_per_s: float | None = None
    cold_bytes_per_s: float | None = None
    dispatch: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    smallest_step_s: float | None = None
    smallest_launches: int | None = None

    @property
    def launch_s(self) -> float | None:
        """Return the seconds of a launch: the step of the smallest network over its launches."""
        return _over(self.smallest_step_s, self.smallest_launches)

    def dispatch_s(self, phase: str, operators: int | None) -> float | None:
        """Return the seconds that this number of operators of a phase takes to dispatch."""
        if operators is None or phase not in self.dispatch:
            return None
        time_s, of = self.dispatch[phase]
        return time_s * operators / of if of else time_s if operators == 0 else None


def ceilings_of(companions: Sequence[CaseRecord], beside: Sequence[Row]) -> dict[Place, Ceilings]:
    """Return the ceilings of every place, from the records and rows of the references."""
    times: dict[Case, dict[str, float]] = {}
    for row in beside:
        if row.time_s:
            times.setdefault(row.case, {})[row.phase] = row.time_s
    found: dict[Place, Ceilings] = {}
    for record in companions:
        place, known = record.case.place, times.get(record.case, {})
        rates: dict[str, Any]
        if record.role == REFERENCE_KERNELS:
            rates = {
                f"{work}_per_s": record.correct[work] / known[kernel]
                for kernel, work in WORK.items()
                if kernel in known and work in record.correct
            }
        elif record.role == SMALLEST_NETWORK:
            counted = {phase: record.counted(phase) for phase in ("step", *known)}
            rates = {
                "dispatch": {
                    phase: (time_s, of.operators)
                    for phase, time_s in known.items()
                    if (of := counted[phase]) and of.operators is not None
                },
                "smallest_step_s": known.get("step"),
                "smallest_launches": counted["step"].kernel_launches if counted["step"] else None,
            }
        else:
            continue
        found[place] = replace(found.get(place, Ceilings()), **rates)
    return found


def with_counters(row: Row, of_case: CaseCounters | None, ceilings: Ceilings) -> Row:
    """Return a row with the counters of its phase, the rates that follow, and its limit."""
    if of_case is None:
        return row
    of_step = COUNTED_OF_CASE if row.phase == "step" else ()
    known: dict[str, Any] = {name: getattr(of_case, name) for name in of_step}
    counters = of_case.phases.get(row.phase)
    if counters is None:
        return replace(row, **known)
    known["counters"] = counters
    launches, launch_s = counters.kernel_launches, ceilings.launch_s
    if row.phase == "step" and launches is not None and launch_s is not None:
        known["launch_floor_s"] = launches * launch_s
    if row.time_s:
        flop_per_s, bytes_per_s = _over(counters.flop, row.time_s), _over(counters.moved_bytes, row.time_s)
        limit, share = limit_of(row.phase, row.time_s, counters, ceilings)
        known |= {
            "flop_per_s": flop_per_s,
            "flop_share": _over(flop_per_s, ceilings.gemm_flop_per_s),
            "bytes_per_s": bytes_per_s,
            "bytes_share": _over(bytes_per_s, ceilings.cached_bytes_per_s),
            "limit": limit,
            "limit_share": share,
        }
    return replace(row, **known)


def limit_of(
    phase: str, time_s: float, counters: PhaseCounters, ceilings: Ceilings
) -> tuple[str, float | None]:
    """Return the limit of a phase, and the share of its time that this limit alone would take.

    The roofline (Williams, Waterman and Patterson, CACM 52(4), 2009) with dispatch as a third floor: a phase
    takes at least its FLOP at the rate of a matrix product, its moved bytes at that of a copy within a cache,
    and its operators at the time an operator of that phase takes when it has nothing to do. The largest of
    the three is the limit. Operators without a FLOP formula are no matrix products, and their floor is the
    bytes they move. Unknown if a floor is unknown, or the largest explains less than a tenth of the time.
    """
    floors = {
        COMPUTE: _over(float(counters.flop or 0), ceilings.gemm_flop_per_s),
        MEMORY: _over(counters.moved_bytes, ceilings.cached_bytes_per_s),
        DISPATCH: ceilings.dispatch_s(phase, counters.operators),
    }
    known = {name: floor / time_s for name, floor in floors.items() if floor is not None}
    if len(known) < len(floors):
        return UNKNOWN, None
    if known[DISPATCH] > MOST_DISPATCH:
        del known[DISPATCH]
    limit = max(known, key=lambda name: known[name])
    return (limit, known[limit]) if known[limit] >= LEAST_SHARE else (UNKNOWN, None)


def _over(work: float | None, rate: float | None) -> float | None:
    return work / rate if work is not None and rate else None
