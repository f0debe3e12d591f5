"""A finding: what one check says of one case, in figures; `findings/text.py` makes the sentences."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from nncore_bench.cases import Case


class Status(StrEnum):
    """Whether a check found something."""

    FOUND = "found"
    NOT_FOUND = "not found"
    NOT_APPLICABLE = "does not apply"


@dataclass(frozen=True)
class Finding:
    """Result of a check of one case; `case` is None where a check applies to no case of a run.

    `sight` names what was seen, `figures` have their unit as suffix, and `counts` are events of a step by
    phase. `gain_s` are the seconds per step that may be expected back, None where unknown; `basis` is a code
    for how that was estimated, or why it is unknown; `reasons` are codes for why a check does not apply.
    """

    status: Status
    sight: str = ""
    phase: str = ""
    figures: Mapping[str, float | str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    gain_s: float | None = None
    basis: str = ""
    reasons: tuple[str, ...] = ()
    check: str = ""
    case: Case | None = None


NOT_FOUND = Finding(Status.NOT_FOUND)
NO_CUDA, UNCOUNTED, NO_CASE = "no CUDA", "uncounted", "no case"


def not_applicable(reason: str) -> Finding:
    """Say why a check cannot be made of a case."""
    return Finding(Status.NOT_APPLICABLE, reasons=(reason,))


def found(
    sight: str,
    where: str | Mapping[str, int],
    gain_s: float | None,
    basis: str,
    **figures: float | str | None,
) -> Finding:
    """Report what was seen, in a phase or in the phases of some counts, of which the busiest is named.

    Figures that are unknown are left out.
    """
    counts: Mapping[str, int] = {} if isinstance(where, str) else where
    phase = where if isinstance(where, str) else busiest(where)
    known = {name: value for name, value in figures.items() if value is not None}
    return Finding(Status.FOUND, sight, phase, known, counts, gain_s, basis)


def busiest(counts: Mapping[str, int]) -> str:
    """Return the key of the largest count, the first of equals."""
    return max(counts, key=lambda name: counts[name])
