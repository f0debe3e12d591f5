"""Judge recorded gates by the rule as it is now: which of them it would decide as they were decided.

    python tests/validation/gates/rejudge_gates.py FILE.json.xz [FILE.json.xz...]

Each gate is the real one, with its stages, plan and test; it is handed the pairs that were recorded, in their
order. A gate stands if it asks for these and no others, and comes to the same verdicts: it is then a gate of
the present rule as well. What one that does not stand would have found was never measured.
"""

import argparse
import random
import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gates import GateSettings
from judge_gates import JudgeError, read_gates, verdicts
from replay_gates import Replayed, case_of, replayed, run_gate

from nncore_bench.cases import Case
from nncore_bench.gate.ratios import PairRatios
from nncore_bench.gate.rule import Rule
from nncore_bench.options import seconds

NEARLY_ALL = 0.9
"""The share of its budget from which on a gate may have had fewer pairs than it needed."""

STAGES = {"screening": 1, "confirming": 2}


class Again(Replayed):
    """The pairs of a record, in their order; it is told of each pair's stage by the gate's progress."""

    def __init__(self, measured: Mapping[str, list[dict[str, Any]]]) -> None:
        super().__init__([case_of(key) for key in measured])
        self._measured = measured

    def progress(self, name: str, done: int, of: int, _left_s: float | None) -> None:
        self._stage, self._done, self._of = name, done, of

    def pair(self, cases: Collection[Case]) -> dict[Case, PairRatios]:
        return {case: replayed(self._recorded(case)[self._done]) for case in cases}

    def _recorded(self, case: Case) -> list[dict[str, Any]]:
        stage = STAGES[self._stage]
        found = [one for one in self._measured[case.key] if one["stage"] == stage]
        if len(found) != self._of:
            raise JudgeError(
                f"{self._stage} {case.key} would take {self._of} pairs, and {len(found)} are recorded"
            )
        return found


def why_not(record: Mapping[str, Any]) -> str:
    """Return why the present rule would not decide a recorded gate as it was; nothing where it would."""
    again, rule = Again(record["measured"]), Rule(**record["rule"])
    if record["seconds"] > NEARLY_ALL * seconds("budget", GateSettings.budget):
        rule = replace(rule, most_pairs=record["pairs"][1])  # time allowed no more
    coins = random.Random(0)  # noqa: S311 - coins, and no secret
    try:
        decisions = run_gate(again, again.cases, rule, coins, again.progress).decisions
    except JudgeError as error:
        return str(error)
    before = verdicts(dict(record))
    changed = [name for name in before if before[name] != decisions[name].verdict]
    return "; ".join(f"{name} was {before[name]}, is {decisions[name].verdict}" for name in changed)


def main() -> None:
    """Print how many gates of each file stand, and a line for each that does not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("series", nargs="+", type=Path, help="a series of gates, in its folder or packed")
    given = parser.parse_args()
    for path in given.series:
        try:
            found = [why_not(record) for record in read_gates(path).records]
        except JudgeError as error:
            sys.exit(str(error))
        print(f"{path.name}: {found.count('')} of {len(found)} gates stand")  # noqa: T201 - the edge
        for number, reason in enumerate(found, 1):
            if reason:
                print(f"  gate {number}: {reason}")  # noqa: T201 - the edge


if __name__ == "__main__":
    main()
