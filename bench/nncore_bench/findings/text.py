"""The table of findings: what costs time, where it costs most, and what to do about it."""

from collections.abc import Sequence

import pandas as pd

from nncore_bench.estimate.rows import CASE_COLUMNS
from nncore_bench.findings.findings import Finding, NotApplicable
from nncore_bench.text.format import duration
from nncore_bench.text.table import Table

FOUND, DOES_NOT_APPLY = "found", "does not apply"
DETAILS = ("phase", "evidence", "next_step", "gain_s", "gain")
COLUMNS = ("finding", "status", *CASE_COLUMNS, *DETAILS, "reason")
TITLE = "Findings, each with a next step"


def finding_table(findings: Sequence[Finding], not_applicable: Sequence[NotApplicable]) -> Table | None:
    """Return a line for each kind of finding, at the case where it costs most; the files have every case.

    Where nothing was found it is no table for the screen, and its lines are the checks that do not apply;
    None where there are none of these, either.
    """
    if not findings and not not_applicable:
        return None
    raw = pd.DataFrame(
        [*map(_found, findings), *map(_not_applicable, not_applicable)],
        columns=list(COLUMNS),
        dtype=object,  # a batch size stays a whole number beside a line that has none
    )
    if not findings:
        lines = [{"check": one.name, "why it does not apply": one.reason} for one in not_applicable]
        caption = "Every other check was made, and found nothing."
        return Table("findings", "No findings", caption, pd.DataFrame(lines), raw, on_screen=False)
    worst = _worst(findings)
    lines = [_line(one, sum(one.name == other.name for other in findings)) for one in worst]
    return Table("findings", TITLE, _caption(worst, not_applicable), pd.DataFrame(lines), raw)


def _worst(findings: Sequence[Finding]) -> list[Finding]:
    """Return of each kind the finding that costs most; the costliest of them first, unknown ones last."""
    of_name: dict[str, Finding] = {}
    for one in findings:
        if one.name not in of_name or _cost(one) > _cost(of_name[one.name]):
            of_name[one.name] = one
    return sorted(of_name.values(), key=_cost, reverse=True)


def _cost(finding: Finding) -> float:
    return -1.0 if finding.gain_s is None else finding.gain_s


def _line(worst: Finding, cases: int) -> dict[str, str]:
    return {
        "finding": worst.name,
        "cases": str(cases),
        "worst case": worst.case.key,
        "evidence there": worst.evidence,
        "may save": "unknown" if worst.gain_s is None else duration(worst.gain_s),
        "next step": worst.next_step,
    }


def _caption(worst: Sequence[Finding], not_applicable: Sequence[NotApplicable]) -> str:
    """Return how each gain was estimated, and which checks were not made."""
    estimates = "; ".join(f"{one.name}: {one.gain}" for one in worst)
    caption = f"may save: time per step there, by estimate ({estimates})."
    if not_applicable:
        caption += f" Not checked, for reasons in the CSV: {', '.join(one.name for one in not_applicable)}."
    return caption


def _found(finding: Finding) -> dict[str, object]:
    return {
        "finding": finding.name,
        "status": FOUND,
        **{name: getattr(finding.case, name) for name in CASE_COLUMNS},
        **{name: getattr(finding, name) for name in DETAILS},
    }


def _not_applicable(one: NotApplicable) -> dict[str, object]:
    return {"finding": one.name, "status": DOES_NOT_APPLY, "reason": one.reason}
