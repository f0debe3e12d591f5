"""How the run went: cut short or not, what failed, what was skipped, and what it was warned of."""

from collections.abc import Callable, Sequence

from nncore_bench.estimate.cells import Cells
from nncore_bench.estimate.rows import Row
from nncore_bench.records import CaseRecord, Notice
from nncore_bench.runs import Run
from nncore_bench.text.format import several

MOST_NAMED = 8
SEEN: Sequence[tuple[Callable[[CaseRecord], object], str, str]] = (
    (
        lambda record: record.correct.get("denormals"),
        "some parameters or optimizer state are denormal, which slows a step down",
        "look for values that fade to zero, or call torch.set_flush_denormal(True) in your own training",
    ),
    (
        lambda record: record.counters and (record.counters.leaked_bytes or 0) > 0,
        "memory that a step allocates is still alive some steps later",
        "look for what keeps tensors or graphs, such as a loss that is added up without .item()",
    ),
    (
        lambda record: record.correct.get("plain_tf32"),
        (
            "float32 throughout, where a plain script would compute in TF32 in part (as torch does by itself"
            " in convolutions and recurrent layers, or as the subject sets it)"
        ),
        "hold a script of yours against --step-precisions=tf32",
    ),
)
"""What a record shows, the cause as a notice words it, and the next step."""


def cut_short(run: Run, rows: Sequence[Row]) -> list[str]:
    """Return the line that a run which did not end by itself needs, if this is one."""
    if run.state == "finished":
        return []
    done = max((row.rounds for row in rows), default=0)
    planned = f" of {run.campaign.rounds_planned}" if run.campaign and run.campaign.rounds_planned else ""
    still = " (or is still running)" if run.state == "running" else ""
    rounds = f"{done}{planned} round{'' if f'{done}{planned}' == '1' else 's'}"
    return [f"This run was cut short{still} after {rounds}; figures come from the finished rounds."]


def outcome_lines(cells: Cells) -> list[str]:
    """Return what failed, case by case, and what was skipped, once for each reason."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for case, row_of in cells.items():
        for status, reason in dict.fromkeys(
            (row.status, row.reason) for row in row_of.values() if row.status != "ok"
        ):
            phases = [name for name, row in row_of.items() if (row.status, row.reason) == (status, reason)]
            name = case.key if len(phases) == len(row_of) else f"{case.key} ({', '.join(phases)})"
            grouped.setdefault((status, reason), []).append(name)
    lines = [_line(status, reason, names) for (status, reason), names in grouped.items()]
    return sorted(lines, key=lambda line: line.startswith("Skipped"))


def notice_lines(run: Run) -> list[str]:
    """Return the run's warnings, each with what to do about it."""
    notices = list(run.notices)
    for seen, cause, next_step in SEEN:
        cases = [record.case.key for record in run.cases if seen(record)]
        if cases:
            notices.append(Notice(f"{', '.join(cases)}: {cause}", next_step))
    return [f"Notice: {notice.cause}. Next: {notice.next_step}." for notice in notices]


def _line(status: str, reason: str, names: list[str]) -> str:
    why = reason or "no reason was recorded"
    if status == "skipped":
        return f"Skipped: {several(len(names), 'case')}: {why}."
    return f"Failed: {', '.join(names) if len(names) <= MOST_NAMED else f'{len(names)} cases'}: {why}."
