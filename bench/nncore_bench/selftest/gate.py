"""The test of the gate on the user's own machine: equal code, and code of which one case is slower by 5 %.

Each run is a whole gate on a small grid, with the workers, coins and decisions of `nncore-bench gate`.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import product

from nncore_bench.campaign.conductor import Progress
from nncore_bench.gate.decide import DETECTION, Verdict
from nncore_bench.gate.gate import judged
from nncore_bench.gate.outcome import Outcome
from nncore_bench.gate.revisions import Layout, Revision
from nncore_bench.gate.rule import Rule
from nncore_bench.selftest.campaign import PLANTED_CASE
from nncore_bench.selftest.checks import Check, at_least, at_most
from nncore_bench.selftest.injected import Planted, lay_out_planted

SLOWER_BY = 0.05
FIVE_PERCENT = f"{100 * SLOWER_BY:.0f} %"
BASE, SAME_CODE, SLOWER_CODE = "base", "the same code", f"one case slower by {FIVE_PERCENT}"
CASES = tuple(replace(PLANTED_CASE, hidden=hidden) for hidden in (32, 128, 512))
SLOW_CASE = CASES[1]
BUDGET_S = 120.0
STAGES = 2


def run_once(candidate: str, progress: Progress) -> Outcome:
    """Return the outcome of one gate of a candidate against the base."""
    planted = Planted(share=SLOWER_BY, case=(int(SLOW_CASE.batch_size), int(SLOW_CASE.hidden)))
    lay_out = partial(lay_out_planted, {BASE: Planted(), SAME_CODE: Planted(), SLOWER_CODE: planted})
    with closing(Layout(lay_out, Revision(BASE, ""), Revision(candidate, ""))) as layout:
        return judged((BASE, candidate), CASES, layout, Rule(margin=SLOWER_BY), BUDGET_S, progress)


def selftest_gate(runs: int, progress: Progress) -> Iterator[str | Check]:
    """Yield a line for each gate, then the checks of all of them; after Ctrl-C of those that are finished."""
    found: dict[str, list[Outcome]] = {SAME_CODE: [], SLOWER_CODE: []}
    for number, candidate in product(range(1, runs + 1), found):
        outcome = run_once(candidate, progress)
        if outcome.interrupted:
            yield from checks(*found.values())
            raise KeyboardInterrupt
        found[candidate].append(outcome)
        yield f"{number} of {runs}, {candidate}: {_summary(outcome)}"
    yield from checks(*found.values())


def _summary(outcome: Outcome) -> str:
    named = ", ".join(decision.name for decision in outcome.of(Verdict.SLOWER))
    left = f", {len(outcome.of(Verdict.UNDECIDED))} undecided" if outcome.of(Verdict.UNDECIDED) else ""
    return f"{named or 'nothing'} slower{left} ({outcome.seconds:.0f} s)"


def checks(same: list[Outcome], slower: list[Outcome]) -> Iterator[Check]:
    """Yield how often the gate was right, with bounds, compared with its claims."""
    rule = Rule()
    alarms = sum(bool(outcome.of(Verdict.SLOWER)) for outcome in same)
    yield at_most("gate: false alarms", "gates on the same code", alarms, len(same), rule.alpha)
    found = [outcome.decisions[SLOW_CASE.key].verdict for outcome in slower]
    right, wrong = found.count(Verdict.SLOWER), found.count(Verdict.SAME)
    yield at_least(f"gate: +{FIVE_PERCENT} found", "gates", right, len(found), DETECTION)
    yield at_most(f"gate: +{FIVE_PERCENT} passed", "gates", wrong, len(found), STAGES * rule.alpha_pass / 2)
