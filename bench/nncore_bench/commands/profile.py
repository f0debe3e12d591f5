"""Profile every case after timing it briefly.

Prints the operators by phase and module and the breakdown of the step's wall-clock time, and writes a trace
for Perfetto.
"""

import argparse
import shlex

from nncore_bench import options as step_options
from nncore_bench.commands.answer import OK, UNUSABLE, Answer, Say, costliest, records_of
from nncore_bench.commands.arguments import add_options
from nncore_bench.options import Options

HELP = "profile the phases of every case: operators, modules, and where the wall-clock time goes"
BUDGET = "10"
"""Seconds of unprofiled measuring, from which the profiler's own cost follows."""

SHOWN = ("operators", "accounting", "device", "findings")

add_arguments = add_options


def run(given: argparse.Namespace, say: Say) -> Answer:
    """Record a run that profiles every case; exit code 2 if a runnable one was not profiled."""
    raw = step_options.typed(given)
    options = Options.build(raw | {"step_budget": raw["step_budget"] or BUDGET, "step_profile": True})
    from nncore_bench.campaign.session import measured_grid
    from nncore_bench.progress import StandardError, progress_line
    from nncore_bench.report.report import render, write_tables

    with progress_line(StandardError()) as line:
        source = measured_grid(options, line)
    report = render(source)
    write_tables(source.folder, report)
    say(f"run folder: {source.folder}\n\n{report.chosen(SHOWN)}")
    profiled = {profile.case for profile in source.run.profiles}
    wanted = [record for record in source.run.cases if record.status != "skipped"]
    left = [record for record in wanted if record.case not in profiled]
    tables = report.named(*SHOWN)
    figures, cause = records_of(tables), costliest(tables)
    again = shlex.join(["nncore-bench", "report", str(source.folder)])
    if left or not wanted:
        missing = {"case": left[0].case.key, "reason": left[0].reason or None} if left else None
        return Answer(UNUSABLE, "incomplete", missing, again, figures)
    return Answer(OK, "finished", cause, again if cause is None else str(cause["next_step"]), figures)
