"""Compare two runs case by case: how far apart they are, and why. This is a screen, never a verdict."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from nncore_bench.cases import Case
from nncore_bench.compare.changes import WHOLE_CASE
from nncore_bench.compare.explain import (
    EXPLAINED,
    JUDGED,
    MARGIN,
    NOT_COMPARABLE,
    OK,
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
from nncore_bench.text.format import MICROSECONDS, first_of, from_to, micro, percentage, signed, span
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
    """Two compared runs, a result for each common case, and the cases without a partner."""

    base: Run
    candidate: Run
    results: tuple[Compared, ...]
    new: tuple[Case, ...]
    missing: tuple[Case, ...]
    margin: float
    same_machine: bool

    @property
    def suspects(self) -> list[Compared]:
        """Return the cases that are suspected to be slower."""
        return [result for result in self.results if result.outcome == SUSPECT]

    @property
    def tables(self) -> list[Table]:
        """Return the table of ratios and, where something changed, that of causes."""
        return [table for table in (_ratio_table(self), _why_table(self.results)) if table is not None]

    @property
    def text(self) -> str:
        """Return the whole text that is printed and written to compare.md."""
        tables = [table.markdown() for table in self.tables]
        return "\n".join([*heading(self.base, self.candidate), *tables, *self.remarks])

    @property
    def remarks(self) -> list[str]:
        """Return the lines below the tables: other differences, unexplained time, and the count."""
        outcomes = Counter(result.outcome for result in self.results)
        counts = [f"{outcomes[one]} {one}" for one in (OK, SUSPECT, NOT_COMPARABLE) if outcomes[one]]
        count = compared_line(len(self.results), len(self.new), len(self.missing))
        return [
            *machines_line(self.base, self.candidate),
            *setting_lines(self.base, self.candidate),
            *_unexplained_lines(self.results),
            *(f"- Note: {line}." for line in _lacking(self)),
            *(
                f"- {words}: {first_of([case.key for case in cases], CASES_NAMED)}"
                for words, cases in (("new in B", self.new), ("missing from B", self.missing))
                if cases
            ),
            ": ".join(filter(None, [count, ", ".join(counts)])),
        ]


def compare_cases(base: Source, candidate: Source, margin: float = MARGIN) -> Comparison:
    """Compare two runs case by case; subjects from files match by file and factory, in whatever folder."""
    base, candidate = base.by_name(), candidate.by_name()
    same_machine = not differences(base.run.machine, candidate.run.machine)
    a, b = _sides(base), _sides(candidate)
    freed = drift_free_ratios(base.rows, candidate.rows) if same_machine else {}
    results = tuple(
        compared(case, a[case], b[case], freed.get(case, {}), same_machine=same_machine, margin=margin)
        for case in a
        if case in b
    )
    new, missing = (tuple(x for x in these if x not in others) for these, others in ((b, a), (a, b)))
    return Comparison(base.run, candidate.run, results, new, missing, margin, same_machine)


def screen_lines(comparison: Comparison) -> list[str]:
    """Say that a suspicion is no verdict, and end with the command that gives one; empty without suspects."""
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
    """Write the printed text to `compare.md`, and its tables as Markdown and as CSV."""
    write_files(folder, comparison.tables)
    replace_file(folder / "compare.md", f"{comparison.text}\n".encode())


def _sides(source: Source) -> dict[Case, Side]:
    """Return the times, counters and profile of each case that a run timed."""
    records = {record.case: record for record in source.run.cases}
    return {
        case: Side(times, records[case].counters, profile_of(source.run.profiles, case))
        for case, row_of in cells_of(source.rows).items()
        if (times := {name: row.time for name, row in row_of.items() if row.time and row.time.value})
    }


def _ratio_table(comparison: Comparison) -> Table | None:
    """Return a line for every case that both runs timed; None where there is none.

    The screen shows the ratio of the step, and of what else is suspected somewhere.
    """
    results = comparison.results
    if not results:
        return None
    cases = [result.case for result in results]
    shown = {"step"}.union(*(result.suspects for result in results))
    columns = [
        *case_columns(shown_columns(cases)),
        Column("A step µs", "base_s", lambda result: result.steps_s[0], micro),
        Column("B step µs", "candidate_s", lambda result: result.steps_s[1], micro),
        *(_ratio(phase, f"{phase} B/A" if phase in shown else "") for phase in JUDGED),
        Column("outcome", "", _outcome, words=True),
        *only_in_files(["outcome"]),
        Column("", "suspects", lambda result: " ".join(result.suspects)),
        Column("", "difference_s", lambda result: sum(result.differences_s.values())),
        Column("", "unexplained_s", lambda result: sum(result.unexplained_s.values())),
    ]
    caption = VERDICTS.format(margin=percentage(comparison.margin))
    return Table.of("compared", f"Two runs ({shared_by(cases)})", caption, columns, results)


def _outcome(result: Compared) -> str:
    return result.outcome + (f" ({', '.join(result.suspects)})" if {*result.suspects} - {"step"} else "")


def _ratio(phase: str, title: str) -> Column:
    names = (f"{phase}_ratio", f"{phase}_low", f"{phase}_high")
    return Column(title, names, lambda result: result.ratios.get(phase), from_to)


def _why_table(results: Sequence[Compared]) -> Table | None:
    """Return the table of causes, a line for each with all cases that have it; None without causes."""
    raw = [
        asdict(cause) | {"case": result.case.key, "rank": rank, "share": result.share(cause)}
        for result in results
        for rank, cause in enumerate(result.causes, 1)
    ]
    if not raw:
        return None
    columns = [
        Column("cases", "", lambda group: _cases(group, len(results))),
        _of_first("phase", lambda phase: "all" if phase == WHOLE_CASE else phase),
        _of_first("what"),
        _of_first("change"),
        Column("µs", "", lambda group: [cause.seconds for _, _, cause in group], _span),
        Column("% of difference", "", _largest_share, percentage),
        _of_first("meaning"),
    ]
    names = ["case", "rank", "phase", "what", "change", "meaning", "seconds", "share", "exact"]
    return Table.of("why", "Why", WHY, columns, _together(results), raw=pd.DataFrame(raw, columns=names))


Group: TypeAlias = list[tuple[int, Compared, Cause]]
"""Equal causes of several cases, with the place of each among the causes of its case."""


def _together(results: Sequence[Compared]) -> list[Group]:
    """Return the first causes of each case, equal ones of several cases as one, by their rank.

    Equal causes may differ in shapes and in bytes moved, which depend on the size of the case.
    """
    groups: dict[tuple[object, ...], Group] = defaultdict(list)
    for result in results:
        for place, cause in enumerate(result.causes[:CAUSES_ON_SCREEN]):
            change = "" if cause.meaning == "other shapes" else cause.change.partition(" per step")[0]
            key = (cause.phase, cause.what, cause.meaning, cause.exact, change)
            groups[key].append((place, result, cause))
    return sorted(groups.values(), key=lambda group: (min(place for place, _, _ in group), -len(group)))


def _of_first(name: str, text: Callable[[str], str] = str) -> Column:
    return Column(name, "", lambda group: getattr(group[0][2], name), text)


def _cases(group: Group, of: int) -> str:
    key, number = group[0][1].case.key, len(group)
    if number == 1:
        return key
    return f"all {{{number}}}" if number == of else f"{key} … {{{number}}}"


def _span(seconds: Sequence[float | None]) -> str:
    return span([value / MICROSECONDS.seconds for value in seconds if value is not None])


def _largest_share(group: Group) -> float | None:
    shares = (result.share(cause) for _, result, cause in group)
    return max((share for share in shares if share is not None), key=abs, default=None)


def setting_lines(base: Run, candidate: Run) -> list[str]:
    """Say which options and which code two runs differ in, where they do."""
    lines = [
        f"--step-{name} {base.options.get(name)} against {candidate.options.get(name)}"
        for name in {**base.options, **candidate.options}
        if name not in ("results", "quick", "profile", "energy")
        and base.options.get(name) != candidate.options.get(name)
    ]
    if base.code.commit != candidate.code.commit or not (base.code.certain and candidate.code.certain):
        lines.append(f"the code {_code(base)} against {_code(candidate)}")
    return [f"- The two differ in {', '.join(lines)}."] if lines else []


def _code(run: Run) -> str:
    return f"{run.code.commit[:10] or 'unknown'}{' with changes' if run.code.dirty else ''}"


def _unexplained_lines(results: Sequence[Compared]) -> list[str]:
    """Name the cases with more than a tenth of a difference unexplained, and count the hidden causes."""
    left = [
        f"{part} of {result.case.key} {signed(result.unexplained_s[part] / MICROSECONDS.seconds, 1)} of"
        f" {signed(whole_s / MICROSECONDS.seconds, 1)} µs"
        for result in results
        for part, whole_s in result.differences_s.items()
        if abs(result.unexplained_s[part]) > (1 - EXPLAINED) * abs(whole_s)
    ]
    lines = [f"- Unexplained: {first_of(left, CASES_NAMED)}."] if left else []
    hidden = sum(max(0, len(result.causes) - CAUSES_ON_SCREEN) for result in results)
    if hidden:
        lines.append(f"- Not shown: {hidden} causes that cost less (--out DIR writes all).")
    return lines


def _lacking(comparison: Comparison) -> Iterator[str]:
    """Yield what a run lacks that would explain more, and how to have it next time."""
    base, candidate = comparison.base, comparison.candidate
    for name, run in (("A", base), ("B", candidate)):
        if not any(record.counters for record in run.cases):
            yield f"{name} has no counters, so that changed operators cannot be told"
    for name, alone in (("A", comparison.missing), ("B", comparison.new)):
        if not comparison.results and not alone:
            yield f"{name} has no times: its laps are missing or no round was finished"
    common = {r.case for r in base.cases} & {r.case for r in candidate.cases}
    both = common.intersection(*({p.case for p in run.profiles if not p.role} for run in (base, candidate)))
    if len(both) < len(common):
        yield (
            f"{len(both)} of {len(common)} cases were profiled in both runs; what operators cost in the"
            " others is unknown (--step-profile)"
        )
    failed = [f"{r.case.key} ({r.reason})" for r in candidate.cases if r.status == "failed"]
    if failed:
        yield f"failed in B: {', '.join(failed[:CASES_NAMED])}"
