"""The outcome of a gate: what was counted, what was decided, and what it took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf

from nncore_bench.cases import Case
from nncore_bench.compare.changes import Change
from nncore_bench.compare.explain import Cause
from nncore_bench.gate.decide import Decision, Verdict
from nncore_bench.gate.ratios import PairRatios
from nncore_bench.gate.rule import Rule


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a gate found: exact changes and decisions, and what it took.

    `cases` were judged; `new` are those that the base cannot run, and why: there is nothing to judge.
    `phases` has, for each case, by how many seconds each phase differs and what it takes in the base;
    `causes` are what makes slower cases slower, the first one first. `pairs` counts those of the two stages,
    `measured` has what each showed of a case, stage by stage, and `discarded` why some were measured again:
    which side died or hung, and how. `cut_short` says what ended a stage early. `wanted` is how many pairs
    would decide what is undecided, and how many seconds one takes; `again` are the words of the command that
    does it again.
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
    measured: Mapping[Case, Sequence[Sequence[PairRatios]]]
    discarded: tuple[str, ...]
    interrupted: bool
    cut_short: str = ""
    wanted: tuple[int, float] | None = None
    again: tuple[str, ...] = ("gate",)

    def of(self, verdict: Verdict) -> list[Decision]:
        """Return the decisions with a verdict."""
        return [decision for decision in self.decisions.values() if decision.verdict == verdict]

    @property
    def verdict(self) -> Verdict:
        """The worst of all decisions; undecided where the gate was interrupted."""
        return Verdict.UNDECIDED if self.interrupted else next(filter(self.of, Verdict), Verdict.SAME)

    @property
    def enough_minutes(self) -> int | None:
        """The budget that would decide what is undecided; None where no gate would, or that is not known."""
        pairs, pair_s = self.wanted or (inf, 0.0)
        return None if pairs > self.rule.most_pairs else ceil((self.seconds + pairs * pair_s) / 60)

    @property
    def ranked(self) -> list[Decision]:
        """The decisions in the order of Verdict, of equals the largest ratio first."""
        order = list(Verdict)
        return sorted(self.decisions.values(), key=lambda one: (order.index(one.verdict), -one.ratio))
