"""Judge recorded gates by the rule as it is now: which of them it would decide as they were decided.

    python tests/validation/gates/rejudge_gates.py FILE.json.xz [FILE.json.xz...]

Each gate is the real one, with its stages, plan and test; it is handed the pairs that were recorded, in their
order. A gate stands if it asks for these and no others, and comes to the same verdicts: it is then a gate of
the present rule as well. What one that does not stand would have found was never measured.
"""

import argparse
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from gates import GateSettings
from judge_gates import JudgeError, read_gates, verdicts
from replay_gates import Replayed, case_of

from nncore_bench.gate.columns import Column
from nncore_bench.gate.decide import pairs_needed
from nncore_bench.gate.pairs import Ratios
from nncore_bench.gate.rule import Rule
from nncore_bench.gate.stages import Pairs
from nncore_bench.options import seconds

NEARLY_ALL = 0.9
"""The share of its budget from which on a gate may have had fewer pairs than it needed."""

STAGES = {"screening": 1, "confirming": 2}


class Again(Replayed):
    """A gate whose pairs are those of a record."""

    measured: Mapping[str, list[dict[str, Any]]]
    affordable: int = Rule.most_pairs

    def _stage(self, name: str, numbers: Collection[int], pairs: int, found: Pairs) -> None:
        recorded = {
            number: [one for one in self.measured[self.cases[number].key] if one["stage"] == STAGES[name]]
            for number in numbers
        }
        for number, ones in recorded.items():
            if len(ones) != pairs:
                key = self.cases[number].key
                raise JudgeError(f"{name} {key} would take {pairs} pairs, and {len(ones)} are recorded")
        self._deck = {number: iter(ones) for number, ones in recorded.items()}
        super()._stage(name, numbers, pairs, found)

    def _pair(self, numbers: Collection[int]) -> dict[int, Ratios]:
        return {number: self.ratios(next(self._deck[number])) for number in numbers}

    def _planned(self, columns: Collection[Column], _cases: int) -> int:
        """Return the pairs that are needed, or those that were recorded where time allowed no more."""
        needed = max(pairs_needed(list(columns), self.rule, self.rule.most_pairs), self.rule.second_pairs)
        return min(needed, self.affordable)


def why_not(record: Mapping[str, Any]) -> str:
    """Return why the present rule would not decide a recorded gate as it was; nothing where it would."""
    cases = [case_of(key) for key in record["measured"]]
    gate = Again.of(cases, Rule(**record["rule"]), 0)
    gate.measured = record["measured"]
    if record["seconds"] > NEARLY_ALL * seconds("budget", GateSettings.budget):
        gate.affordable = record["pairs"][1]
    try:
        now = {name: decision.verdict for name, decision in gate.run().decisions.items()}
    except JudgeError as error:
        return str(error)
    before = verdicts(dict(record))
    changed = [name for name in before if before[name] != now[name]]
    return "; ".join(f"{name} was {before[name]}, is {now[name]}" for name in changed)


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
