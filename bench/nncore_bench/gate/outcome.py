"""The outcome of a gate: counters, decisions, and the effort."""

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
    """The findings of a gate: changed counters, decisions, and the effort.

    `cases` were judged; `new` are those that the base cannot run, with the reason: nothing can be judged.
    `phases` has the difference of each phase of each case, and its time in the base, both in seconds;
    `causes` explain slower cases, the largest cause first. `pairs` counts the pairs of both stages;
    `measured` has the ratios of each case, stage by stage; `discarded` names the side that died or hung in a
    repeated pair, and how. `cut_short` says what ended a stage early. `wanted` is the number of pairs that
    would decide the undecided columns, and the seconds that one takes. `again` are the words of a command
    that repeats the gate.
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
        """The budget that would decide the undecided columns; None if no gate would, or if it is unknown."""
        pairs, pair_s = self.wanted or (inf, 0.0)
        return None if pairs > self.rule.most_pairs else ceil((self.seconds + pairs * pair_s) / 60)

    @property
    def ranked(self) -> list[Decision]:
        """The decisions in the order of Verdict, the largest ratio of each first."""
        order = list(Verdict)
        return sorted(self.decisions.values(), key=lambda one: (order.index(one.verdict), -one.ratio))
