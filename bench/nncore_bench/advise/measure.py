"""Measure the variants of a step beside the plain one, and then the best of them together."""

import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from math import nan
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from nncore_bench.advise.text import Advice
from nncore_bench.campaign.conductor import Progress
from nncore_bench.campaign.launcher import Launcher
from nncore_bench.campaign.plan import ROUNDS_OF_A_COMMAND, Plan
from nncore_bench.campaign.session import Suite
from nncore_bench.cases import Case
from nncore_bench.errors import UserError
from nncore_bench.estimate.gains import combinations, gains
from nncore_bench.machine.gpu import chosen_gpu
from nncore_bench.options import Options
from nncore_bench.variants import PRECISIONS, WORDS, made_faster
from nncore_bench.worker.messages import COMPILER_CACHE

if TYPE_CHECKING:
    from nncore_bench.estimate.source import Source

SHARE_TOGETHER = 0.4
"""Share of the budget that is reserved for combinations."""

PHASE_OF = {"step": "step", "inference": "inference", "feeding": "data"}


def candidates(base: Case, all_threads: int) -> list[Case]:
    """Return the cases to try against a plain one: each word, each precision, all threads, one at a time."""
    words = [replace(base, variant=word) for word in WORDS]
    precisions = [replace(base, precision=name) for name in PRECISIONS if name != base.precision]
    threads = [replace(base, threads=all_threads)] if not base.on_device and all_threads > 1 else []
    return [*words, *precisions, *threads]


def advise(options: Options, progress: Progress) -> Advice:
    """Return advice for one device, batch size and width; raises UserError.

    The compiler cache is empty, so that the first of the launches compiles as a user's first run does.
    """
    begin = time.monotonic()
    with TemporaryDirectory(prefix="compiled-") as folder:
        environment = {COMPILER_CACHE: folder, **chosen_gpu(options.gpu_number, os.environ)}
        with closing(Suite(options, Launcher(more=environment))) as suite:
            suite.get_ready()
            suite.refuse_what_cannot_be()
            base = _only(suite)
            tried = candidates(base, suite.launcher.hello.all_threads)
            first = _measured(suite, base, tried, 1.0, progress)
            found, sources = gains(first.run.cases, first.blocks, base), [first]
            if joined := combinations(found, base):
                again = Suite(options, suite.launcher)
                sources.append(_measured(again, base, joined, SHARE_TOGETHER, progress))
    together = [gain for more in sources[1:] for gain in gains(more.run.cases, more.blocks, base)]
    plain_s = next(row.time_s for row in first.rows if (row.case, row.phase) == (base, "step"))
    assumed = next(record.assumed for record in first.run.cases if record.case == base)
    folders = [source.folder for source in sources if source.folder is not None]
    return Advice(base, plain_s or nan, found, together, assumed, time.monotonic() - begin, folders)


def _only(suite: Suite) -> Case:
    """Return the only case; raises UserError if there are several or it cannot run."""
    if len(suite.cases) != 1:
        raise UserError(
            f"advice is for one case, and the options name {len(suite.cases)} (give one device, thread count,"
            " batch size and hidden width, such as --step-batch-sizes=32 --step-hidden=128)"
        )
    (case,) = suite.cases
    if reason := suite.skip_reason(case) or suite.check(case):
        raise UserError(reason)
    return case


def _measured(suite: Suite, base: Case, cases: Sequence[Case], share: float, progress: Progress) -> "Source":
    """Measure some cases beside the base in a campaign of their own."""
    selected = [(base, phase) for phase in PHASE_OF.values()]
    selected += [(case, PHASE_OF[made_faster(case.variant)]) for case in cases]
    plan = Plan.of(suite.options, ROUNDS_OF_A_COMMAND)
    plan = replace(plan, budget_s=plan.budget_s * share)
    suite.measure(selected, plan, progress, alone=True)  # ratios within a round need no ceilings and no drift
    plain = next(record for record in suite.source.run.cases if record.case == base)
    if plain.status != "ok":
        raise UserError(f"{base.key} cannot be measured: {plain.reason}")
    return suite.source
