"""The gate's stages: two arms measured against each other in one go, and a verdict for each case.

What they do is counted first and compared exactly. Then launch pairs are measured in two stages: a screening
one that can only pass, and a confirming one, on fresh pairs alone.
"""

import os
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np

from nncore_bench.campaign.conductor import Progress
from nncore_bench.cases import Case
from nncore_bench.compare.changes import Change, changes_of
from nncore_bench.compare.explain import Cause
from nncore_bench.errors import UserError
from nncore_bench.gate.causes import causes_of_slower
from nncore_bench.gate.columns import CaseRatios, Column, case_columns, group_columns
from nncore_bench.gate.decide import Decision, Stage, confirm, pairs_needed, screen
from nncore_bench.gate.outcome import SLOWER, UNDECIDED, Outcome, PairRecord
from nncore_bench.gate.pairs import (
    BASE,
    CANDIDATE,
    MEASURED,
    ArmError,
    Pairing,
    Ratios,
    Times,
    judgeable,
    ratios_of,
)
from nncore_bench.gate.revisions import Layout
from nncore_bench.gate.rule import Rule
from nncore_bench.gate.sides import ARMS, Arms
from nncore_bench.gate.signflip import FEWEST_PAIRS
from nncore_bench.gate.templates import HASH_SEEDS, Parents
from nncore_bench.records import CaseCounters

MOST_EXPLAINED, EXAMPLES = 12, 2
MOST_VOID = 3
"""A case whose pair is void so many times in a row cannot be measured."""

MOST_TOLD = 1000
"""Nobody is told to measure more pairs than these."""


class GateError(UserError):
    """Say in one sentence why nothing can be decided."""


Pairs = dict[int, list[Ratios]]
"""What was measured of each case, by its number: one entry a launch pair."""


@dataclass
class Gate:
    """Measure pairs and decide; `parents` start the workers of both arms."""

    names: tuple[str, str]
    cases: Sequence[Case]
    layout: Layout
    rule: Rule
    budget_s: float
    progress: Progress
    random: random.Random
    parents: Parents
    now: Callable[[], float] = time.monotonic
    void: list[str] = field(default_factory=list)
    cut_short: str = ""
    """What ended a stage early: the budget, and after how many pairs, or an arm that cannot be measured."""

    wanted: tuple[int, float] | None = field(default=None, init=False)
    """How many pairs would decide what is left undecided, and how many seconds one takes."""

    def __post_init__(self) -> None:
        self._started = self.now()
        self._pair_s = 0.0
        self._judged: list[int] = list(range(len(self.cases)))
        self._pairing = Pairing(self.cases, self.parents.launch, cores(), self.random)
        self._arms = Arms(self.cases, self.layout, self.parents, self.progress)
        self._judgeable: dict[int, tuple[str, ...]] = {}
        self._new: dict[Case, str] = {}
        self._counters: dict[Case, tuple[CaseCounters, CaseCounters]] = {}

    def run(self) -> Outcome:
        """Run the gate; whatever is not decided when it is interrupted stays undecided. Raises GateError."""
        try:
            return self._outcome()
        finally:
            self.parents.close()

    def _outcome(self) -> Outcome:
        changes: dict[Case, tuple[Change, ...]] = {}
        first: Pairs = {}
        second: Pairs = {}
        decisions: dict[str, Decision] = {}
        causes: dict[Case, tuple[Cause, ...]] = {}
        interrupted = False
        try:
            changes = self._changes()
            self._stage("screening", self._judged, self.rule.first_pairs, first)
            columns = self._columns(first)
            decisions = screen(columns, self.rule)
            left = self._left(decisions)
            if left and not self.cut_short:
                undecided = [c for c in columns if decisions[c.name].verdict == UNDECIDED]
                with self._what_is_known_stays():
                    self._stage("confirming", left, self._planned(undecided, len(left)), second)
                if pairs_in(second) >= FEWEST_PAIRS:
                    # What has passed stays passed; means are judged again only over all of their cases.
                    columns = [c for c in self._columns(second) if decisions[c.name].verdict == UNDECIDED]
                    coins = np.random.default_rng(self.random.randrange(HASH_SEEDS))
                    decisions |= confirm(columns, self.rule, coins)
            decisions = self._with_what_it_takes(decisions, columns)
        except KeyboardInterrupt:
            interrupted = True
            decisions = decisions or self._known(first)
        try:
            if not interrupted:
                causes = self._causes(decisions, self._phases(first, second))
        except KeyboardInterrupt:
            causes = {}  # all is decided, if not explained
        return Outcome(
            *self.names,
            self.rule,
            tuple(self.cases[number] for number in self._judged),
            self._new,
            changes,
            decisions,
            self._phases(first, second),
            causes,
            self.now() - self._started,
            (pairs_in(first), pairs_in(second)),
            self._measured(first, second),
            tuple(self.void),
            interrupted,
            self.wanted,
        )

    def _changes(self) -> dict[Case, tuple[Change, ...]]:
        """Return what the arms do differently, counted: the same answer on every machine.

        A case that the base cannot run is new and not judged; one that the candidate cannot is an error.
        """
        try:
            base, candidate = (self._arms.counted(arm) for arm in (BASE, CANDIDATE))
        except ArmError as error:
            what = f"{error.case.key} cannot be counted in the" if error.case else "the"
            cannot = "" if error.case else " cannot be counted"
            raise GateError(f"{what} {ARMS[error.arm]}{cannot}: {error}") from None
        for case, counters in candidate.items():
            if isinstance(counters, str):
                raise GateError(f"{case.key} cannot run in the candidate: {counters}")
        self._judged = [n for n, case in enumerate(self.cases) if not isinstance(base[case], str)]
        self._new = {case: reason for case, reason in base.items() if isinstance(reason, str)}
        if not self._judged:
            raise GateError(
                f"no case can run in both: {self.cases[0].key} in the base: {base[self.cases[0]]}"
            )
        for case in (self.cases[number] for number in self._judged):
            before, after = base[case], candidate[case]
            if isinstance(before, CaseCounters) and isinstance(after, CaseCounters):
                self._counters[case] = before, after
        found = {case: tuple(changes_of(*counters)) for case, counters in self._counters.items()}
        return {case: changes for case, changes in found.items() if changes}

    def _causes(
        self, decisions: Mapping[str, Decision], phases: Mapping[Case, Mapping[str, tuple[float, float]]]
    ) -> dict[Case, tuple[Cause, ...]]:
        """Return what makes the slowest of the slower cases slower, by what both arms count and profile.

        Where only means over cases are slower, those of the cases that differ most.
        """
        if not any(decision.verdict == SLOWER for decision in decisions.values()):
            return {}
        ranked = sorted(phases, key=lambda case: -decisions[case.key].ratio)
        slower = [case for case in ranked if decisions[case.key].verdict == SLOWER]
        chosen = slower[:MOST_EXPLAINED] or ranked[:EXAMPLES]
        base, candidate = (self._arms.profiled(arm, chosen) for arm in (BASE, CANDIDATE))
        return {
            case: causes_of_slower(
                phases[case],
                self._counters.get(case, (None, None)),
                (base.get(case), candidate.get(case)),
            )
            for case in chosen
        }

    @contextmanager
    def _what_is_known_stays(self) -> Iterator[None]:
        """Have an arm that cannot be measured any more end the stage, and not the gate."""
        try:
            yield
        except GateError as error:
            self.cut_short = str(error)

    def _stage(self, name: str, numbers: Collection[int], pairs: int, found: Pairs) -> None:
        """Measure so many pairs of some cases; what is there stays when it is interrupted.

        The budget ends it before a pair that would exceed it. Which arm is slower has no part in that.
        """
        begin = self.now()
        for done in range(pairs):
            self._pair_s = (self.now() - begin) / done if done else 0.0
            if done >= FEWEST_PAIRS and self._left_s < self._pair_s:
                self.cut_short = (
                    f"the budget of {self.budget_s:.0f} s ended {name} after {done} of {pairs} pairs"
                )
                return
            self.progress(name, done, pairs, self._pair_s * (pairs - done) if done else None)
            for number, ratios in self._pair(numbers).items():
                found.setdefault(number, []).append(ratios)
        self._pair_s = (self.now() - begin) / pairs

    @property
    def _left_s(self) -> float:
        return self.budget_s - (self.now() - self._started)

    def _with_what_it_takes(
        self, decisions: Mapping[str, Decision], columns: Sequence[Column]
    ) -> dict[str, Decision]:
        """Return the decisions as they are told, and keep what would decide those that are left open."""
        left = [column for column in columns if decisions[column.name].verdict == UNDECIDED]
        if left and (needed := pairs_needed(left, self.rule, MOST_TOLD)) > len(left[0].low):
            self.wanted = needed, self._pair_s
        if not self.cut_short:
            return dict(decisions)
        return {
            name: replace(one, reason=f"{one.reason}; {self.cut_short}") if one.verdict == UNDECIDED else one
            for name, one in decisions.items()
        }

    def _pair(self, numbers: Collection[int]) -> dict[int, Ratios]:
        """Return what one pair showed; one in which an arm dies is void, whichever it is, and repeated."""
        for _ in range(MOST_VOID):
            paths = self.layout.paths(swapped=self.random.random() < 0.5)  # noqa: PLR2004 - a fair coin
            try:
                return ratios_of(self._pairing.measure(paths, sorted(numbers)))
            except ArmError as error:
                self.void.append(f"{ARMS[error.arm]}: {error}")
                self.parents.close()
                last = error
        what = last.case.key if last.case else "the worker"
        raise GateError(
            f"{what} cannot be measured in the {ARMS[last.arm]}: {last} ({MOST_VOID} times in a row)"
        )

    def _columns(self, found: Pairs) -> list[Column]:
        for n, ratios in found.items():  # by the first stage: the second judges the same columns
            self._judgeable.setdefault(n, judgeable(self.cases[n], ratios))
        measured = [
            CaseRatios(
                self.cases[n].key,
                self.cases[n].device,
                *(
                    {p: table[p] for p in self._judgeable[n]}
                    for table in (by_phase(ratios, 0), by_phase(ratios, 1))
                ),
            )
            for n, ratios in found.items()
        ]
        return [*case_columns(measured, self.rule), *group_columns(measured, self.rule)]

    def _left(self, decisions: Mapping[str, Decision]) -> list[int]:
        """Return the cases for the confirming stage: those left open, or all where a mean over them is."""
        open_names = {name for name, decision in decisions.items() if decision.verdict == UNDECIDED}
        keys = {number: self.cases[number].key for number in self._judged}
        if open_names - set(keys.values()):
            return list(keys)
        return [number for number, key in keys.items() if key in open_names]

    def _known(self, first: Pairs) -> dict[str, Decision]:
        """Return what an unfinished screening shows so far: nothing is decided by it."""
        if pairs_in(first) < FEWEST_PAIRS:
            return {}
        known = screen(self._columns(first), self.rule)
        reason = f"interrupted after {pairs_in(first)} of {self.rule.first_pairs} pairs"
        return {name: replace(one, verdict="undecided", reason=reason) for name, one in known.items()}

    def _planned(self, columns: Sequence[Column], cases: int) -> int:
        """Return the pairs of the confirming stage: what its columns need and the budget allows.

        Fixed before the first one, by what the screening showed alone.
        """
        per_pair = self._pair_s * cases / len(self._judged)
        affordable = int(self._left_s / per_pair) if per_pair else self.rule.most_pairs
        needed = pairs_needed(columns, self.rule, self.rule.most_pairs)
        return max(self.rule.second_pairs, min(needed, affordable))

    def _measured(self, *stages: Pairs) -> dict[Case, list[PairRecord]]:
        """Return what each pair showed of each case."""
        found: dict[Case, list[PairRecord]] = {}
        for stage, pairs in zip(get_args(Stage), stages, strict=True):
            for number, ratios in pairs.items():
                found.setdefault(self.cases[number], []).extend(_record(stage, one) for one in ratios)
        return found

    def _phases(self, *stages: Pairs) -> dict[Case, dict[str, tuple[float, float]]]:
        """Return by how many seconds each phase of each case differs, and what it takes in the base.

        By the pairs of its last stage alone: those of the screening may have been what it was picked by.
        """
        found = {}
        for number, case in enumerate(self.cases):
            if ratios := next(filter(None, (stage.get(number) for stage in reversed(stages))), None):
                base_s = np.median([one.base_s for one in ratios], axis=0)
                factor = np.exp(np.mean([one.low for one in ratios], axis=0))
                found[case] = {
                    phase: (float((factor[place] - 1) * base_s[place]), float(base_s[place]))
                    for place, phase in enumerate(MEASURED)
                }
        return found


def _record(stage: Stage, ratios: Ratios) -> PairRecord:
    low, mean = (dict(zip(MEASURED, kind.tolist(), strict=True)) for kind in (ratios.low, ratios.mean))
    low_ns, mean_ns = ratios.steps_ns.tolist()
    return PairRecord(stage, low, mean, low_ns, mean_ns)


def by_phase(ratios: Sequence[Ratios], kind: int) -> dict[str, Times]:
    """Return the log-ratios of low estimates (kind 0) or block means (1) by phase, each of shape [pairs]."""
    table = np.array([(one.low, one.mean)[kind] for one in ratios])
    return {phase: table[:, place] for place, phase in enumerate(MEASURED)}


def pairs_in(found: Pairs) -> int:
    """Return how many pairs were finished."""
    return min((len(ratios) for ratios in found.values()), default=0)


def cores() -> Sequence[int]:
    """Return the cores that this process may use; none where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
