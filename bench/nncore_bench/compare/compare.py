"""Two runs compared case by case: how far they are apart, and why. A screen, never a verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from nncore_bench.cases import Case
from nncore_bench.compare.changes import WHOLE_CASE
from nncore_bench.compare.explain import (
    EXPLAINED,
    JUDGED,
    MARGIN,
    NOT_COMPARABLE,
    SUSPECT,
    Cause,
    Compared,
    Side,
    compared,
)
from nncore_bench.compare.side_by_side import compared_line, heading, machines_line
from nncore_bench.estimate.cells import cells_of
from nncore_bench.estimate.drift import drift_free_ratios
from nncore_bench.estimate.profiles import profile_of
from nncore_bench.estimate.source import Source
from nncore_bench.machine.fingerprint import differences
from nncore_bench.runs import Run, replace_file
from nncore_bench.text.format import (
    MICROSECONDS,
    NOT_AVAILABLE,
    first_of,
    from_to,
    micro,
    percentage,
    signed,
    span,
)
from nncore_bench.text.frame import case_columns, shared_by, shown_columns
from nncore_bench.text.table import Column, Table, only_in_files, write_files

CAUSES_ON_SCREEN = 4
CASES_NAMED = 5
VERDICTS = (
    "B/A: undisturbed time in B over that in A with its 95 % interval, the machine's drift taken out where"
    " both runs have references. suspect: surely longer, and by {margin} % or more in the step, or twice that"
    " in what is named. The runs were made at different times, so this is a screen and not a verdict."
)
WHY = (
    "What changed, by what it costs, exact changes (calls, types, shapes, counters) before estimates of less"
    " than ten times their cost. µs: its part of the difference where profiles tell it, an estimate from some"
    " profiled steps. In braces: in how many cases."
)


@dataclass(frozen=True)
class Comparison:
    """Two runs compared: who they are, a result for each common case, and which cases had no partner."""

    base: Run
    candidate: Run
    results: tuple[Compared, ...]
    new: tuple[Case, ...]
    missing: tuple[Case, ...]
    margin: float
    same_machine: bool
    timed: tuple[int, int]
    """How many cases have times in either run."""

    @property
    def suspects(self) -> list[Compared]:
        """Return the cases that are suspected to be slower."""
        return [result for result in self.results if result.outcome == SUSPECT]

    @property
    def tables(self) -> list[Table]:
        """Return the table of ratios and, where something changed, that of causes."""
        return [table for table in (ratio_table(self), why_table(self.results)) if table is not None]

    @property
    def text(self) -> str:
        """Return the whole text that is printed and written to compare.md."""
        lines = [
            *heading(self.base, self.candidate),
            *(table.markdown() for table in self.tables),
            *self.remarks,
        ]
        return "\n".join(lines)

    @property
    def remarks(self) -> list[str]:
        """Return what is said beside the tables: what else differs, what is unexplained, and the count."""
        return [
            *machines_line(self.base, self.candidate),
            *setting_lines(self.base, self.candidate),
            *unexplained_lines(self.results),
            *without_evidence(self.base, self.candidate, self.timed),
            *_partners("new in B", self.new),
            *_partners("missing from B", self.missing),
            summary(self),
        ]


def compare_cases(base: Source, candidate: Source, margin: float = MARGIN) -> Comparison:
    """Compare two runs case by case."""
    same_machine = not differences(base.run.machine, candidate.run.machine)
    a, b = (_sides(source) for source in (base, candidate))
    freed = drift_free_ratios(base.rows, candidate.rows) if same_machine else {}
    common = [case for case in a if case in b]
    return Comparison(
        base.run,
        candidate.run,
        tuple(
            compared(case, a[case], b[case], freed.get(case, {}), same_machine=same_machine, margin=margin)
            for case in common
        ),
        tuple(case for case in b if case not in a),
        tuple(case for case in a if case not in b),
        margin,
        same_machine,
        (len(a), len(b)),
    )


def screen_lines(comparison: Comparison) -> list[str]:
    """Return what follows from a comparison with a stored run: that suspicion is no verdict, and what is."""
    if not comparison.suspects:
        return []
    base = comparison.base.code.commit or "REV"
    cases = " or ".join(result.case.key for result in comparison.suspects)
    return [
        "",
        "Suspect is no verdict, since the runs are of different times. One comes from measuring both now:",
        f"nncore-bench gate --base {base[:12]} --cases '{cases}'",
    ]


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write what is printed to `compare.md`, and its tables as Markdown and as CSV."""
    write_files(folder, comparison.tables)
    replace_file(folder / "compare.md", f"{comparison.text}\n".encode())


def _sides(source: Source) -> dict[Case, Side]:
    """Return what a run knows of each case of which it has a time or a counter."""
    records = {record.case: record for record in source.run.cases}
    return {
        case: Side(times, records[case].counters, profile_of(source.run.profiles, case))
        for case, row_of in cells_of(source.rows).items()
        if (times := {name: row.time for name, row in row_of.items() if row.time and row.time.value})
    }


def ratio_table(comparison: Comparison) -> Table | None:
    """Return a line for every case that both runs timed; None where there is none."""
    if not comparison.results:
        return None
    cases = [result.case for result in comparison.results]
    columns = [
        *case_columns(shown_columns(cases)),
        Column("A step µs", "base_s", lambda result: result.steps_s[0], micro),
        Column("B step µs", "candidate_s", lambda result: result.steps_s[1], micro),
        *(_ratio(phase, shown=phase in _shown(comparison.results)) for phase in JUDGED),
        Column("outcome", "", _outcome, words=True),
        *only_in_files(["outcome"]),
        Column("", "suspects", lambda result: " ".join(result.suspects)),
        Column("", "difference_s", lambda result: sum(result.differences_s.values())),
        Column("", "unexplained_s", lambda result: sum(result.unexplained_s.values())),
    ]
    title = f"Two runs ({shared_by(cases)})"
    caption = VERDICTS.format(margin=percentage(comparison.margin))
    return Table.of("compared", title, caption, columns, comparison.results)


def _shown(results: Sequence[Compared]) -> list[str]:
    """Return what has a column on the screen: the step, and what else is suspected somewhere."""
    suspected = {phase for result in results for phase in result.suspects}
    return [phase for phase in JUDGED if phase == "step" or phase in suspected]


def _outcome(result: Compared) -> str:
    where = [phase for phase in result.suspects if phase != "step"]
    return result.outcome + (f" ({', '.join(result.suspects)})" if where else "")


def _ratio(phase: str, *, shown: bool) -> Column:
    names = (f"{phase}_ratio", f"{phase}_low", f"{phase}_high")
    title = f"{phase} B/A" if shown else ""
    return Column(title, names, lambda result: result.ratios.get(phase), from_to)


def why_table(results: Sequence[Compared]) -> Table | None:
    """Return what changed: a line for each cause, with the cases that have it taken together."""
    told = [result for result in results if result.causes]
    if not told:
        return None
    everything = [result.case for result in results]
    lines = [
        {
            "cases": _cases([result.case for result, _ in group], everything),
            "phase": "all" if cause.phase == WHOLE_CASE else cause.phase,
            "what": cause.what,
            "change": cause.change,
            "µs": _span([own.seconds for _, own in group]),
            "% of difference": _largest_share(group),
            "meaning": cause.meaning,
        }
        for cause, group in together(told)
    ]
    names = ["case", "rank", "phase", "what", "change", "meaning", "seconds", "share", "exact"]
    raw = [
        asdict(cause) | {"case": result.case.key, "rank": rank, "share": result.share(cause)}
        for result in told
        for rank, cause in enumerate(result.causes, 1)
    ]
    return Table("why", "Why", WHY, pd.DataFrame(lines), pd.DataFrame(raw, columns=names))


Group = tuple[Cause, list[tuple[Compared, Cause]]]


def together(results: Sequence[Compared]) -> list[Group]:
    """Return the first causes of each case, equal ones of several cases as one, by their rank."""
    groups: dict[tuple[object, ...], list[tuple[int, Compared, Cause]]] = {}
    for result in results:
        for place, cause in enumerate(result.causes[:CAUSES_ON_SCREEN]):
            key = (cause.phase, cause.what, cause.meaning, cause.exact, _same_change(cause))
            groups.setdefault(key, []).append((place, result, cause))
    ordered = sorted(groups.values(), key=lambda group: (min(place for place, *_ in group), -len(group)))
    return [(group[0][2], [(result, cause) for _, result, cause in group]) for group in ordered]


def _same_change(cause: Cause) -> str:
    """Return the part of a change that tells causes apart; sizes differ from case to case."""
    if cause.meaning == "other shapes":
        return ""
    return cause.change.partition(" per step")[0]


def _cases(cases: Sequence[Case], everything: Sequence[Case]) -> str:
    if len(cases) == len(everything):
        return f"all {{{len(cases)}}}" if len(cases) > 1 else cases[0].key
    return cases[0].key if len(cases) == 1 else f"{cases[0].key} … {{{len(cases)}}}"


def _span(seconds: Sequence[float | None]) -> str:
    return span([value / MICROSECONDS.seconds for value in seconds if value is not None])


def _largest_share(group: Sequence[tuple[Compared, Cause]]) -> str:
    shares = [share for result, cause in group if (share := result.share(cause)) is not None]
    return percentage(max(shares, key=abs)) if shares else NOT_AVAILABLE


def setting_lines(base: Run, candidate: Run) -> list[str]:
    """Say which options and which code two runs differ in, where they do."""
    names = [
        name
        for name in {**base.options, **candidate.options}
        if name not in ("results", "quick", "profile", "energy")
        and base.options.get(name) != candidate.options.get(name)
    ]
    lines = [
        f"--step-{name} {base.options.get(name)} against {candidate.options.get(name)}" for name in names
    ]
    if base.code.commit != candidate.code.commit or not (base.code.certain and candidate.code.certain):
        lines.append(f"the code {_code(base)} against {_code(candidate)}")
    return [f"- The two differ in {', '.join(lines)}."] if lines else []


def _code(run: Run) -> str:
    return f"{run.code.commit[:10] or 'unknown'}{' with changes' if run.code.dirty else ''}"


def unexplained_lines(results: Sequence[Compared]) -> list[str]:
    """Name the cases of which more than a tenth of a difference has no cause, and count what is not shown."""
    left = [
        f"{part} of {result.case.key} {signed(result.unexplained_s[part] / MICROSECONDS.seconds, 1)} of"
        f" {signed(whole_s / MICROSECONDS.seconds, 1)} µs"
        for result in results
        for part, whole_s in result.differences_s.items()
        if abs(result.unexplained_s[part]) > (1 - EXPLAINED) * abs(whole_s)
    ]
    lines = [f"- Unexplained: {first_of(left, CASES_NAMED)}."] if left else []
    hidden = sum(max(0, len(result.causes) - CAUSES_ON_SCREEN) for result in results)
    return lines + (
        [f"- Not shown: {hidden} causes that cost less (--out DIR writes all)."] if hidden else []
    )


def without_evidence(base: Run, candidate: Run, timed: tuple[int, int]) -> list[str]:
    """Say what a run lacks that would explain more, and how to have it next time."""
    lacking = []
    runs = (("A", base), ("B", candidate))
    for name, run in runs:
        if not any(record.counters for record in run.cases):
            lacking.append(f"{name} has no counters, so that changed operators cannot be told")
    for name, cases in (("A", timed[0]), ("B", timed[1])):
        if not cases:
            lacking.append(f"{name} has no times: its laps are missing or no round was finished")
    common = {r.case for r in base.cases} & {r.case for r in candidate.cases}
    profiled = [{p.case for p in run.profiles if not p.role} & common for _, run in runs]
    both = profiled[0] & profiled[1]
    if len(both) < len(common):
        lacking.append(
            f"{len(both)} of {len(common)} cases were profiled in both runs; what operators cost in the"
            " others is unknown (--step-profile)"
        )
    failed = [f"{r.case.key} ({r.reason})" for r in candidate.cases if r.status == "failed"]
    if failed:
        lacking.append(f"failed in B: {', '.join(failed[:CASES_NAMED])}")
    return [f"- Note: {line}." for line in lacking]


def _partners(words: str, cases: Sequence[Case]) -> list[str]:
    return [f"- {words}: {first_of([case.key for case in cases], CASES_NAMED)}"] if cases else []


def summary(comparison: Comparison) -> str:
    """Return the last line: how much was compared, and with what outcome."""
    results = comparison.results
    counts = {
        outcome: sum(result.outcome == outcome for result in results)
        for outcome in ("ok", SUSPECT, NOT_COMPARABLE)
    }
    said = ", ".join(f"{number} {outcome}" for outcome, number in counts.items() if number)
    line = compared_line(len(results), len(comparison.new), len(comparison.missing))
    return f"{line}: {said}" if said else line
