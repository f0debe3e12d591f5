"""Findings: what in a run costs time, each in figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from nncore_bench.estimate.rows import Row
from nncore_bench.findings import checks_of_step as of_step
from nncore_bench.findings import checks_of_surroundings as of_surroundings
from nncore_bench.findings.evidence import Evidence, evidence_of
from nncore_bench.findings.finding import NO_CASE, NO_CUDA, Finding, NotApplicableError
from nncore_bench.runs import Run

Check: TypeAlias = Callable[[Evidence], Finding | None]

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

    `references` are the rows measured alongside the cases. A check that applies to at least one case and
    finds nothing is left out.
    """
    known, found, skipped = evidence_of(run, rows, references), list[Finding](), list[Finding]()
    for name, check in CHECKS.items():
        results = [_made(check, one) for one in known]
        found += [replace(one, check=name) for one in results if isinstance(one, Finding)]
        reasons = dict.fromkeys(one for one in results if isinstance(one, str))
        if all(isinstance(one, str) for one in results):
            # Cases of the CPU say that none ran on CUDA, and the others did run there.
            why = tuple(reason for reason in reasons if reason != NO_CUDA or len(reasons) == 1)
            skipped.append(Finding(check=name, reasons=why or (NO_CASE,)))
    return found + skipped


def _made(check: Check, known: Evidence) -> Finding | str | None:
    """Return what a check finds in a case, or the reason why it cannot be made."""
    try:
        finding = check(known)
    except NotApplicableError as reason:
        return str(reason)
    return finding and replace(finding, case=known.case)
