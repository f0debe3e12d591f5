"""Compare two runs case by case: how far apart they are, in which phase, and what changed.

This is a screen, not a verdict, since the runs were made at different times.
"""

import argparse
from pathlib import Path

from nncore_bench.commands.answer import FAILED, OK, UNUSABLE, Answer, Say, records_of
from nncore_bench.commands.arguments import RUN_HELP, add_results
from nncore_bench.commands.report import watched
from nncore_bench.errors import UserError
from nncore_bench.options import fraction

HELP = "compare two runs case by case: how far apart they are, and why"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("base", type=Path, metavar="BASE", help=RUN_HELP)
    parser.add_argument("candidate", type=Path, metavar="CAND", help="the same, compared with BASE")
    add_results(parser)
    parser.add_argument(
        "--fail-above",
        metavar="SHARE",
        help="exit with 1 if a case is surely slower by this share or more, such as 5%%",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write the tables here, as .md and .csv")


def run(given: argparse.Namespace, say: Say) -> Answer:
    """Compare two runs; exit code 1 only with --fail-above, 2 if something cannot be compared."""
    margin = None if given.fail_above is None else fraction("--fail-above", given.fail_above)
    from nncore_bench.compare.compare import compare_cases, screen_lines, write_comparison
    from nncore_bench.compare.explain import MARGIN, NOT_COMPARABLE, SUSPECT
    from nncore_bench.estimate.source import read_source
    from nncore_bench.runs import found_run
    from nncore_bench.watch.marks import is_watched

    paths = [found_run(path, given.results) for path in (given.base, given.candidate)]
    if any(map(is_watched, paths)):
        if margin is not None or given.out is not None:
            raise UserError(
                "--fail-above and --out: two watched runs are a screen, and no verdict is made of them"
            )
        return watched(paths, say)
    base, candidate = map(read_source, paths)
    comparison = compare_cases(base, candidate, margin or MARGIN)
    if given.out is not None:
        write_comparison(given.out, comparison)
    say(comparison.text)
    judged = sum(result.outcome != NOT_COMPARABLE for result in comparison.results)
    figures = records_of(comparison.tables)
    verdict = SUSPECT if comparison.suspects else "ok" if judged else NOT_COMPARABLE
    suspected = {result.case.key for result in comparison.suspects}
    causes = (cause for cause in figures["tables"].get("why", ()) if cause["case"] in suspected)
    gate = next(reversed(screen_lines(comparison)), None)
    incomplete = not comparison.results or bool(comparison.missing) or (margin is not None and not judged)
    incomplete = incomplete or (comparison.same_machine and judged < len(comparison.results))
    code = UNUSABLE if incomplete else OK
    code = FAILED if margin is not None and comparison.suspects else code
    return Answer(code, verdict, next(causes, None), gate, figures)
