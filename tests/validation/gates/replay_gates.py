"""Draw gates by the thousand from recorded pairs of equal arms: what the rule does with this noise.

    python tests/validation/gates/replay_gates.py [--gates 400] FILE.json.xz [FILE.json.xz...]

Each gate is the real one, with its stages, plan and test; only its pairs are drawn, without putting back,
from the screening pairs of series of the scenario `same`, as they were measured. What is planted is added to
their logarithms. Drawn gates share pairs: these are estimates of what real gates show, and no proof.
"""

import argparse
import random
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import log1p
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import pandas as pd
from arms import ONE_CASE
from gates import SAME
from judge_gates import JudgeError, joined, read_gates
from loudness import loudness_table

from nncore_bench.cases import STEP_PHASES, Case
from nncore_bench.compare.changes import Change
from nncore_bench.compare.explain import Cause
from nncore_bench.gate.gate import SUITE_MARGIN
from nncore_bench.gate.outcome import SLOWER, UNDECIDED, Outcome
from nncore_bench.gate.pairs import MEASURED, Ratios
from nncore_bench.gate.rule import SUITE, Rule
from nncore_bench.gate.signflip import Floats
from nncore_bench.gate.stages import Gate
from nncore_bench.selftest.checks import bounds

Recorded = Mapping[str, Mapping[str, Any]]
"""One launch pair: by the key of each case, what it showed."""


@dataclass(frozen=True)
class Effect:
    """Hold what is added to the candidate: a share of phases, in one case or in all, and the margin."""

    share: float
    margin: float = 0.05
    phases: tuple[str, ...] = STEP_PHASES
    everywhere: bool = False
    target: str = ""

    def on(self, measured: str) -> float:
        """Return what is added to a logarithm; the phases are taken to be equal parts of the step."""
        if measured == "step":
            return log1p(self.share * len(self.phases) / len(STEP_PHASES))
        return log1p(self.share) if measured in self.phases else 0.0


EFFECTS: Mapping[str, Effect] = {
    "nothing": Effect(0.0),
    "+5 % in one case": Effect(0.05),
    "+3 % in one case, margin 3 %": Effect(0.03, 0.03),
    "+2 % in one case, margin 2 %": Effect(0.02, 0.02),
    "+5 % in every backward": Effect(0.05, phases=("backward",), everywhere=True, target="backward"),
    "+1.5 % in every step": Effect(0.015, everywhere=True, target=SUITE),
}


class _Nothing:
    """Stand in for a layout and parents that are never asked for anything."""

    def close(self) -> None:
        pass

    def launch(self) -> None:
        pass


class Replayed(Gate):
    """A gate that measures nothing: it counts and explains nothing either."""

    @classmethod
    def of(cls, cases: Sequence[Case], rule: Rule, seed: int) -> Self:
        """Return a gate over some cases, without a budget."""
        coins = random.Random(seed)  # noqa: S311 - coins, and no secret
        nothing = cast("Any", _Nothing())
        return cls(("base", "candidate"), cases, nothing, rule, 1e9, lambda *_: None, coins, nothing)

    def _changes(self) -> dict[Case, tuple[Change, ...]]:
        return {}

    def _causes(self, *_: object) -> dict[Case, tuple[Cause, ...]]:
        return {}

    def ratios(self, shown: Mapping[str, Any], more: Floats | float = 0.0) -> Ratios:
        """Return what a recorded pair showed of a case, with so much added to each logarithm."""
        low, mean = (np.array([shown[kind][name] for name in MEASURED]) + more for kind in ("low", "mean"))
        return Ratios(low, mean, np.ones(len(MEASURED)), np.zeros((2, 1, 2)))


class Drawn(Replayed):
    """A gate whose pairs are drawn from recorded ones."""

    recorded: Sequence[Recorded]
    effect: Effect

    def _changes(self) -> dict[Case, tuple[Change, ...]]:
        self._deck = iter(self.random.sample(list(self.recorded), len(self.recorded)))
        return super()._changes()

    def _pair(self, numbers: Collection[int]) -> dict[int, Ratios]:
        pair = next(self._deck, None)
        if pair is None:
            raise JudgeError(f"{len(self.recorded)} recorded pairs are too few for a gate (give more series)")
        cases = {number: self.cases[number] for number in numbers}
        return {number: self.ratios(pair[case.key], self._added(case)) for number, case in cases.items()}

    def _added(self, case: Case) -> Floats:
        here = self.effect.everywhere or (case.batch_size, case.hidden) == ONE_CASE
        return np.array([self.effect.on(name) if here else 0.0 for name in MEASURED])


def drawn(recorded: Sequence[Recorded], effect: Effect, seed: int) -> Outcome:
    """Return the outcome of one gate."""
    rule = Rule(margin=effect.margin, suite_margin=min(SUITE_MARGIN, effect.margin))
    gate = Drawn.of([case_of(key) for key in recorded[0]], rule, seed)
    gate.recorded, gate.effect = recorded, effect
    return gate.run()


def case_of(key: str) -> Case:
    """Return the case that a key such as cpu-t1-float32-eager-b32-h128 names."""
    device, threads, precision, variant, batch, hidden = key.split("-")
    return Case(
        "simplenn", "digits", device, int(threads[1:]), precision, variant, int(batch[1:]), int(hidden[1:])
    )


def pairs_of(records: Sequence[Mapping[str, Any]]) -> list[Recorded]:
    """Return the screening pairs of gates, each with all of its cases."""
    found: list[Recorded] = []
    for record in records:
        by_case = {key: [p for p in pairs if p["stage"] == 1] for key, pairs in record["measured"].items()}
        found += [dict(zip(by_case, pair, strict=True)) for pair in zip(*by_case.values(), strict=True)]
    return found


def line(name: str, effect: Effect, outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Return a line of the table."""
    key = next(case.key for case in outcomes[0].cases if (case.batch_size, case.hidden) == ONE_CASE)
    target = effect.target or key
    verdicts = [outcome.decisions[target].verdict for outcome in outcomes]
    alarms = sum(
        bool({one.name for one in o.of(SLOWER)} - ({target} if effect.share else set())) for o in outcomes
    )
    return {
        "added": name,
        "found": bounds(verdicts.count(SLOWER), len(outcomes)) if effect.share else "-",
        "false alarms": "-" if effect.everywhere else bounds(alarms, len(outcomes)),
        "passed": bounds(len(outcomes) - verdicts.count(SLOWER) - verdicts.count(UNDECIDED), len(outcomes)),
        "with something undecided": bounds(sum(bool(o.of(UNDECIDED)) for o in outcomes), len(outcomes)),
        "confirming pairs, median": f"{np.median([outcome.pairs[1] for outcome in outcomes]):.0f}",
    }


def main() -> None:
    """Print a table for each load."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("series", nargs="+", type=Path, help="series of the scenario same")
    parser.add_argument("--gates", type=int, default=400, help="gates to draw of each kind")
    given = parser.parse_args()
    try:
        series = [
            gates
            for gates in joined([read_gates(path) for path in given.series], pooled=True)
            if gates.scenario == SAME
        ]
    except JudgeError as error:
        sys.exit(str(error))
    for gates in series:
        recorded = pairs_of(gates.records)
        try:
            lines = [
                line(name, effect, [drawn(recorded, effect, seed) for seed in range(given.gates)])
                for name, effect in EFFECTS.items()
            ]
        except JudgeError as error:
            sys.exit(f"load {gates.load}: {error}")
        table = pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)
        title = f"Load {gates.load}: gates drawn from {len(recorded)} recorded pairs"
        print(f"{title}\n\n{table}\n\n{loudness_table([({}, gates.loudness)])}\n")  # noqa: T201 - the edge


if __name__ == "__main__":
    main()
