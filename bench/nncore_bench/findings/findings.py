"""Findings: what a run shows that costs time, each with its evidence and a next step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nncore_bench.cases import Case
from nncore_bench.estimate.rows import Row
from nncore_bench.findings.checks_of_step import (
    copies_in_step,
    garbage_collected,
    gemm_shapes,
    gradients_kept,
    optimizer_loop,
    synchronisation,
)
from nncore_bench.findings.checks_of_surroundings import (
    memory_returned,
    threads_above_cores,
    unpinned_copies,
    waiting_for_data,
)
from nncore_bench.findings.checks_of_types import float64, mixed_dtypes
from nncore_bench.findings.evidence import NO_CUDA, Evidence, Outcome, Seen, evidence_of
from nncore_bench.runs import Run

Check: TypeAlias = Callable[[Evidence], Outcome]

CHECKS: tuple[tuple[str, Check], ...] = (
    ("optimizer-loop", optimizer_loop),
    ("gradients-kept", gradients_kept),
    ("synchronisation", synchronisation),
    ("float64", float64),
    ("mixed-dtypes", mixed_dtypes),
    ("copies-in-step", copies_in_step),
    ("unpinned-copies", unpinned_copies),
    ("waiting-for-data", waiting_for_data),
    ("threads-above-cores", threads_above_cores),
    ("memory-returned", memory_returned),
    ("gemm-shapes", gemm_shapes),
    ("garbage-collected", garbage_collected),
)
"""Every check by the name of its finding, which is stable."""


@dataclass(frozen=True)
class Finding:
    """Hold something that costs one case time: where, by which figures of the run, and what to do next.

    `gain_s` are the seconds per step that may be expected back, None where it cannot be told; `gain` says in
    a few words how that was estimated, or why it is not known.
    """

    name: str
    case: Case
    phase: str
    evidence: str
    next_step: str
    gain_s: float | None
    gain: str


@dataclass(frozen=True)
class NotApplicable:
    """Say why no case of a run can be held against a check."""

    name: str
    reason: str


def findings_of(
    run: Run, rows: Sequence[Row], beside: Sequence[Row]
) -> tuple[list[Finding], list[NotApplicable]]:
    """Return what every check finds in every case that went well, and which checks could not be made.

    `beside` are the rows of what was measured beside the cases. A check that can be made of one case at least
    and finds nothing is in neither list.
    """
    known = evidence_of(run, rows, beside)
    findings: list[Finding] = []
    not_applicable: list[NotApplicable] = []
    for name, check in CHECKS:
        outcomes = [(one.case, check(one)) for one in known]
        findings += [_finding(name, case, seen) for case, seen in outcomes if isinstance(seen, Seen)]
        reason = _why_not([outcome for _, outcome in outcomes])
        if reason:
            not_applicable.append(NotApplicable(name, reason))
    return findings, not_applicable


def _finding(name: str, case: Case, seen: Seen) -> Finding:
    return Finding(name, case, seen.phase, seen.evidence, seen.next_step, seen.gain_s, seen.gain)


def _why_not(outcomes: Sequence[Outcome]) -> str:
    """Return why no case could be held against a check, or nothing where one could."""
    reasons = [outcome for outcome in outcomes if isinstance(outcome, str)]
    if len(reasons) < len(outcomes):
        return ""
    told = dict.fromkeys(reasons)
    if len(told) > 1:
        told.pop(NO_CUDA, None)  # those of the CPU say so, and the others did run there
    return "; ".join(told) or "no case of this run was measured"
