"""Evidence: all that a run knows of one case, as the checks for findings look at it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from nncore_bench.cases import STEP_PHASES, Case
from nncore_bench.estimate.ceilings import Ceilings, ceilings_of
from nncore_bench.estimate.profiles import profile_of
from nncore_bench.estimate.rows import Row
from nncore_bench.records import CaseCounters, CaseProfile, CaseRecord, OperatorCount, ProfiledOperator
from nncore_bench.runs import Run
from nncore_bench.variants import DEFAULT_ALLOCATOR

MICRO, KILO = 1e-6, 1e3
NO_CUDA = "no case of this run ran on CUDA"
UNCOUNTED = "what a step does was not counted"


@dataclass(frozen=True)
class Seen:
    """Hold what a check saw in one case: in which phase, by which figures, and what to do next.

    `gain_s` are the seconds per step that may be expected back, None where it cannot be told; `gain` says in
    a few words how that was estimated, or why it is not known.
    """

    phase: str
    evidence: str
    next_step: str
    gain_s: float | None
    gain: str


Outcome: TypeAlias = Seen | str | None
"""What a check saw, or in words why it cannot tell, or None where it looked and found nothing."""


@dataclass(frozen=True)
class Evidence:
    """Hold what a run knows of one case; `default_allocator` is its step under that allocator."""

    record: CaseRecord
    machine: Mapping[str, Any]
    rows: Mapping[str, Row]
    ceilings: Ceilings
    profile: CaseProfile | None
    default_allocator: Row | None

    @property
    def case(self) -> Case:
        """Return the case."""
        return self.record.case

    @property
    def counters(self) -> CaseCounters | None:
        """Return what was counted of the case, if it was."""
        return self.record.counters

    @property
    def on_cuda(self) -> bool:
        """Tell whether the case ran on CUDA."""
        return self.case.device == "cuda"

    @property
    def has_inventory(self) -> bool:
        """Tell whether the operators of the step are listed one by one."""
        return self.counters is not None and bool(self.counters.inventory)

    def calls(self, *phases: str) -> list[OperatorCount]:
        """Return the operators of some phases, as they were counted."""
        inventory = self.counters.inventory if self.counters else ()
        return [call for call in inventory if call.phase in phases]

    def counted(self, name: str) -> dict[str, int]:
        """Return one counter of every phase of the step that has it."""
        phases = self.counters.phases if self.counters else {}
        values = {phase: getattr(phases[phase], name) for phase in STEP_PHASES if phase in phases}
        return {phase: value for phase, value in values.items() if value is not None}

    def profiled(self, phases: Sequence[str], operator: str) -> list[ProfiledOperator]:
        """Return what the profiler saw of an operator in some phases."""
        operators = self.profile.operators if self.profile else ()
        return [one for one in operators if one.phase in phases and one.operator == operator]

    def time_s(self, phase: str) -> float | None:
        """Return the undisturbed time of a phase."""
        return self.rows[phase].time_s if phase in self.rows else None

    def share(self, phase: str) -> float | None:
        """Return the share of a phase: of the step, or of the feeding loop."""
        return self.rows[phase].share if phase in self.rows else None

    def undisturbed_s(self, operators: Sequence[ProfiledOperator]) -> float | None:
        """Return the time of profiled operators in an undisturbed step; None without any, or without times.

        On the CPU it is their share of the phase, since the profiler slows both; kernels it does not slow.
        """
        times: list[float] = []
        for one in operators:
            phase_s = self.time_s(one.phase)
            if one.device_s is None and phase_s is None:
                return None
            times.append(one.device_s if one.device_s is not None else one.share * (phase_s or 0.0))
        return sum(times) if times else None


def evidence_of(run: Run, rows: Sequence[Row], beside: Sequence[Row]) -> list[Evidence]:
    """Return the evidence of every case that went well, in the order of the run."""
    ceilings = ceilings_of(run.companions, beside)
    by_case: dict[Case, dict[str, Row]] = {}
    for row in rows:
        by_case.setdefault(row.case, {})[row.phase] = row
    twins = {
        replace(row.case, variant="eager"): row
        for row in beside
        if row.variant == DEFAULT_ALLOCATOR and row.phase == "step"
    }
    return [
        Evidence(
            record,
            run.machine,
            by_case.get(record.case, {}),
            ceilings.get(record.case.place, Ceilings()),
            profile_of(run.profiles, record.case),
            twins.get(record.case),
        )
        for record in run.cases
        if record.status == "ok"
    ]


def types_of(call: OperatorCount) -> list[str]:
    """Return the types of an operator's tensors."""
    return call.dtypes.split(", ")


def times_called(calls: Sequence[OperatorCount]) -> int:
    """Return how often some operators are called in a step."""
    return sum(call.calls for call in calls)


def calls_by_phase(calls: Sequence[OperatorCount]) -> Counter[str]:
    """Return how often some operators are called in each phase, in the order in which those come."""
    counts = Counter[str]()
    for call in calls:
        counts[call.phase] += call.calls
    return counts


def busiest(counts: Mapping[str, int]) -> str:
    """Return the key of the largest count, the first of equals."""
    return max(counts, key=lambda name: counts[name])


def times(number: int) -> str:
    """Return `once`, or `3 times`."""
    return "once" if number == 1 else f"{number:,} times"


def listed(counts: Mapping[str, int]) -> str:
    """Return the counts above nought in words, such as `forward 2, loss 1`."""
    return ", ".join(f"{name} {number:,}" for name, number in counts.items() if number)


def in_bytes(number: float) -> str:
    """Return bytes in words, such as `814 kB`."""
    return f"{number:,.0f} bytes" if number < 10 * KILO else f"{number / KILO:,.0f} kB"


def in_time(seconds: float) -> str:
    """Return a time in words, such as `41 µs`."""
    microseconds = seconds / MICRO
    return f"{microseconds:,.0f} µs" if microseconds >= 10 else f"{microseconds:.1f} µs"  # noqa: PLR2004 - two digits


def in_percent(share: float) -> str:
    """Return a share in words, such as `41 %`."""
    return f"{100 * share:.0f} %"
