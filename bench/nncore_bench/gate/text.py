"""What a gate found, for the terminal, for a job summary, and as data."""

from dataclasses import asdict, replace
from math import ceil
from shlex import join
from typing import Any

import pandas as pd

from nncore_bench.cases import STEP_PHASES, Case
from nncore_bench.compare.explain import Cause
from nncore_bench.estimate.estimates import Estimate
from nncore_bench.gate.decide import Decision, Ground, Verdict
from nncore_bench.gate.outcome import Outcome
from nncore_bench.gate.rule import Rule
from nncore_bench.text.format import (
    MICROSECONDS,
    NOT_AVAILABLE,
    decimals,
    from_to,
    number,
    percentage,
    signed,
)
from nncore_bench.text.table import Table, fitting

PHASES_TOLD = 3
CAUSES_TOLD = 3
CAPTION = (
    "ratio: undisturbed times, candidate over base, with the interval that proves same. slower: adjusted p"
    " of all columns at most {alpha} %, and at least half the margin, undisturbed or in the mean of blocks"
    " (tail changed). same, faster: proven to be slower by no more than the margin, the suite by no more than"
    " {suite} %, and in the mean of blocks by no more than {mean} %, and not looking slower by half of that."
    " detects: the smallest slowdown that nine"
    " runs in ten would find. A phase, a device and the suite are means over cases."
)

TAIL_CHANGED = "tail changed"
"""How the reason begins where the block mean tells what the undisturbed time does not."""

HALF, ABOVE = "at least half the margin of", "above the margin of"
TAIL = f"{TAIL_CHANGED}: block means"
REASONS = {
    Ground.SLOWER: f"{{low}}, {HALF} {{margin}}, with p {{p}}",
    Ground.TAIL_SLOWER: f"{TAIL} {{mean}}, {HALF} {{mean_margin}}, with p {{mean_p}}",
    Ground.LOOKS_SLOWER: f"look {{low}}, {HALF} {{margin}}{{so_far}}",
    Ground.MAY_BE_SLOWER: f"may be {{high}}, {ABOVE} {{margin}}{{so_far}}",
    Ground.TAIL_LOOKS_SLOWER: f"{TAIL} look {{mean}}, {HALF} {{mean_margin}}, low estimates pass",
    Ground.TAIL_MAY_BE_SLOWER: f"{TAIL} may be {{mean_high}}, {ABOVE} {{mean_margin}}, low estimates pass",
    Ground.FASTER: "{low}, at most {high}",
    Ground.SAME: "at most {high}, block means {mean_high}, with a margin of {margins}",
    Ground.INTERRUPTED: "interrupted after {pairs} of {planned} pairs",
}


def gate_text(outcome: Outcome) -> str:
    """Return what a gate prints: verdict, changes, table, what slower cases come from, and the account."""
    return "\n".join([headline(outcome), "", *change_lines(outcome), verdict_table(outcome).markdown(),
                      *explanations(outcome), account(outcome)])  # fmt: skip


def gate_summary(outcome: Outcome) -> str:
    """Return the same for a job summary, at most 60 kB: rows that are the same are left out first."""
    kept = {name: d for name, d in outcome.decisions.items() if d.verdict != Verdict.SAME}
    shorter = f"{gate_text(replace(outcome, decisions=kept))}\n(rows that are the same are left out)\n"
    return fitting([f"{gate_text(outcome)}\n", shorter])


def gate_record(outcome: Outcome) -> dict[str, Any]:
    """Return a gate's outcome as plain values for a JSON file."""
    return {
        "base": outcome.base,
        "candidate": outcome.candidate,
        "rule": asdict(outcome.rule),
        "new": {case.key: reason for case, reason in outcome.new.items()},
        "verdicts": {verdict: len(outcome.of(verdict)) for verdict in Verdict},
        "decisions": decision_records(outcome),
        "changes": {case.key: [{**asdict(one), "operators": sorted(one.operators)} for one in changes]
                    for case, changes in outcome.changes.items()},
        "phases": {case.key: {phase: {"difference_s": d, "base_s": b} for phase, (d, b) in phases.items()}
                   for case, phases in outcome.phases.items()},
        "causes": {case.key: [asdict(cause) for cause in causes] for case, causes in outcome.causes.items()},
        "seconds": outcome.seconds,
        "pairs": outcome.pairs,
        "void_pairs": outcome.discarded,
        "measured": {case.key: [{"stage": stage, **asdict(pair)}
                                for stage, pairs in enumerate(stages, 1) for pair in pairs]
                     for case, stages in outcome.measured.items()},
        "interrupted": outcome.interrupted,
    }  # fmt: skip


def decision_records(outcome: Outcome) -> list[dict[str, Any]]:
    """Return the decisions as plain values, each with its reason in words."""
    return [{**asdict(one), "reason": reason_of(one, outcome)} for one in outcome.ranked]


def reason_of(decision: Decision, outcome: Outcome) -> str:
    """Return why a column has its verdict, and what ended the stage early where it is undecided."""
    reason = reason_by(decision, outcome.rule)
    cut_short = outcome.cut_short and decision.verdict == Verdict.UNDECIDED
    return f"{reason}; {outcome.cut_short}" if cut_short else reason


def reason_by(decision: Decision, rule: Rule) -> str:
    """Return why a column has its verdict by a rule."""
    margin, mean_margin = (
        f"{decimals(100 * one, 1)} %" for one in (rule.margin_of(decision.kind), rule.mean_margin)
    )
    low, so_far = _change(decision.ratio), ""
    if decision.p is not None:
        so_far = f"; {low} on average, with p {decimals(decision.p, 4)}"
    return REASONS[decision.ground].format(
        low=low, high=_change(decision.high), mean=_change(decision.mean_ratio),
        mean_high=_change(decision.mean_ratio_high), margin=margin, mean_margin=mean_margin,
        margins=margin if margin == mean_margin else f"{margin} ({mean_margin})",
        p=decimals(decision.p, 4), mean_p=decimals(decision.mean_p, 4), so_far=so_far,
        pairs=decision.pairs, planned=rule.first_pairs,
    )  # fmt: skip


def _change(ratio: float) -> str:
    return f"{signed(100 * (ratio - 1), 1)} %"


def headline(outcome: Outcome) -> str:
    """Return the verdict in one line."""
    counts = ", ".join(f"{len(outcome.of(v))} {v}" for v in Verdict if outcome.of(v))
    proven = outcome.verdict in {Verdict.FASTER, Verdict.SAME}
    verdict = "not slower" if proven else outcome.verdict
    if outcome.interrupted:
        verdict = "interrupted, so undecided"
    margin = percentage(outcome.rule.margin)
    revisions = f"{outcome.candidate} against {outcome.base}"
    return f"# Gate: {revisions}: {verdict} (margin {margin} %: {counts or 'nothing'})"


def change_lines(outcome: Outcome) -> list[str]:
    """Return the exact changes, equal ones of several cases as one; the same on every machine."""
    groups: dict[str, list[Case]] = {}
    for case, changes in outcome.changes.items():
        for change in changes:
            meaning = f" ({change.meaning})" if change.meaning else ""
            groups.setdefault(f"{change.phase}: {change.what} {change.change}{meaning}", []).append(case)
    counted = [f"- counted: {words} [{_cases(cases, outcome)}]" for words, cases in groups.items()]
    return [
        *counted,
        *(
            f"- new: {case.key} cannot run in the base, and is not judged: {reason}"
            for case, reason in outcome.new.items()
        ),
    ]


def _cases(cases: list[Case], outcome: Outcome) -> str:
    if len(cases) == len(outcome.cases):
        return "every case"
    return cases[0].key + (f" and {len(cases) - 1} more" if len(cases) > 1 else "")


def verdict_table(outcome: Outcome) -> Table:
    """Return a line for each case, phase, device and the suite: what is slower first."""
    base_s = {case.key: phases["step"][1] for case, phases in outcome.phases.items()}
    lines = [
        {
            "verdict": decision.verdict,
            "of": decision.kind,
            "name": decision.name,
            "base µs": _micro(base_s.get(decision.name)),
            "ratio": from_to(Estimate(decision.ratio, decision.low, decision.high)),
            "detects %": percentage(decision.detectable),
            "pairs": str(decision.pairs),
            "why": reason_of(decision, outcome),
        }
        for decision in outcome.ranked
    ]
    raw = pd.DataFrame(decision_records(outcome))
    caption = CAPTION.format(
        alpha=percentage(outcome.rule.alpha),
        suite=percentage(outcome.rule.suite_margin),
        mean=percentage(outcome.rule.mean_margin),
    )
    shown = pd.DataFrame(
        lines, columns=["verdict", "of", "name", "base µs", "ratio", "detects %", "pairs", "why"]
    )
    return Table("gate", "Verdicts", caption, shown, raw)


def _micro(seconds: float | None) -> str:
    return NOT_AVAILABLE if seconds is None else number(seconds / MICROSECONDS.seconds)


def explanations(outcome: Outcome) -> list[str]:
    """Return for each slower case its phases, what was counted there, and how to see it again.

    Where only means over cases are slower, for the cases that were profiled instead.
    """
    slower = {one.name for one in outcome.of(Verdict.SLOWER)}
    if cases := [case for case in outcome.cases if case.key in slower]:
        return [_explained(outcome, case, "is", ("--cases", case.key)) for case in cases]
    return [_explained(outcome, case, "may be", ()) for case in outcome.causes]


def _explained(outcome: Outcome, case: Case, verb: str, alone: tuple[str, ...]) -> str:
    phases = outcome.phases[case]
    whole = phases["step"][0]
    ranked = sorted(STEP_PHASES, key=lambda phase: -phases[phase][0])[:PHASES_TOLD]
    told = ", ".join(
        f"{phase} {decimals(phases[phase][0] / MICROSECONDS.seconds, 1)} of {_micro(phases[phase][1])}"
        for phase in ranked
    )
    causes = "; ".join(_cause(cause) for cause in outcome.causes.get(case, ())[:CAUSES_TOLD])
    because = f". Because: {causes}" if causes else ""
    again = f"nncore-bench {join([*outcome.again, *alone])}"
    return f"- {case.key} {verb} slower by {_micro(whole)} µs: {told}{because}. Again: `{again}`"


def _cause(cause: Cause) -> str:
    meaning = f" ({cause.meaning})" if cause.meaning else ""
    cost = "" if cause.seconds is None else f" {cause.seconds / MICROSECONDS.seconds:+,.1f} µs"
    return f"{cause.phase} {cause.what} {cause.change}{meaning}{cost}"


def account(outcome: Outcome) -> str:
    """Return what it took, in one line."""
    first, second = outcome.pairs
    gone = outcome.discarded
    void = f", {len(gone)} void and measured again ({gone[-1]})" if gone else ""
    return (
        f"\n{len(outcome.cases)} cases, {first} screening and {second} confirming pairs{void},"
        f" {outcome.seconds:.0f} s{what_it_takes(outcome)}"
    )


def what_it_takes(outcome: Outcome) -> str:
    """Return what would decide what is left undecided, as a line after the account."""
    if outcome.wanted is None:
        return ""
    pairs, pair_s = outcome.wanted
    most, minutes = outcome.rule.most_pairs, ceil((outcome.seconds + pairs * pair_s) / 60)
    limit = f"a gate takes {most} at most" if pairs > most else f"--budget={minutes}m"
    return (
        f"\nWith this noise, what is undecided asks for some {pairs} confirming pairs ({limit}); a quieter"
        " machine, fewer cases (--cases) or a wider --margin ask for less"
    )
