"""Try other settings of a training script's DataLoader, within its own loop, and say what pays.

The script runs as it is until its first steps are done; then its batches come in turn from DataLoaders with
other numbers of workers, of batches fetched ahead, and with pinned memory where there is a GPU, on the
script's own dataset. After some time it is ended: give it a folder of its own if it writes checkpoints.
"""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from nncore_bench.commands.answer import OK, UNUSABLE, Answer, Say, records_of
from nncore_bench.commands.arguments import add_results
from nncore_bench.commands.run import add_target, new_seed, refuse_no_script, run_child
from nncore_bench.options import seconds

HELP = "try workers, prefetching and pinning on a training script's own DataLoader, and say what pays"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--budget", default="60s", metavar="TIME", help="time to try settings (default: 60s)")
    add_results(parser)
    add_target(parser)


def run(given: argparse.Namespace, say: Say) -> Answer:
    """Run the script until enough is tried; exit code 2 if nothing could be."""
    limit_s = seconds("--budget", given.budget)
    from nncore_bench.machine.facts import host_name
    from nncore_bench.report.loaders import chosen, loader_table, settings_of
    from nncore_bench.runs import new_folder
    from nncore_bench.watch.marks import Facts, read_facts

    refuse_no_script(given)
    seed, name = new_seed(), Path(given.target).name
    folder = new_folder(given.results.resolve(), host_name(), now=datetime.now(UTC), short_id=f"{seed:08x}")
    Facts(folder).learn(name=name, command=[given.target, *given.arguments])
    code = run_child(given, folder, {"trial": {"limit_s": limit_s, "seed": seed}})
    facts = read_facts(folder)
    settings = settings_of(facts)
    if not settings:
        why = facts.get("error") or (
            f"the script ended with {code} before each was tried twice"
            if facts.get("tried")
            else "no DataLoader fed an optimizer's step of this process, or fewer than ten"
        )
        sys.stderr.write(f"\nnncore-bench loader: nothing can be said of {name}: {why}\n")
        return Answer(UNUSABLE, None, None, None, {"tables": {}, "process": facts})
    table, best = loader_table(settings, name), chosen(settings)
    as_it_is = best is settings[0]
    line = (
        "no other setting is surely faster: leave it as it is"
        if as_it_is
        else f"DataLoader(..., {best.code})"
    )
    say(f"\n{table.markdown()}\n- {line[0].upper()}{line[1:]}.\n")
    record = table.records()[settings.index(best)]
    verdict = "as it is" if as_it_is else best.code
    return Answer(OK, verdict, None if as_it_is else record, None if as_it_is else line, records_of([table]))
