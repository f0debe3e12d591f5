"""Measure each variant of a step against the plain one, and the best of them together.

Prints speed-up, numerical error, memory, one-time cost, and the code to write.
"""

import argparse

from nncore_bench import options as step_options
from nncore_bench.commands.answer import OK, Answer, Say, records_of
from nncore_bench.commands.arguments import add_options
from nncore_bench.errors import UserError
from nncore_bench.options import Options

HELP = "measure the variants of a step side by side, and say which are worth it"
ADVISED = {"step_devices": "cpu", "step_threads": "1", "step_budget": "20", "step_launches": "6"}
"""Defaults where they differ from the suite's."""

ADVISED_SIMPLENN = {"step_batch_sizes": "32", "step_hidden": "128"}
ADVISED_OTHER = {"step_batch_sizes": "8"}
NOT_TO_ADVISE = {
    "step_variants": "advice tries all of them",
    "step_precisions": "advice tries all of them, against float32",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the suite, and the time limit."""
    add_options(parser)
    parser.add_argument("--budget", metavar="TIME", default="3m", help="total time (default: 3m)")


def run(given: argparse.Namespace, say: Say) -> Answer:
    """Measure the variants of a step and print their gains."""
    budget_s = step_options.seconds("--budget", given.budget)
    options = _options(given)
    from nncore_bench.advise.measure import advise
    from nncore_bench.advise.text import advice_tables, advice_text, best_of, code_for, name_of
    from nncore_bench.progress import StandardError, progress_line
    from nncore_bench.text.table import bounds

    with progress_line(StandardError()) as line:
        advice = advise(options, line, budget_s)
    say(advice_text(advice))
    figures = records_of(advice_tables({advice.base: [*advice.found, *advice.together]}))
    best = best_of(advice.found, advice.together)
    if best is None:
        return Answer(OK, "none", None, None, figures)
    change = name_of(best.case, advice.base)
    cause = {"change": change, **bounds(best.speed_up, "speed_up", "low", "high")}
    return Answer(OK, change, cause, "\n".join(code_for(best)), figures)


def _options(given: argparse.Namespace) -> Options:
    raw = step_options.typed(given)
    for name, why in NOT_TO_ADVISE.items():
        if raw[name] is not None:
            raise UserError(f"--{name.replace('_', '-')}: {why}")
    own = raw["step_subject"] in (None, "simplenn")
    advised = {**ADVISED, **(ADVISED_SIMPLENN if own else ADVISED_OTHER)}
    return Options.build(raw | {name: raw[name] or value for name, value in advised.items()})
