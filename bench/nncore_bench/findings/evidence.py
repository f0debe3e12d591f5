"""Evidence: everything that a run knows about one case, as the checks for findings need it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nncore_bench.cases import Case
from nncore_bench.estimate.ceilings import Ceilings, ceilings_of
from nncore_bench.estimate.profiles import profile_of
from nncore_bench.estimate.rows import Row
from nncore_bench.findings.finding import NO_CUDA, UNCOUNTED, NotApplicableError
from nncore_bench.records import CaseCounters, CaseProfile, OperatorCount, ProfiledOperator
from nncore_bench.runs import Run
from nncore_bench.variants import DEFAULT_ALLOCATOR


@dataclass(frozen=True)
class Evidence:
    """What a run knows about one case; `default_allocator` is its step under that allocator."""

    case: Case
    counters: CaseCounters
    machine: Mapping[str, Any]
    rows: Mapping[str, Row]
    ceilings: Ceilings
    profile: CaseProfile | None
    default_allocator: Row | None

    @property
    def on_cuda(self) -> bool:
        """Tell whether the case ran on CUDA."""
        return self.case.device == "cuda"

    def needs_cuda(self) -> None:
        """Raise NotApplicableError if the case did not run on CUDA."""
        if not self.on_cuda:
            raise NotApplicableError(NO_CUDA)

    def calls(self, *phases: str) -> list[OperatorCount]:
        """Return the counted operators of some phases; raises NotApplicableError if none were listed."""
        if not self.counters.inventory:
            raise NotApplicableError(UNCOUNTED)
        return [call for call in self.counters.inventory if call.phase in phases]

    def counted(self, name: str) -> dict[str, int]:
        """Return one counter by phase of the step; raises NotApplicableError if no phase has it."""
        phases = self.counters.phases
        values = {phase: getattr(phases[phase], name) for phase in self.counters.parts if phase in phases}
        known = {phase: value for phase, value in values.items() if value is not None}
        if not known:
            raise NotApplicableError(UNCOUNTED)
        return known

    def profiled(self, phases: Sequence[str], operator: str) -> list[ProfiledOperator]:
        """Return the profiled calls of an operator in some phases."""
        operators = self.profile.operators if self.profile else ()
        return [one for one in operators if one.phase in phases and one.operator == operator]

    def time_s(self, phase: str) -> float | None:
        """Return the undisturbed time of a phase, None if it was not measured."""
        return self.rows[phase].time_s if phase in self.rows else None

    def share(self, phase: str) -> float | None:
        """Return the share of a phase: of the step, or of the feeding loop."""
        return self.rows[phase].share if phase in self.rows else None

    def undisturbed_s(self, operators: Sequence[ProfiledOperator]) -> float | None:
        """Return the time of profiled operators in an undisturbed step; None without any, or without times.

        On the CPU that is their share of the phase, since the profiler slows both; it does not slow kernels.
        """
        times: list[float] = []
        for one in operators:
            phase_s = self.time_s(one.phase)
            if one.device_s is None and phase_s is None:
                return None
            times.append(one.device_s if one.device_s is not None else one.share * (phase_s or 0.0))
        return sum(times) if times else None


def evidence_of(run: Run, rows: Sequence[Row], references: Sequence[Row]) -> list[Evidence]:
    """Return the evidence for every case that succeeded, in the order of the run."""
    ceilings = ceilings_of(run.companions, references)
    by_case: dict[Case, dict[str, Row]] = {}
    for row in rows:
        by_case.setdefault(row.case, {})[row.phase] = row
    by_default = {
        replace(row.case, variant="eager"): row
        for row in references
        if row.case.variant == DEFAULT_ALLOCATOR and row.phase == "step"
    }
    return [
        Evidence(
            record.case,
            record.counters or CaseCounters({}),
            run.machine,
            by_case.get(record.case, {}),
            ceilings.get(record.case.place, Ceilings()),
            profile_of(run.profiles, record.case),
            by_default.get(record.case),
        )
        for record in run.cases
        if record.status == "ok"
    ]


def types_of(call: OperatorCount) -> list[str]:
    """Return the dtypes of an operator's tensors."""
    return call.dtypes.split(", ")


def calls_by_phase(calls: Sequence[OperatorCount]) -> Counter[str]:
    """Return the number of calls of some operators by phase, in the order of their first call."""
    counts = Counter[str]()
    for call in calls:
        counts[call.phase] += call.calls
    return counts
