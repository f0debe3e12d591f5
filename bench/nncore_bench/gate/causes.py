"""Causes of a slower case: its differences, attributed by counters and profiles."""

from collections.abc import Mapping

from nncore_bench.cases import parts_in
from nncore_bench.compare.explain import Cause, Side, explained
from nncore_bench.estimate.estimates import Estimate
from nncore_bench.records import CaseCounters, CaseProfile


def causes_of_slower(
    phases: Mapping[str, tuple[float, float]],
    counters: tuple[CaseCounters | None, CaseCounters | None],
    profiles: tuple[CaseProfile | None, CaseProfile | None],
) -> tuple[Cause, ...]:
    """Return the causes, the largest first; counters and profiles are those of base and candidate.

    `phases` has the difference of each phase, and its time in the base, both in seconds.
    """
    times = {phase: Estimate(base_s) for phase, (_, base_s) in phases.items()}
    base, candidate = (Side(times, *known) for known in zip(counters, profiles, strict=True))
    differences = {phase: more_s for phase, (more_s, _) in phases.items()}
    differences["step"] -= sum(differences[phase] for phase in parts_in(differences))
    return explained(base, candidate, differences, {"step"})[-1]
