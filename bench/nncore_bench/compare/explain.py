"""Explain whether a case takes longer in one run than in another, in which phase, and what changed there.

The runs were made at different times, so this is a screen and never a verdict: `ok` or `suspect`, and
`not comparable` where the machines differ.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from nncore_bench.cases import FED, Case, is_part, parts_in
from nncore_bench.compare.changes import WHOLE_CASE, changes_of
from nncore_bench.estimate.estimates import Estimate
from nncore_bench.records import OUTSIDE, CaseCounters, CaseProfile

OK, SUSPECT, NOT_COMPARABLE = "ok", "suspect", "not comparable"
MARGIN = 0.05
JUDGED = {"step": 1.0, "data": 2.0, "copy": 2.0, "inference": 2.0}
"""What is compared by itself, with how many times the margin: all but the step have much shorter blocks."""

LEAST_SHARE, LEAST_S = 0.05, 1e-6
"""Report an estimate from this share of the difference and of its phase, and from this many seconds.

Shares of a phase repeat within some percent from profile to profile.
"""

CERTAIN = 10
"""A counted change comes before an estimate up to this many times as costly.

Beside a busy neighbour the time of an unchanged operator differs by several times the cost of one more small
operator.
"""

EXPLAINED = 0.9
"""A difference of which less than this share is explained is reported as unexplained."""


@dataclass(frozen=True)
class Side:
    """The undisturbed seconds of a case in one run, by phase, with its counters and its profile."""

    times: Mapping[str, Estimate]
    counters: CaseCounters | None = None
    profile: CaseProfile | None = None


@dataclass(frozen=True)
class Cause:
    """One cause of a difference: its phase, what changed and how, and the seconds it costs.

    `seconds` is None where the cost is unknown; `exact` is True for counted changes and False for estimates.
    """

    phase: str
    what: str
    change: str
    meaning: str
    seconds: float | None
    exact: bool


@dataclass(frozen=True)
class Compared:
    """How a case fares in two runs: its phases' ratios, the outcome, the differences and their causes.

    `steps_s` are the undisturbed seconds of the step in either run. `differences_s` has those of step, data,
    copy and inference that differ by their margin or more, up or down; `unexplained_s` what has no cause.
    """

    case: Case
    outcome: str
    steps_s: tuple[float | None, ...]
    ratios: Mapping[str, Estimate]
    suspects: tuple[str, ...]
    differences_s: Mapping[str, float]
    unexplained_s: Mapping[str, float]
    causes: tuple[Cause, ...]

    def share(self, cause: Cause) -> float | None:
        """Return a cause's part of the difference that it explains; None where either is unknown."""
        whole_s = self.differences_s.get(part_of(cause.phase))
        return cause.seconds / whole_s if whole_s and cause.seconds is not None else None


def part_of(phase: str) -> str:
    """Return which of JUDGED a phase explains: itself, or the step for the phases of the step."""
    return phase if phase in JUDGED else "step"


def compared(  # noqa: PLR0913 - two are keywords
    case: Case,
    base: Side,
    candidate: Side,
    drift_free: Mapping[str, Estimate],
    *,
    same_machine: bool,
    margin: float = MARGIN,
) -> Compared:
    """Compare a case in two runs; causes are given where its times or its counters differ.

    `drift_free` has the ratios corrected for the machine's drift, by phase. Runs of two machines are not
    comparable, nor is a case whose step only one run timed. If neither timed it as a whole, its phases are
    judged one by one.
    """
    common = [p for p in (*JUDGED, *parts_in(base.times)) if p in base.times and p in candidate.times]
    ratios = {p: candidate.times[p].over(base.times[p]) for p in common} | dict(drift_free)
    steps_s = tuple(side.times["step"].value if "step" in side.times else None for side in (base, candidate))
    margins = {phase: margin * times for phase, times in JUDGED.items()}
    if steps_s == (None, None):
        margins |= dict.fromkeys(parts_in(common), margin * 2)
    elif None in steps_s:
        margins = {}
    judged = [phase for phase in margins if phase in ratios]
    suspects = tuple(p for p in judged if _is_slower(ratios[p], margins[p]))
    faster = [p for p in judged if _is_slower(ratios[p].inverse(), margins[p])]
    outcome = (SUSPECT if suspects else OK) if same_machine and judged else NOT_COMPARABLE
    parts = set(map(part_of, (*suspects, *faster)))
    differences = _differences(base, ratios)
    explanation = explained(base, candidate, differences, parts)
    return Compared(case, outcome, steps_s, ratios, suspects, *explanation)


def explained(
    base: Side, candidate: Side, differences_s: Mapping[str, float], parts: Collection[str]
) -> tuple[dict[str, float], dict[str, float], tuple[Cause, ...]]:
    """Return the differences of some of JUDGED, the unexplained rest of each, and the ranked causes.

    All are in seconds; `differences_s` are by phase, with the rest of the step as `step`. Time outside of
    operators is known by place alone: it explains waiting for data, and no phase of the step.
    """
    found = _causes(base, candidate, differences_s, parts)
    whole_s = {
        part: sum(seconds for phase, seconds in differences_s.items() if part_of(phase) == part)
        for part in sorted(parts)
    }
    known = [cause for cause in found if cause.what != OUTSIDE or part_of(cause.phase) != "step"]
    left_s = {
        part: whole - sum(cause.seconds or 0.0 for cause in known if part_of(cause.phase) == part)
        for part, whole in whole_s.items()
    }

    def matters(cause: Cause) -> bool:
        wholes_s = abs(whole_s[part_of(cause.phase)]), base.times[cause.phase].value
        return abs(cause.seconds or 0.0) >= max(LEAST_S, *(LEAST_SHARE * seconds for seconds in wholes_s))

    return whole_s, left_s, _ranked([cause for cause in found if cause.exact or matters(cause)])


def _is_slower(ratio: Estimate, margin: float) -> bool:
    """Return True for a ratio above the margin and surely above 1, which none without an interval is."""
    return ratio.value >= 1 + margin and ratio.exceeds(1) is True


def _differences(base: Side, ratios: Mapping[str, Estimate]) -> dict[str, float]:
    """Return the seconds by which each phase differs; `step` has the rest that its phases leave.

    A difference is the time in the base run times the excess of the ratio over 1, so it is as free of drift
    as the ratio.
    """
    found = {phase: (ratio.value - 1) * base.times[phase].value for phase, ratio in ratios.items()}
    if "step" in found:
        found["step"] -= sum(found.get(phase, 0.0) for phase in parts_in(found))
    return found


def _causes(
    base: Side, candidate: Side, differences_s: Mapping[str, float], parts: Collection[str]
) -> list[Cause]:
    """Return the exact changes, also where times agree, and the estimates of what differs in some parts."""
    exact, found = changes_of(base.counters, candidate.counters), []
    again = "as often as before" if base.counters is not None and candidate.counters is not None else ""
    for phase in (WHOLE_CASE, *parts_in((*base.times, *candidate.times)), *JUDGED):
        more = _operator_differences(phase, base, candidate, differences_s.get(phase))
        for one in (change for change in exact if change.phase == phase):
            names = (one.operators or ({OUTSIDE} if one.outside else set())) & more.keys()
            seconds = sum(more.pop(name) for name in names) if names else None
            found.append(Cause(phase, one.what, one.change, one.meaning, seconds, exact=True))
        if part_of(phase) in parts:
            found += [_estimated(phase, name, seconds, again) for name, seconds in more.items()]
    return found


def _estimated(phase: str, name: str, seconds: float, meaning: str) -> Cause:
    change = "slower calls" if seconds > 0 else "faster calls"
    if name == OUTSIDE:
        change = "more time" if seconds > 0 else "less time"
        meaning = "loading, Python or sleeping" if phase in FED else "Python between the operators"
    return Cause(phase, name, change, meaning, seconds, exact=False)


def _operator_differences(
    phase: str, base: Side, candidate: Side, difference_s: float | None
) -> dict[str, float]:
    """Return by how many seconds each operator of a phase differs, and the time outside of them.

    On the CPU the profiler stretches times, so the shares that it saw are applied to the undisturbed times.
    On a device it does not: all time but that of the kernels is outside. Empty without profiles.
    """
    time, old, new = base.times.get(phase), base.profile, candidate.profile
    if time is None or difference_s is None or old is None or new is None:
        return {}
    on_device = old.case.on_device and is_part(phase)
    before, after = (_sums(one, phase, "device_s" if on_device else "share") for one in (old, new))
    if not on_device and not (before and after):
        return {}
    times = (1.0, 1.0) if on_device else (time.value, time.value + difference_s)
    more = {name: after[name] * times[1] - before[name] * times[0] for name in {**before, **after}}
    if on_device:
        more.pop(OUTSIDE, None)
        more[OUTSIDE] = difference_s - sum(more.values())
    return more


def _sums(profile: CaseProfile, phase: str, name: str) -> dict[str, float]:
    """Return the sum of a figure for each operator of a phase, and for the time outside of them."""
    found: dict[str, float] = defaultdict(float)
    for operator in profile.operators:
        if operator.phase == phase:
            found[operator.operator] += getattr(operator, name) or 0.0
    return found


def _ranked(causes: Sequence[Cause]) -> tuple[Cause, ...]:
    """Return the causes: those of the whole case first, then by cost, those of unknown cost last.

    What was counted weighs `CERTAIN` times. A counted change of backward follows from one of forward or loss
    and comes after it, regardless of its cost.
    """

    def weight(cause: Cause) -> float:
        return abs(cause.seconds or 0.0) * (CERTAIN if cause.exact else 1)

    makers = (weight(cause) for cause in causes if cause.exact and cause.phase in ("forward", "loss"))
    most = max(makers, default=inf)

    def place(cause: Cause) -> tuple[bool, float, bool]:
        follows = most < inf and cause.exact and cause.phase == "backward"
        return cause.phase != WHOLE_CASE, -min(weight(cause), most if follows else inf), follows

    return tuple(sorted(causes, key=place))
