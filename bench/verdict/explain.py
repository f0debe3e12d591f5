"""Explain: whether a case takes longer in one run than in another, in which phase, and what changed there.

Two runs were made at different times, so this is a screen and never a verdict: `ok` or `suspect`, and
`not comparable` where the machines differ.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

from bench.cases import STEP_PHASES, Case
from bench.records import OUTSIDE, CaseCounters, CaseProfile
from bench.verdict.changes import WHOLE_CASE, Change, changes_of
from bench.verdict.drift import drift_free_ratio
from bench.verdict.estimates import BETWEEN_RUNS, Estimate
from bench.verdict.rows import Row

OK, SUSPECT, NOT_COMPARABLE = "ok", "suspect", "not comparable"
MARGIN = 0.05
JUDGED = {"step": 1.0, "data": 2.0, "copy": 2.0, "inference": 2.0}
"""What is compared by itself, with how many times the margin: all but the step have much shorter blocks.

The phases of the step explain the step.
"""

LEAST_SHARE, LEAST_S = 0.05, 1e-6
"""Calls that got slower are told where they are this share of the whole difference, and this long."""

EXPLAINED = 0.9
"""What is not explained is told where less than this is."""


@dataclass(frozen=True)
class Side:
    """Hold what one run knows of a case: its rows by phase, what was counted, and its profile."""

    rows: Mapping[str, Row]
    counters: CaseCounters | None = None
    profile: CaseProfile | None = None


@dataclass(frozen=True)
class Cause:
    """Hold one cause of a difference: where, what, from what to what, and its part of it in seconds.

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
class Compared:
    """Hold how a case fares in two runs: its phases' ratios, the outcome, the difference and its causes.

    `difference_s` is that of the step and of waiting for data, each where it differs by the margin;
    `unexplained_s` is what is left of it without a cause.
    """

    case: Case
    outcome: str
    ratios: Mapping[str, Estimate]
    suspects: tuple[str, ...]
    difference_s: float
    unexplained_s: float
    causes: tuple[Cause, ...]

    @property
    def differs(self) -> bool:
        """Tell whether there is anything to explain: a time that surely differs, or an exact change."""
        return bool(self.causes)


def compared(
    case: Case, base: Side, candidate: Side, *, same_machine: bool, margin: float = MARGIN
) -> Compared:
    """Return how a case fares in two runs; causes are given where its times or its counters differ."""
    ratios = {
        phase: ratio
        for phase in (*JUDGED, *STEP_PHASES)
        if (ratio := _ratio(base.rows.get(phase), candidate.rows.get(phase), same_machine=same_machine))
    }
    judged = {phase: ratios[phase] for phase in JUDGED if phase in ratios}
    margins = {phase: margin * times for phase, times in JUDGED.items()}
    suspects = tuple(p for p, ratio in judged.items() if is_slower(ratio, margins[p]))
    differing = {p for p, r in judged.items() if p in suspects or is_slower(inverse(r), margins[p])}
    outcome = (SUSPECT if suspects else OK) if same_machine else NOT_COMPARABLE
    differences = differences_of(base, ratios)
    explained = {p for p in differences if p in differing or ("step" in differing and p in STEP_PHASES)}
    found = causes_of(base, candidate, differences, explained)
    whole = sum(differences[phase] for phase in explained)
    known = sum(cause.seconds or 0.0 for phase, cause in found if phase in explained)
    causes = ranked([cause for _, cause in found if cause.exact or _matters(cause, whole)])
    return Compared(case, outcome, ratios, suspects, whole, whole - known, causes)


def _matters(cause: Cause, difference_s: float) -> bool:
    """Tell whether an estimate is large enough to be told, in itself and beside the whole difference."""
    return abs(cause.seconds or 0.0) >= max(LEAST_S, LEAST_SHARE * abs(difference_s))


def is_slower(ratio: Estimate, margin: float) -> bool:
    """Tell whether a ratio is above the margin, and surely above 1 where it has an interval."""
    return ratio.value >= 1 + margin and (ratio.low is None or ratio.low > 1)


def inverse(ratio: Estimate) -> Estimate:
    """Return how many times as long the base takes as the candidate."""
    low = None if ratio.high is None else 1 / ratio.high
    high = None if ratio.low is None else 1 / ratio.low
    return Estimate(1 / ratio.value, low, high, ratio.basis)


def _ratio(base: Row | None, candidate: Row | None, *, same_machine: bool) -> Estimate | None:
    """Return candidate over base of the undisturbed times, without the machine's drift where known."""
    if base is None or candidate is None or not base.time_s or not candidate.time_s:
        return None
    if same_machine and (ratio := drift_free_ratio(base, candidate)) is not None:
        return ratio
    value = candidate.time_s / base.time_s
    if not (base.time_high_s and candidate.time_high_s):
        return Estimate(value, None, None, BETWEEN_RUNS)
    half = sqrt(log(base.time_high_s / base.time_s) ** 2 + log(candidate.time_high_s / candidate.time_s) ** 2)
    return Estimate(value, value * exp(-half), value * exp(half), BETWEEN_RUNS)


def differences_of(base: Side, ratios: Mapping[str, Estimate]) -> dict[str, float]:
    """Return the seconds by which each phase differs, and under `step` what its phases leave over.

    A difference is the time in the base run times what the ratio is above 1, so that it is free of drift as
    far as the ratio is.
    """
    found = {
        phase: (ratio.value - 1) * (base.rows[phase].time_s or 0.0)
        for phase, ratio in ratios.items()
        if phase in (*STEP_PHASES, "step", "data", "copy")
    }
    parts = sum(found.get(phase, 0.0) for phase in STEP_PHASES)
    if "step" in found and any(phase in found for phase in STEP_PHASES):
        found["step"] -= parts
    return found


def causes_of(
    base: Side, candidate: Side, differences: Mapping[str, float], explained: Collection[str]
) -> list[tuple[str, Cause]]:
    """Return the causes with the phase whose difference they are part of.

    Exact changes are causes everywhere, also where times agree, estimates only in what differs.
    Where no phase of the step was timed, the changes of all are causes of the step's difference.
    """
    exact = changes_of(base.counters, candidate.counters)
    timed = any(phase in differences for phase in STEP_PHASES)
    found = [
        (WHOLE_CASE, Cause(c.phase, c.what, c.change, c.meaning, None, exact=True))
        for c in exact
        if c.phase == WHOLE_CASE
    ]
    for phase in dict.fromkeys((*(STEP_PHASES if timed else ("step",)), *differences)):
        own = [
            c for c in exact if c.phase == phase or (not timed and phase == "step" and c.phase != WHOLE_CASE)
        ]
        difference_s = differences.get(phase)
        if base.profile is not None and candidate.profile is not None and difference_s is not None:
            causes = _by_profile(phase, base, candidate, difference_s, own)
        else:
            causes = _by_counters(difference_s if phase in explained else None, own)
        found += [(phase, cause) for cause in causes if cause.exact or phase in explained]
    return found


def _by_counters(difference_s: float | None, exact: Sequence[Change]) -> list[Cause]:
    """Return the changes of a phase without profiles: together they are what its difference comes from."""
    return [
        Cause(c.phase, c.what, c.change, c.meaning, None if number else difference_s, exact=True)
        for number, c in enumerate(sorted(exact, key=lambda change: not change.operators))
    ]


def _by_profile(
    phase: str, base: Side, candidate: Side, difference_s: float, exact: Sequence[Change]
) -> list[Cause]:
    """Return the causes of a phase's difference by what each of its operators takes more or less.

    The profiler's times are stretched, so the shares that it saw are applied to the undisturbed times.
    """
    more = operator_differences(phase, base, candidate, difference_s)
    causes = []
    for change in exact:
        names = change.operators & more.keys() if change.operators else {OUTSIDE} & more.keys()
        seconds = sum(more.pop(name) for name in names) if more else None
        causes.append(Cause(change.phase, change.what, change.change, change.meaning, seconds, exact=True))
    for name, seconds in more.items():
        if name == OUTSIDE:
            causes.append(_outside(phase, seconds))
        else:
            word = "slower calls" if seconds > 0 else "faster calls"
            causes.append(Cause(phase, name, word, "the same calls at the same shapes", seconds, exact=False))
    return causes


def _outside(phase: str, seconds: float) -> Cause:
    word = "more time" if seconds > 0 else "less time"
    meaning = (
        "Python between the operators" if phase not in ("data", "copy") else "loading, Python or sleeping"
    )
    return Cause(phase, OUTSIDE, word, meaning, seconds, exact=False)


def operator_differences(phase: str, base: Side, candidate: Side, difference_s: float) -> dict[str, float]:
    """Return by how many seconds each operator of a phase differs; they add up to the phase's difference."""
    row = base.rows.get(phase)
    if row is None or not row.time_s:
        return {}
    before, after = shares(base.profile, phase), shares(candidate.profile, phase)
    if not before or not after:
        return {}
    time_s = row.time_s, row.time_s + difference_s
    return {
        name: after.get(name, 0.0) * time_s[1] - before.get(name, 0.0) * time_s[0]
        for name in {**before, **after}
    }


def shares(profile: CaseProfile | None, phase: str) -> dict[str, float]:
    """Return the share of a phase that each operator takes by itself, what is outside of them included."""
    found: dict[str, float] = {}
    for operator in profile.operators if profile else ():
        if operator.phase == phase:
            found[operator.operator] = found.get(operator.operator, 0.0) + operator.share
    return found


def ranked(causes: Sequence[Cause]) -> tuple[Cause, ...]:
    """Return the causes, those of the whole case first, then exact ones, then others, by what they cost.

    What is exact comes first, since it is certain, and since the times of operators are estimates.
    """
    return tuple(
        sorted(
            causes,
            key=lambda cause: (cause.phase != WHOLE_CASE, not cause.exact, -abs(cause.seconds or 0.0)),
        )
    )
