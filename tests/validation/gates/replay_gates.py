"""Draw gates by the thousand from recorded pairs of equal code: what the rule does with this noise.

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
from typing import Any

import numpy as np
import pandas as pd
from arms import ONE_CASE
from gates import SAME
from judge_gates import JudgeError, joined, read_gates
from loudness import loudness_table

from nncore_bench.campaign.conductor import Progress
from nncore_bench.cases import STEP_PHASES, Case
from nncore_bench.gate.decide import Verdict
from nncore_bench.gate.outcome import Outcome
from nncore_bench.gate.ratios import STEP, PairRatios
from nncore_bench.gate.rule import SUITE, Rule
from nncore_bench.gate.sides import Counters
from nncore_bench.gate.stages import Gate
from nncore_bench.records import CaseProfile
from nncore_bench.selftest.checks import bounds

Recorded = Mapping[str, Mapping[str, Any]]
"""One launch pair: by the key of each case, what it showed."""

MEASURED = (STEP, *STEP_PHASES)


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


class Replayed:
    """Recorded pairs in the place of both sides; they count and explain nothing."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.cases = cases

    def counted(self, _side: int) -> Counters:
        return dict.fromkeys(self.cases)

    def profiled(self, _side: int, _cases: Sequence[Case]) -> dict[Case, CaseProfile]:
        return {}

    def close(self) -> None:
        pass


def replayed(shown: Mapping[str, Any], more: Mapping[str, float] | None = None) -> PairRatios:
    """Return what a recorded pair showed of a case, with `more` added to the logarithms by phase."""
    added = more or dict.fromkeys(MEASURED, 0.0)
    low, mean = ({name: shown[kind][name] + added[name] for name in MEASURED} for kind in ("low", "mean"))
    return PairRatios(low, mean, dict.fromkeys(MEASURED, 1.0), shown["low_ns"], shown["mean_ns"])


def run_gate(
    sides: Replayed, cases: Sequence[Case], rule: Rule, coins: random.Random, progress: Progress
) -> Outcome:
    """Return the outcome of a gate without a budget."""
    names = ("base", "candidate")
    return Gate(names, cases, rule, 1e9, progress, coins, sides).run()  # type: ignore[arg-type] # in their place


class Drawn(Replayed):
    """Pairs drawn from recorded ones."""

    def __init__(
        self, cases: Sequence[Case], recorded: Sequence[Recorded], effect: Effect, coins: random.Random
    ) -> None:
        super().__init__(cases)
        self.effect = effect
        self._count = len(recorded)
        self._deck = iter(coins.sample(list(recorded), len(recorded)))

    def pair(self, cases: Collection[Case]) -> dict[Case, PairRatios]:
        pair = next(self._deck, None)
        if pair is None:
            raise JudgeError(f"{self._count} recorded pairs are too few for a gate (give more series)")
        return {case: replayed(pair[case.key], self._added(case)) for case in cases}

    def _added(self, case: Case) -> dict[str, float]:
        here = self.effect.everywhere or (case.batch_size, case.hidden) == ONE_CASE
        return {name: self.effect.on(name) if here else 0.0 for name in MEASURED}


def drawn(recorded: Sequence[Recorded], effect: Effect, seed: int) -> Outcome:
    """Return the outcome of one gate."""
    rule = Rule(margin=effect.margin, suite_margin=min(Rule.suite_margin, effect.margin))
    cases, coins = [case_of(key) for key in recorded[0]], random.Random(seed)  # noqa: S311 - coins, and no secret
    return run_gate(Drawn(cases, recorded, effect, coins), cases, rule, coins, lambda *_: None)


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
        bool({one.name for one in o.of(Verdict.SLOWER)} - ({target} if effect.share else set()))
        for o in outcomes
    )
    return {
        "added": name,
        "found": bounds(verdicts.count(Verdict.SLOWER), len(outcomes)) if effect.share else "-",
        "false alarms": "-" if effect.everywhere else bounds(alarms, len(outcomes)),
        "passed": bounds(
            len(outcomes) - verdicts.count(Verdict.SLOWER) - verdicts.count(Verdict.UNDECIDED), len(outcomes)
        ),
        "with something undecided": bounds(
            sum(bool(o.of(Verdict.UNDECIDED)) for o in outcomes), len(outcomes)
        ),
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
