"""Profile the grid without pytest: a short campaign, then the profiler on every case."""

from dataclasses import dataclass

from nncore_bench.measure.campaign import Progress
from nncore_bench.options import Options
from nncore_bench.report import render, write_tables
from nncore_bench.suite import measured_grid

TOLD = ("operators", "accounting", "device", "findings")


@dataclass(frozen=True)
class Profiled:
    """Hold whether all cases that this machine can run were profiled, and what is told of them."""

    complete: bool
    text: str


def profile(options: Options, progress: Progress) -> Profiled:
    """Record a run in which every case is profiled; raises OptionError and WorkerError.

    The campaign before it is short: it tells what the profiler adds to a step, and no more.
    """
    suite = measured_grid(options, progress)
    if suite.run is None or suite.folder is None:
        return Profiled(complete=False, text="nothing was recorded")
    report = render(suite.run, list(suite.rows.values()), suite.beside)
    write_tables(suite.folder, report)
    profiled = {profile.case for profile in suite.run.profiles}
    wanted = [record.case for record in suite.run.cases if record.status != "skipped"]
    complete = bool(wanted) and all(case in profiled for case in wanted)
    return Profiled(complete, f"run folder: {suite.folder}\n\n{report.chosen(TOLD)}")
