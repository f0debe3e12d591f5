"""Explain: whether a case takes longer in one run than in another, in which phase, and what changed there.

Two runs were made at different times, so this is a screen and never a verdict: `ok` or `suspect`, and
`not comparable` where the machines differ.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from nncore_bench.cases import STEP_PHASES, Case
from nncore_bench.compare.changes import WHOLE_CASE, Change, changes_of
from nncore_bench.estimate.estimates import Estimate
from nncore_bench.records import OUTSIDE, CaseCounters, CaseProfile

OK, SUSPECT, NOT_COMPARABLE = "ok", "suspect", "not comparable"
MARGIN = 0.05
JUDGED = {"step": 1.0, "data": 2.0, "copy": 2.0, "inference": 2.0}
"""What is compared by itself, with how many times the margin: all but the step have much shorter blocks.

The phases of the step explain the step.
"""

LEAST_SHARE, LEAST_S = 0.05, 1e-6
"""Slower calls are told where they are this share of the difference and of their phase, and this long."""

CERTAIN = 10
"""A counted change goes before an estimate up to this many times as costly.

Beside a busy neighbour the time of an operator that did not change differs by several times what one more
small operator costs.
"""

EXPLAINED = 0.9
"""What is not explained is told where less than this is."""


@dataclass(frozen=True)
class Side:
    """What one run knows of a case: undisturbed seconds by phase, what was counted, and its profile."""

    times: Mapping[str, Estimate]
    counters: CaseCounters | None = None
    profile: CaseProfile | None = None


@dataclass(frozen=True)
class Cause:
    """One cause of a difference: where, what, from what to what, and its part of it in seconds.

    `seconds` is None where only the change is known and not what it costs; `exact` tells counted changes from
    estimates.
    """

    phase: str
    what: str
    change: str
    meaning: str
    seconds: float | None
    exact: bool


@dataclass(frozen=True)
class Part:
    """By how many seconds the step, or a phase compared beside it, differs, and how many have no cause."""

    difference_s: float
    unexplained_s: float


@dataclass(frozen=True)
class Compared:
    """How a case fares in two runs: its phases' ratios, the outcome, the differences and their causes.

    `steps_s` are the undisturbed seconds of the step in either run. `parts` are those of step, data, copy and
    inference that differ by their margin or more, up or down.
    """

    case: Case
    outcome: str
    steps_s: tuple[float | None, ...]
    ratios: Mapping[str, Estimate]
    suspects: tuple[str, ...]
    parts: Mapping[str, Part]
    causes: tuple[Cause, ...]

    def share(self, cause: Cause) -> float | None:
        """Return a cause's part of the difference that it explains; None where either is unknown."""
        part = self.parts.get(part_of(cause.phase))
        return (
            None
            if cause.seconds is None or not part or not part.difference_s
            else cause.seconds / part.difference_s
        )


def part_of(phase: str) -> str:
    """Return what a phase is compared as a part of."""
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
    """Return how a case fares in two runs; causes are given where its times or its counters differ.

    `drift_free` are the ratios, by phase, of which the machine's drift could be taken out. Not comparable are
    runs of two machines, and a case whose step only one run timed. Where neither timed it as a whole, its
    phases are judged one by one.
    """
    common = [p for p in (*JUDGED, *STEP_PHASES) if p in base.times and p in candidate.times]
    ratios = {p: candidate.times[p].over(base.times[p]) for p in common} | dict(drift_free)
    margins = margins_of(base, candidate, margin)
    suspects = tuple(p for p, times in margins.items() if p in ratios and is_slower(ratios[p], times))
    faster = {p for p, times in margins.items() if p in ratios and is_slower(ratios[p].inverse(), times)}
    comparable = same_machine and any(phase in ratios for phase in margins)
    outcome = (SUSPECT if suspects else OK) if comparable else NOT_COMPARABLE
    differences = differences_of(base, ratios)
    parts = {part_of(phase) for phase in (*suspects, *faster)}
    steps_s = tuple(side.times["step"].value if "step" in side.times else None for side in (base, candidate))
    return Compared(case, outcome, steps_s, ratios, suspects, *explained(base, candidate, differences, parts))


def explained(
    base: Side, candidate: Side, differences: Mapping[str, float], parts: Collection[str]
) -> tuple[dict[str, Part], tuple[Cause, ...]]:
    """Return the differences of some of JUDGED in seconds, and the causes, the first one first.

    `differences` are in seconds by phase, under `step` what its phases leave over.
    """
    found = causes_of(base, candidate, differences, parts)
    whole = {part: _part(part, differences, found) for part in sorted(parts)}
    return whole, ranked([cause for cause in found if cause.exact or _matters(cause, whole, base)])


def margins_of(base: Side, candidate: Side, margin: float) -> dict[str, float]:
    """Return what is judged, each with its margin; nothing of the step where only one run timed it."""
    margins = {phase: margin * times for phase, times in JUDGED.items()}
    timed = ["step" in side.times for side in (base, candidate)]
    if not any(timed):
        margins |= dict.fromkeys(STEP_PHASES, margin * 2)
    return margins if all(timed) or not any(timed) else {}


def _part(part: str, differences: Mapping[str, float], causes: Sequence[Cause]) -> Part:
    """Return a part's difference, and what is left of it without what has a cause.

    Time outside of operators is known by place alone: it explains waiting for data, and no phase of the step.
    """
    whole = sum(seconds for phase, seconds in differences.items() if part_of(phase) == part)
    known = [
        c.seconds or 0.0 for c in causes if part_of(c.phase) == part and (c.what != OUTSIDE or part != "step")
    ]
    return Part(whole, whole - sum(known))


def _matters(cause: Cause, parts: Mapping[str, Part], base: Side) -> bool:
    """Tell whether an estimate is large enough to be told, beside the whole difference and its phase.

    Shares of a phase repeat within some percent from profile to profile.
    """
    phase_s = base.times[cause.phase].value
    whole_s = abs(parts[part_of(cause.phase)].difference_s)
    return abs(cause.seconds or 0.0) >= max(LEAST_S, LEAST_SHARE * whole_s, LEAST_SHARE * phase_s)


def is_slower(ratio: Estimate, margin: float) -> bool:
    """Tell whether a ratio is above the margin, and surely above 1, which none without an interval is."""
    return ratio.value >= 1 + margin and ratio.exceeds(1) is True


def differences_of(base: Side, ratios: Mapping[str, Estimate]) -> dict[str, float]:
    """Return the seconds by which each phase differs, and under `step` what its phases leave over.

    A difference is the time in the base run times what the ratio is above 1, so that it is free of drift as
    far as the ratio is.
    """
    found = {
        phase: (ratio.value - 1) * base.times[phase].value
        for phase, ratio in ratios.items()
        if phase in (*STEP_PHASES, *JUDGED)
    }
    parts = sum(found.get(phase, 0.0) for phase in STEP_PHASES)
    if "step" in found and any(phase in found for phase in STEP_PHASES):
        found["step"] -= parts
    return found


def causes_of(
    base: Side, candidate: Side, differences: Mapping[str, float], explained: Collection[str]
) -> list[Cause]:
    """Return the causes: exact changes everywhere, also where times agree, estimates only in what differs."""
    exact = changes_of(base.counters, candidate.counters)
    found = [_certain(change, None) for change in exact if change.phase == WHOLE_CASE]
    for phase in dict.fromkeys((*STEP_PHASES, *JUDGED)):
        own = [change for change in exact if change.phase == phase]
        more = operator_differences(phase, base, candidate, differences.get(phase))
        for change in own:
            names = (change.operators or ({OUTSIDE} if change.outside else set())) & more.keys()
            found.append(_certain(change, sum(more.pop(name) for name in names) if names else None))
        if part_of(phase) in explained:
            counted = base.counters is not None and candidate.counters is not None
            found += [_estimated(phase, name, seconds, counted=counted) for name, seconds in more.items()]
    return found


def _certain(change: Change, seconds: float | None) -> Cause:
    return Cause(change.phase, change.what, change.change, change.meaning, seconds, exact=True)


def _estimated(phase: str, name: str, seconds: float, *, counted: bool) -> Cause:
    if name == OUTSIDE:
        return _outside(phase, seconds)
    word = "slower calls" if seconds > 0 else "faster calls"
    return Cause(phase, name, word, "as often as before" if counted else "", seconds, exact=False)


def _outside(phase: str, seconds: float) -> Cause:
    word = "more time" if seconds > 0 else "less time"
    meaning = (
        "Python between the operators" if phase not in ("data", "copy") else "loading, Python or sleeping"
    )
    return Cause(phase, OUTSIDE, word, meaning, seconds, exact=False)


def operator_differences(
    phase: str, base: Side, candidate: Side, difference_s: float | None
) -> dict[str, float]:
    """Return by how many seconds each operator of a phase differs, with what is outside of them.

    On the CPU the profiler's times are stretched, so the shares that it saw are applied to the undisturbed
    times. On a device they are not: what its kernels do not account for is outside. Empty without profiles.
    """
    time, old, new = base.times.get(phase), base.profile, candidate.profile
    if time is None or difference_s is None or old is None or new is None:
        return {}
    if old.case.on_device and phase in STEP_PHASES:
        before, after = (_sums(profile, phase, "device_s") for profile in (old, new))
        more = {n: after.get(n, 0.0) - before.get(n, 0.0) for n in {**before, **after} if n != OUTSIDE}
        return more | {OUTSIDE: difference_s - sum(more.values())}
    before, after = (_sums(profile, phase, "share") for profile in (old, new))
    if not before or not after:
        return {}
    times = time.value, time.value + difference_s
    return {n: after.get(n, 0.0) * times[1] - before.get(n, 0.0) * times[0] for n in {**before, **after}}


def _sums(profile: CaseProfile, phase: str, name: str) -> dict[str, float]:
    """Return a figure of each operator of a phase, over its lines, what is outside of them included."""
    found: dict[str, float] = {}
    for operator in profile.operators:
        if operator.phase == phase:
            found[operator.operator] = found.get(operator.operator, 0.0) + (getattr(operator, name) or 0.0)
    return found


def ranked(causes: Sequence[Cause]) -> tuple[Cause, ...]:
    """Return the causes: those of the whole case first, then by what they cost, those of unknown cost last.

    What was counted weighs `CERTAIN` times. A counted change of backward follows from one of forward or loss
    and comes after it, whatever it costs.
    """
    makers = [_weight(cause) for cause in causes if cause.exact and cause.phase in ("forward", "loss")]

    def place(cause: Cause) -> tuple[bool, float, bool]:
        follows = bool(makers) and cause.exact and cause.phase == "backward"
        weight = min(_weight(cause), max(makers)) if follows else _weight(cause)
        return cause.phase != WHOLE_CASE, -weight, follows

    return tuple(sorted(causes, key=place))


def _weight(cause: Cause) -> float:
    return abs(cause.seconds or 0.0) * (CERTAIN if cause.exact else 1)
