"""The gate tested on the user's own machine: arms that are the same, and arms of which one is slower by 5 %.

Each run is a whole gate of a small grid, with the workers, coins and decisions of `nncore-bench gate`.
"""

from collections.abc import Iterator
from dataclasses import replace

from nncore_bench.campaign.conductor import Progress
from nncore_bench.gate.decide import DETECTION, Verdict
from nncore_bench.gate.gate import judged
from nncore_bench.gate.outcome import Outcome
from nncore_bench.gate.revisions import Layout, Revision
from nncore_bench.gate.rule import Rule
from nncore_bench.selftest.campaign import PLANTED_CASE
from nncore_bench.selftest.checks import Check, at_least, at_most
from nncore_bench.selftest.injected import Planted, PlantedCode

SLOWER_BY = 0.05
BASE, SAME_CODE, SLOWER_CODE = "base", "the same code", f"one case slower by {SLOWER_BY:.0%}"
CASES = tuple(replace(PLANTED_CASE, hidden=hidden) for hidden in (32, 128, 512))
SLOW_CASE = CASES[1]
BUDGET_S = 120.0
STAGES = 2


def run_once(arm: str, progress: Progress) -> Outcome:
    """Return the outcome of one gate of an arm against the base."""
    planted = Planted(share=SLOWER_BY, case=(int(SLOW_CASE.batch_size), int(SLOW_CASE.hidden)))
    code = PlantedCode({BASE: Planted(), SAME_CODE: Planted(), SLOWER_CODE: planted})
    with Layout(code, Revision(BASE, ""), Revision(arm, "")) as layout:
        return judged((BASE, arm), CASES, layout, Rule(margin=SLOWER_BY), BUDGET_S, progress)


def selftest_gate(runs: int, progress: Progress) -> Iterator[str | Check]:
    """Yield a line for each gate, and at the end what they say together; Ctrl-C says what is known so far."""
    same: list[Outcome] = []
    slower: list[Outcome] = []
    for number in range(1, runs + 1):
        for arm, kept in ((SAME_CODE, same), (SLOWER_CODE, slower)):
            outcome = run_once(arm, progress)
            if outcome.interrupted:
                yield from checks(same, slower)
                raise KeyboardInterrupt
            kept.append(outcome)
            yield f"{number} of {runs}, {arm}: {told(outcome)}"
    yield from checks(same, slower)


def told(outcome: Outcome) -> str:
    """Return what a gate found, in a line."""
    named = ", ".join(decision.name for decision in outcome.of(Verdict.SLOWER))
    left = f", {len(outcome.of(Verdict.UNDECIDED))} undecided" if outcome.of(Verdict.UNDECIDED) else ""
    return f"{named or 'nothing'} slower{left} ({outcome.seconds:.0f} s)"


def checks(same: list[Outcome], slower: list[Outcome]) -> Iterator[Check]:
    """Yield how often the gate was right, with bounds, and whether that is what it claims."""
    rule = Rule()
    alarms = sum(bool(outcome.of(Verdict.SLOWER)) for outcome in same)
    yield at_most("gate: false alarms", "gates on the same code", alarms, len(same), rule.alpha)
    found = [outcome.decisions[SLOW_CASE.key].verdict for outcome in slower]
    right, wrong = found.count(Verdict.SLOWER), found.count(Verdict.SAME)
    yield at_least(f"gate: +{SLOWER_BY:.0%} found", "gates", right, len(found), DETECTION)
    yield at_most(f"gate: +{SLOWER_BY:.0%} passed", "gates", wrong, len(found), STAGES * rule.alpha_pass / 2)
