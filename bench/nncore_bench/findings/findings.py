"""Findings: what in a run costs time, each in figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from nncore_bench.estimate.rows import Row
from nncore_bench.findings import checks_of_step as of_step
from nncore_bench.findings import checks_of_surroundings as of_surroundings
from nncore_bench.findings.evidence import Evidence, evidence_of
from nncore_bench.findings.finding import NO_CASE, NO_CUDA, Finding, Status, not_applicable
from nncore_bench.runs import Run

Check: TypeAlias = Callable[[Evidence], Finding]

CHECKS: Mapping[str, Check] = {
    "optimizer-loop": of_step.optimizer_loop,
    "gradients-kept": of_step.gradients_kept,
    "synchronisation": of_step.synchronisation,
    "float64": of_step.float64,
    "mixed-dtypes": of_step.mixed_dtypes,
    "copies-in-step": of_step.copies_in_step,
    "unpinned-copies": of_surroundings.unpinned_copies,
    "waiting-for-data": of_surroundings.waiting_for_data,
    "threads-above-cores": of_surroundings.threads_above_cores,
    "memory-returned": of_surroundings.memory_returned,
    "gemm-shapes": of_step.gemm_shapes,
    "garbage-collected": of_step.garbage_collected,
}
"""Every check by its name in tables and files, which is stable."""


def findings_of(run: Run, rows: Sequence[Row], references: Sequence[Row]) -> list[Finding]:
    """Return the findings in every case that succeeded, and then the checks that apply to none.

    `references` are the rows of what was measured alongside the cases. A check that applies to at least one
    case and finds nothing is left out.
    """
    known = evidence_of(run, rows, references)
    results = {name: [(one.case, check(one)) for one in known] for name, check in CHECKS.items()}
    return [
        *(
            replace(finding, check=name, case=case)
            for name, of_check in results.items()
            for case, finding in of_check
            if finding.status is Status.FOUND
        ),
        *(
            replace(not_applicable(NO_CASE), check=name, reasons=_reasons([one for _, one in of_check]))
            for name, of_check in results.items()
            if all(one.status is Status.NOT_APPLICABLE for _, one in of_check)
        ),
    ]


def _reasons(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Return the different reasons why a check applies to no case."""
    reasons = list(dict.fromkeys(reason for one in findings for reason in one.reasons)) or [NO_CASE]
    # Cases of the CPU say that none ran on CUDA, and the others did run there.
    return tuple(reason for reason in reasons if reason != NO_CUDA or len(reasons) == 1)
