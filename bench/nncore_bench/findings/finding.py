"""A finding: what one check says about one case, in figures; `findings/text.py` makes the sentences."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from nncore_bench.cases import Case


@dataclass(frozen=True)
class Finding:
    """What a check saw in a case, or why it applies to no case of a run; `case` is None in the latter.

    `sight` names what was seen, `figures` have their unit as suffix, and `counts` are events of a step by
    phase. `gain_s` are the seconds per step that may be expected back, None if unknown; `basis` is a code
    for how that was estimated, or why it is unknown; `reasons` are codes for why a check does not apply.
    """

    sight: str = ""
    phase: str = ""
    figures: Mapping[str, float | str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    gain_s: float | None = None
    basis: str = ""
    reasons: tuple[str, ...] = ()
    check: str = ""
    case: Case | None = None


NO_CUDA, UNCOUNTED, NO_CASE = "no CUDA", "uncounted", "no case"


class NotApplicableError(Exception):
    """A check cannot be made of a case; the message is a code of the reason."""


def found(
    sight: str,
    where: str | Mapping[str, int],
    gain_s: float | None,
    basis: str,
    **figures: float | str | None,
) -> Finding:
    """Return a finding in a phase, or in the busiest phase of some counts; unknown figures are left out."""
    counts: Mapping[str, int] = {} if isinstance(where, str) else where
    phase = where if isinstance(where, str) else busiest(where)
    known = {name: value for name, value in figures.items() if value is not None}
    return Finding(sight, phase, known, counts, gain_s, basis)


def busiest(counts: Mapping[str, int]) -> str:
    """Return the key of the largest count, the first of equals."""
    return max(counts, key=lambda name: counts[name])
