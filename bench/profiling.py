"""Profile the grid without pytest: a short campaign, then the profiler on every case."""

import random
from dataclasses import dataclass

from bench.measure.campaign import Progress
from bench.measure.plan import Plan
from bench.options import Options
from bench.report import render, write_tables
from bench.suite import Suite

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
    suite = Suite(options)
    try:
        suite.get_ready()
        suite.refuse_what_cannot_be()
        seed = random.SystemRandom().randrange(2**32)
        plan = Plan(options.launches, options.budget, options.target, options.launches, seed=seed)
        suite.measure(((case, phase) for case in suite.cases for phase in case.phases()), plan, progress)
    finally:
        suite.close()
    if suite.run is None or suite.folder is None:
        return Profiled(complete=False, text="nothing was recorded")
    report = render(suite.run, list(suite.rows.values()), suite.beside)
    write_tables(suite.folder, report)
    profiled = {profile.case for profile in suite.run.profiles}
    wanted = [record.case for record in suite.run.cases if record.status != "skipped"]
    complete = bool(wanted) and all(case in profiled for case in wanted)
    return Profiled(complete, f"run folder: {suite.folder}\n\n{report.chosen(TOLD)}")
