"""The outcome of a gate: what was counted, what was decided, and what it took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nncore_bench.cases import Case
from nncore_bench.compare.changes import Change
from nncore_bench.compare.explain import Cause
from nncore_bench.gate.decide import Decision, Stage
from nncore_bench.gate.rule import Rule

SLOWER, UNDECIDED, FASTER, SAME = "slower", "undecided", "faster", "same"
VERDICTS = (SLOWER, UNDECIDED, FASTER, SAME)
"""In the order in which they are told."""


@dataclass(frozen=True)
class PairRecord:
    """Hold what one launch pair showed of a case, so that others can judge it again.

    `low` and `mean` are log-ratios by phase; `low_ns` and `mean_ns` the smallest and mean lap of each sample
    of the whole step, base and candidate, in nanoseconds.
    """

    stage: Stage
    low: Mapping[str, float]
    mean: Mapping[str, float]
    low_ns: Sequence[tuple[float, float]]
    mean_ns: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Outcome:
    """Hold what a gate found: exact changes and decisions, and what it took.

    `cases` were judged; `new` are those that the base cannot run, and why: there is nothing to judge.
    `phases` has, for each case, by how many seconds each phase differs and what it takes in the base;
    `causes` are what makes slower cases slower, the first one first. `pairs` are those of the two stages,
    `measured` what each of them showed, and `void` why some
    were measured again: which arm died or hung, and how.
    `wanted` is how many pairs would decide what is undecided, and how many seconds one takes; `again` are the
    words of the command that does it again.
    """

    base: str
    candidate: str
    rule: Rule
    cases: tuple[Case, ...]
    new: Mapping[Case, str]
    changes: Mapping[Case, tuple[Change, ...]]
    decisions: Mapping[str, Decision]
    phases: Mapping[Case, Mapping[str, tuple[float, float]]]
    causes: Mapping[Case, tuple[Cause, ...]]
    seconds: float
    pairs: tuple[int, int]
    measured: Mapping[Case, Sequence[PairRecord]]
    void: tuple[str, ...]
    interrupted: bool
    wanted: tuple[int, float] | None = None
    again: tuple[str, ...] = ("gate",)

    def of(self, verdict: str) -> list[Decision]:
        """Return the decisions with a verdict."""
        return [decision for decision in self.decisions.values() if decision.verdict == verdict]

    @property
    def ranked(self) -> list[Decision]:
        """Return the decisions as they are told: slower ones first, of equals the largest ratio."""
        return [
            decision
            for verdict in VERDICTS
            for decision in sorted(self.of(verdict), key=lambda decision: -decision.ratio)
        ]
