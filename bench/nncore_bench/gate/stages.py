"""The stages of the gate: count both revisions, screen all cases, confirm what is left, and explain it.

Counters are compared exactly. Times are measured in launch pairs, in two stages: the screening can only pass
a case, and the confirming stage judges on fresh pairs alone.
"""

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import exp
from typing import TypeAlias

import numpy as np

from nncore_bench.campaign.conductor import Progress
from nncore_bench.cases import Case
from nncore_bench.compare.changes import changes_of
from nncore_bench.compare.explain import Cause
from nncore_bench.errors import UserError
from nncore_bench.gate.causes import causes_of_slower
from nncore_bench.gate.columns import Column, columns_of
from nncore_bench.gate.decide import Decision, Ground, Verdict, confirm, pairs_needed, screen
from nncore_bench.gate.outcome import Outcome
from nncore_bench.gate.pairs import BASE, CANDIDATE, SideError, judgeable
from nncore_bench.gate.ratios import PairRatios
from nncore_bench.gate.rule import Rule
from nncore_bench.gate.sides import SIDES, Sides
from nncore_bench.gate.signflip import FEWEST_PAIRS
from nncore_bench.gate.templates import HASH_SEEDS
from nncore_bench.records import CaseCounters

MOST_EXPLAINED, EXAMPLES = 12, 2
MOST_DISCARDED = 3
"""Give up on a case after this many failed pairs in a row."""

MOST_SUGGESTED = 1000
"""Never suggest measuring more pairs than these."""


class GateError(UserError):
    """The reason why nothing can be decided, in one sentence."""


Pairs: TypeAlias = dict[Case, list[PairRatios]]
"""The log-ratios of each case in every pair of a stage."""


@dataclass
class Gate:
    """A gate on some cases; `names` are those of base and candidate."""

    names: tuple[str, str]
    cases: Sequence[Case]
    rule: Rule
    budget_s: float
    progress: Progress
    random: random.Random
    sides: Sides
    now: Callable[[], float] = time.monotonic
    discarded: list[str] = field(default_factory=list, init=False)
    cut_short: str = field(default="", init=False)
    """What ended a stage early: the budget, and after how many pairs, or a side that cannot be measured."""

    wanted: tuple[int, float] | None = field(default=None, init=False)
    """How many pairs would decide the undecided columns, and how many seconds one takes."""

    def __post_init__(self) -> None:
        self._started = self.now()
        self._pair_s = 0.0
        self._judged = list(self.cases)
        self._new: dict[Case, str] = {}
        self._counters: dict[Case, tuple[CaseCounters, CaseCounters]] = {}
        self._first: Pairs = {}
        self._second: Pairs = {}
        self._decisions: dict[str, Decision] = {}

    def run(self) -> Outcome:
        """Run the gate; Ctrl-C leaves undecided what it has not decided yet. Raises GateError."""
        interrupted = False
        causes: dict[Case, tuple[Cause, ...]] = {}
        try:
            self._count()
            self._decide()
            with suppress(KeyboardInterrupt):  # all is decided, if not explained
                causes = self._causes()
        except KeyboardInterrupt:
            interrupted = True
            self._decisions = self._decisions or self._known()
        finally:
            self.sides.close()
        return Outcome(
            base=self.names[BASE],
            candidate=self.names[CANDIDATE],
            rule=self.rule,
            cases=tuple(self._judged),
            new=self._new,
            changes={
                case: tuple(found) for case, pair in self._counters.items() if (found := changes_of(*pair))
            },
            decisions=self._decisions,
            phases=self._phases(),
            causes=causes,
            seconds=self.now() - self._started,
            pairs=(pairs_in(self._first), pairs_in(self._second)),
            measured={case: (pairs, self._second.get(case, [])) for case, pairs in self._first.items()},
            discarded=tuple(self.discarded),
            interrupted=interrupted,
            cut_short=self.cut_short,
            wanted=self.wanted,
        )

    def _count(self) -> None:
        """Count both sides, which gives the same numbers on every machine.

        A case that only the candidate can run is new and not judged; one that it cannot run is an error.
        """
        try:
            base, candidate = (self.sides.counted(side) for side in (BASE, CANDIDATE))
        except SideError as error:
            what = f"{error.case.key} cannot be counted in the" if error.case else "the"
            cannot = "" if error.case else " cannot be counted"
            raise GateError(f"{what} {SIDES[error.side]}{cannot}: {error}") from None
        for case, counters in candidate.items():
            if isinstance(counters, str):
                raise GateError(f"{case.key} cannot run in the candidate: {counters}")
        self._judged = [case for case in self.cases if not isinstance(base[case], str)]
        self._new = {case: reason for case, reason in base.items() if isinstance(reason, str)}
        if not self._judged:
            first = self.cases[0]
            raise GateError(f"no case can run in both: {first.key} in the base: {base[first]}")
        for case in self._judged:
            before, after = base[case], candidate[case]
            if isinstance(before, CaseCounters) and isinstance(after, CaseCounters):
                self._counters[case] = before, after

    def _decide(self) -> None:
        """Measure and judge both stages."""
        self._stage("screening", self._judged, self.rule.first_pairs, self._first)
        columns = self._columns(self._first)
        self._decisions = screen(columns, self.rule)
        left = self._left()
        if left and not self.cut_short:
            planned = self._planned(self._undecided(columns), len(left))
            try:
                self._stage("confirming", left, planned, self._second)
            except GateError as error:  # what has been screened stays
                self.cut_short = str(error)
            if pairs_in(self._second) >= FEWEST_PAIRS:
                # What has passed stays passed; means are judged again only over all of their cases.
                columns = self._undecided(self._columns(self._second))
                coins = np.random.default_rng(self.random.randrange(HASH_SEEDS))
                self._decisions |= confirm(columns, self.rule, coins)
        undecided = self._undecided(columns)
        if undecided and (needed := pairs_needed(undecided, self.rule, MOST_SUGGESTED)) > len(
            undecided[0].low
        ):
            self.wanted = needed, self._pair_s

    def _causes(self) -> dict[Case, tuple[Cause, ...]]:
        """Return the causes of the slowest of the slower cases, from the counters and profiles of both sides.

        If only means over cases are slower, explain the cases that differ most.
        """
        slower = self._with(Verdict.SLOWER)
        if not slower:
            return {}
        phases = self._phases()
        ranked = sorted(phases, key=lambda case: -self._decisions[case.key].ratio)
        chosen = [case for case in ranked if case.key in slower][:MOST_EXPLAINED] or ranked[:EXAMPLES]
        base, candidate = (self.sides.profiled(side, chosen) for side in (BASE, CANDIDATE))
        return {
            case: causes_of_slower(
                phases[case],
                self._counters.get(case, (None, None)),
                (base.get(case), candidate.get(case)),
            )
            for case in chosen
        }

    def _stage(self, name: str, cases: Collection[Case], pairs: int, found: Pairs) -> None:
        """Measure a number of pairs of some cases into `found`, which keeps finished ones after Ctrl-C.

        The budget ends the stage before a pair that would exceed it, whichever side is slower.
        """
        begin = self.now()
        for done in range(pairs):
            self._pair_s = (self.now() - begin) / done if done else 0.0
            if done >= FEWEST_PAIRS and self._left_s < self._pair_s:
                after = f"after {done} of {pairs} pairs"
                self.cut_short = f"the budget of {self.budget_s:.0f} s ended {name} {after}"
                return
            self.progress(name, done, pairs, self._pair_s * (pairs - done) if done else None)
            for case, ratios in self._pair(cases).items():
                found.setdefault(case, []).append(ratios)
        self._pair_s = (self.now() - begin) / pairs

    @property
    def _left_s(self) -> float:
        return self.budget_s - (self.now() - self._started)

    def _pair(self, cases: Collection[Case]) -> Mapping[Case, PairRatios]:
        """Measure a pair; if either side dies, discard the pair and repeat it."""
        for _ in range(MOST_DISCARDED):
            try:
                return self.sides.pair(cases)
            except SideError as error:
                self.discarded.append(f"{SIDES[error.side]}: {error}")
                self.sides.close()
                last = error
        what = last.case.key if last.case else "the worker"
        raise GateError(
            f"{what} cannot be measured in the {SIDES[last.side]}: {last} ({MOST_DISCARDED} times in a row)"
        )

    def _columns(self, found: Pairs) -> list[Column]:
        """Return the columns of a stage, with the phases that the screening found long enough to judge."""
        judged = {case: judgeable(case, self._first[case]) for case in found}
        return columns_of(found, judged, self.rule)

    def _undecided(self, columns: Sequence[Column]) -> list[Column]:
        return [one for one in columns if one.name in self._with(Verdict.UNDECIDED)]

    def _with(self, verdict: Verdict) -> set[str]:
        return {name for name, decision in self._decisions.items() if decision.verdict == verdict}

    def _left(self) -> list[Case]:
        """Return the cases for the confirming stage: the undecided ones, or all if a mean is undecided."""
        left = self._with(Verdict.UNDECIDED)
        if left - {case.key for case in self._judged}:
            return self._judged
        return [case for case in self._judged if case.key in left]

    def _known(self) -> dict[str, Decision]:
        """Return the ratios of an unfinished screening, all of them undecided."""
        if pairs_in(self._first) < FEWEST_PAIRS:
            return {}
        known = screen(self._columns(self._first), self.rule)
        return {
            name: replace(one, verdict=Verdict.UNDECIDED, ground=Ground.INTERRUPTED)
            for name, one in known.items()
        }

    def _planned(self, columns: Sequence[Column], cases: int) -> int:
        """Return the number of pairs of the confirming stage: as its columns need and the budget allows.

        It is fixed before the first of them, from the screening alone.
        """
        per_pair = self._pair_s * cases / len(self._judged)
        affordable = int(self._left_s / per_pair) if per_pair else self.rule.most_pairs
        needed = pairs_needed(columns, self.rule, self.rule.most_pairs)
        return max(self.rule.second_pairs, min(needed, affordable))

    def _phases(self) -> dict[Case, dict[str, tuple[float, float]]]:
        """Return the difference of each phase of each case, and its time in the base, both in seconds.

        They come from the last stage of a case alone: by its screening pairs it may have been picked.
        """
        shown = {case: self._second.get(case) or self._first.get(case) for case in self.cases}
        return {
            case: {phase: _difference(pairs, phase) for phase in pairs[0].low}
            for case, pairs in shown.items()
            if pairs
        }


def _difference(pairs: Sequence[PairRatios], phase: str) -> tuple[float, float]:
    base_s = float(np.median([one.base_s[phase] for one in pairs]))
    return (exp(np.mean([one.low[phase] for one in pairs])) - 1) * base_s, base_s


def pairs_in(found: Pairs) -> int:
    """Return the number of finished pairs."""
    return min((len(pairs) for pairs in found.values()), default=0)
