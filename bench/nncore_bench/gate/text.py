"""A gate's outcome as text for the terminal and for a job summary, and as data."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from operator import itemgetter
from shlex import join
from typing import Any

from nncore_bench.cases import Case, parts_in
from nncore_bench.compare.changes import Change
from nncore_bench.compare.explain import Cause
from nncore_bench.estimate.estimates import Estimate
from nncore_bench.gate.decide import Decision, Ground, Verdict
from nncore_bench.gate.outcome import Outcome
from nncore_bench.gate.rule import LOUD_TAIL_MARGIN, Rule
from nncore_bench.text.format import MICROSECONDS, decimals, first_of, from_to, micro, percentage, signed
from nncore_bench.text.table import Column, Table, fitting

MOST_PHASES = 3
MOST_CAUSES = 3
CAPTION = (
    "ratio: undisturbed times, candidate over base, with the interval that proves same. slower: adjusted p"
    " of all columns at most {alpha} %, and at least half the margin, undisturbed or in the mean of blocks"
    " (tail changed). same, faster: proven to be slower by no more than the margin, the suite by no more than"
    " {suite} %, and in the mean of blocks by no more than {mean} % (up to {loud} % where a"
    " loud machine lengthens both sides), and not looking slower by half of that."
    " detects: the smallest slowdown that nine"
    " runs in ten would find. A phase, a device and the suite are means over cases."
)

TAIL_CHANGED = "tail changed"
"""The beginning of a reason if only the block mean shows the difference."""

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
    """Return the printed outcome: verdict, changes, table, causes of slower cases, and the effort."""
    return "\n".join([headline(outcome), "", *change_lines(outcome), verdict_table(outcome).markdown(),
                      *explanations(outcome), account(outcome)])  # fmt: skip


def gate_summary(outcome: Outcome) -> str:
    """Return the text for a job summary, at most 60 kB: rows that are the same are left out first."""
    kept = {name: d for name, d in outcome.decisions.items() if d.verdict != Verdict.SAME}
    shorter = f"{gate_text(replace(outcome, decisions=kept))}\n(rows that are the same are left out)\n"
    return fitting([f"{gate_text(outcome)}\n", shorter])


def gate_record(outcome: Outcome) -> dict[str, Any]:
    """Return a gate's outcome as plain values for a JSON file."""
    causes = {case.key: [asdict(cause) for cause in causes] for case, causes in outcome.causes.items()}
    return {
        "verdict": outcome.verdict,
        "cause": next(({"case": case, **found[0]} for case, found in causes.items() if found), None),
        "next": next_command(outcome),
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
        "causes": causes,
        "seconds": outcome.seconds,
        "pairs": outcome.pairs,
        "void_pairs": outcome.discarded,
        "measured": {case.key: [{"stage": stage, **asdict(pair)}
                                for stage, pairs in enumerate(stages, 1) for pair in pairs]
                     for case, stages in outcome.measured.items()},
        "interrupted": outcome.interrupted,
    }  # fmt: skip


def next_command(outcome: Outcome) -> str | None:
    """Return the command that measures the slowest case again, or decides the undecided columns, or None.

    The latter takes the undecided cases, or all of them if a mean over cases is undecided.
    """
    worst = [one for one in outcome.ranked if one.verdict == outcome.verdict]
    cases = [one.name for one in worst if one.kind == "case"]
    if outcome.verdict == Verdict.SLOWER:
        return _again(outcome, cases[:1])
    if outcome.verdict != Verdict.UNDECIDED or outcome.enough_minutes is None:
        return None
    left = cases if len(cases) == len(worst) else [case.key for case in outcome.cases]
    return _again(outcome, left, f"--budget={outcome.enough_minutes}m")


def _again(outcome: Outcome, cases: Sequence[str], *more: str) -> str:
    alone = ("--cases", " or ".join(cases)) if cases else ()
    return f"nncore-bench {join([*outcome.again, *more, *alone])}"


def decision_records(outcome: Outcome) -> list[dict[str, Any]]:
    """Return the decisions as plain values with their reasons; an undecided one says why it ended early."""
    also = {Verdict.UNDECIDED: f"; {outcome.cut_short}"} if outcome.cut_short else {}
    return [
        {**asdict(one), "reason": reason_of(one, outcome.rule) + also.get(one.verdict, "")}
        for one in outcome.ranked
    ]


def reason_of(decision: Decision, rule: Rule) -> str:
    """Return the reason of a verdict."""
    margin, mean_margin = (
        f"{decimals(100 * one, 1)} %" for one in (rule.margin_of(decision.kind), decision.mean_margin)
    )
    low, p = _percent(decision.ratio), decimals(decision.p, 4)
    return REASONS[decision.ground].format(
        low=low, high=_percent(decision.high), mean=_percent(decision.mean_ratio),
        mean_high=_percent(decision.mean_ratio_high), margin=margin, mean_margin=mean_margin,
        margins=margin if margin == mean_margin else f"{margin} ({mean_margin})",
        p=p, mean_p=decimals(decision.mean_p, 4),
        so_far="" if decision.p is None else f"; {low} on average, with p {p}",
        pairs=decision.pairs, planned=rule.first_pairs,
    )  # fmt: skip


def _percent(ratio: float) -> str:
    return f"{signed(100 * (ratio - 1), 1)} %"


def headline(outcome: Outcome) -> str:
    """Return the verdict in one line."""
    counts = ", ".join(f"{len(outcome.of(v))} {v}" for v in Verdict if outcome.of(v))
    passed = outcome.verdict in {Verdict.FASTER, Verdict.SAME}
    verdict = "interrupted, so undecided" if outcome.interrupted else outcome.verdict
    revisions = f"{outcome.candidate} against {outcome.base}: {'not slower' if passed else verdict}"
    return f"# Gate: {revisions} (margin {percentage(outcome.rule.margin)} %: {counts or 'nothing'})"


def change_lines(outcome: Outcome) -> list[str]:
    """Return the counted changes, one line for all cases that share it; the same on every machine."""
    groups: dict[str, list[str]] = {}
    for case, changes in outcome.changes.items():
        for change in changes:
            groups.setdefault(f"{change.phase}: {_change(change)}", []).append(case.key)
    counted = [
        f"- counted: {words} [{'every case' if len(keys) == len(outcome.cases) else first_of(keys, 1)}]"
        for words, keys in groups.items()
    ]
    cannot = "cannot run in the base, and is not judged"
    return counted + [f"- new: {case.key} {cannot}: {reason}" for case, reason in outcome.new.items()]


def _change(one: Change | Cause) -> str:
    return f"{one.what} {one.change}" + (f" ({one.meaning})" if one.meaning else "")


def verdict_table(outcome: Outcome) -> Table:
    """Return the table of cases, phases, devices and the suite, slower ones first."""
    base_s = {case.key: phases["step"][1] for case, phases in outcome.phases.items()}
    columns = [
        Column("verdict", "", itemgetter("verdict"), words=True),
        Column("of", "", itemgetter("kind"), words=True),
        Column("name", "", itemgetter("name"), words=True),
        Column("base µs", "", lambda one: base_s.get(one["name"]), micro),
        Column("ratio", "", lambda one: Estimate(one["ratio"], one["low"], one["high"]), from_to),
        Column("detects %", "", itemgetter("detectable"), percentage),
        Column("pairs", "", itemgetter("pairs")),
        Column("why", "", itemgetter("reason"), words=True),
    ]
    rule = outcome.rule
    alpha, suite, mean = map(percentage, (rule.alpha, rule.suite_margin, rule.mean_margin()))
    caption = CAPTION.format(alpha=alpha, suite=suite, mean=mean, loud=percentage(LOUD_TAIL_MARGIN))
    return Table.of("gate", "Verdicts", caption, columns, decision_records(outcome))


def explanations(outcome: Outcome) -> list[str]:
    """Return the phases and causes of each slower case, and the command that measures it again.

    If only means over cases are slower, the profiled cases take their place.
    """
    slower = {one.name for one in outcome.of(Verdict.SLOWER)}
    if cases := [case for case in outcome.cases if case.key in slower]:
        return [_explained(outcome, case, "is", [case.key]) for case in cases]
    return [_explained(outcome, case, "may be", []) for case in outcome.causes]


def _explained(outcome: Outcome, case: Case, verb: str, alone: Sequence[str]) -> str:
    phases = outcome.phases[case]
    ranked = sorted(parts_in(phases), key=lambda phase: -phases[phase][0])[:MOST_PHASES]
    parts = ", ".join(
        f"{phase} {decimals(phases[phase][0] / MICROSECONDS.seconds, 1)} of {micro(phases[phase][1])}"
        for phase in ranked
    )
    causes = "; ".join(_cause(cause) for cause in outcome.causes.get(case, ())[:MOST_CAUSES])
    because = f". Because: {causes}" if causes else ""
    again = f"Again: `{_again(outcome, alone)}`"
    return f"- {case.key} {verb} slower by {micro(phases['step'][0])} µs: {parts}{because}. {again}"


def _cause(cause: Cause) -> str:
    cost = "" if cause.seconds is None else f" {signed(cause.seconds / MICROSECONDS.seconds, 1)} µs"
    return f"{cause.phase} {_change(cause)}{cost}"


def account(outcome: Outcome) -> str:
    """Return how many cases and pairs were measured in how long, and what would decide the undecided."""
    first, second = outcome.pairs
    gone = outcome.discarded
    void = f", {len(gone)} void and measured again ({gone[-1]})" if gone else ""
    effort = (
        f"\n{len(outcome.cases)} cases, {first} screening and {second} confirming pairs{void},"
        f" {outcome.seconds:.0f} s"
    )
    if outcome.wanted is None:
        return effort
    minutes = outcome.enough_minutes
    limit = f"--budget={minutes}m" if minutes else f"a gate takes {outcome.rule.most_pairs} at most"
    return (
        f"{effort}\nWith this noise, what is undecided asks for some {outcome.wanted[0]} confirming pairs"
        f" ({limit}); a quieter machine, fewer cases (--cases) or a wider --margin ask for less"
    )
