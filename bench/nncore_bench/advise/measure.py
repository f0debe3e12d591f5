"""Measure the variants of a step beside the plain one, and then the best of them together."""

import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from math import nan
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from nncore_bench.advise.text import Advice, name_of
from nncore_bench.campaign.conductor import OVER, Progress
from nncore_bench.campaign.launcher import NO_ANSWER, Launcher
from nncore_bench.campaign.plan import ROUNDS_OF_A_COMMAND, Plan
from nncore_bench.campaign.session import Suite
from nncore_bench.cases import Case
from nncore_bench.errors import UserError
from nncore_bench.estimate.gains import Gain, combinations, gains
from nncore_bench.machine.gpu import chosen_gpu
from nncore_bench.options import Options
from nncore_bench.variants import PRECISIONS, WORDS, made_faster
from nncore_bench.worker.messages import COMPILER_CACHE

if TYPE_CHECKING:
    from nncore_bench.estimate.source import Source

BUDGET_S = 180.0
"""Seconds that advice takes at most, but for what is being measured then."""

SHARE_TOGETHER = 0.4
"""Share of the measuring time that combinations have."""

SHARE_COMPILED = 0.4
"""Share of the measuring time that each compiled variant has, beside the plain step."""

TO_FINISH_S = 5.0
"""Seconds before the end at which compiling is ended: the plain step beside it has yet to be measured."""

LEAST_TO_COMPILE_S = 20.0
"""Seconds that must be left before anything is compiled for the first time."""

PHASE_OF = {"step": "step", "inference": "inference", "feeding": "data"}


def candidates(base: Case, all_threads: int) -> list[Case]:
    """Return the cases to try against a plain one: each word, each precision, all threads, one at a time."""
    words = [replace(base, variant=word) for word in WORDS]
    precisions = [replace(base, precision=name) for name in PRECISIONS if name != base.precision]
    threads = [replace(base, threads=all_threads)] if not base.on_device and all_threads > 1 else []
    return [*words, *precisions, *threads]


def advise(options: Options, progress: Progress, budget_s: float = BUDGET_S) -> Advice:
    """Return advice for one device, batch size and width, within a time in seconds; raises UserError.

    First come the variants that need no compiling, then each that is compiled while there is time, then the
    best together. The compiler cache is empty, so that the first of the launches compiles as a user's first
    run does; later launches find there what it made.
    """
    begin = time.monotonic()
    with TemporaryDirectory(prefix="compiled-") as folder:
        environment = {COMPILER_CACHE: folder, **chosen_gpu(options.gpu_number, os.environ)}
        with closing(Suite(options, Launcher(more=environment))) as suite:
            suite.get_ready()
            suite.refuse_what_cannot_be()
            base = _only(suite)
            trial = Trial(suite, base, progress, begin + budget_s)
            trial.try_all(candidates(base, suite.launcher.hello.all_threads))
            trial.join()
    first = trial.sources[0]
    plain_s = next(row.time_s for row in first.rows if (row.case, row.phase) == (base, "step"))
    assumed = next(record.assumed for record in first.run.cases if record.case == base)
    folders = [source.folder for source in trial.sources if source.folder is not None]
    return Advice(
        base,
        plain_s or nan,
        trial.found,
        trial.together,
        assumed,
        time.monotonic() - begin,
        folders,
        trial.left_out,
    )


class Trial:
    """Campaigns of one base case with what they found, until a moment of the monotonic clock."""

    now = staticmethod(time.monotonic)

    def __init__(self, suite: Suite, base: Case, progress: Progress, until: float) -> None:
        self.suite, self.base, self.progress, self.until = suite, base, progress, until
        self.sources: list[Source] = []
        self.found: list[Gain] = []
        self.together: list[Gain] = []
        self.left_out: list[str] = []
        self._compiling_s, self._plain_s = LEAST_TO_COMPILE_S, 0.0

    def try_all(self, tried: Sequence[Case]) -> None:
        """Measure the variants, the compiled ones one by one."""
        begin = self.now()
        compiled = [case for case in tried if case.form.compiled and not self.suite.skip_reason(case)]
        self.found += self.gains_of([case for case in tried if case not in compiled], 1.0)
        self._plain_s = self.now() - begin
        for case in compiled:
            if self._has(self._compiling_s, case):
                begin = self.now()
                self.found += self.gains_of([case], SHARE_COMPILED)
                self._compiling_s = self.now() - begin

    def join(self) -> None:
        """Measure the best together, as far as there is time."""
        joined = combinations(self.found, self.base)
        compiling_s = {case: self._compiling_s * case.form.compiled for case in joined}
        fitting = [
            case for case in joined if self._has(compiling_s[case] + SHARE_TOGETHER * self._plain_s, case)
        ]
        if fitting:
            self.together = self.gains_of(fitting, SHARE_TOGETHER)

    def _has(self, seconds: float, case: Case) -> bool:
        """Return whether so much time is left; note the case as left out otherwise."""
        has = self.until - self.now() >= seconds
        if not has:
            self.left_out.append(name_of(case, self.base))
        return has

    def gains_of(self, cases: Sequence[Case], share: float) -> list[Gain]:
        """Measure some cases beside the base and return what they gain; what was too slow is left out."""
        suite = Suite(self.suite.options, self.suite.launcher) if self.sources else self.suite
        suite.launcher.compile_by = self.until - TO_FINISH_S
        plan = Plan.of(suite.options, ROUNDS_OF_A_COMMAND)
        plan = replace(plan, budget_s=share * plan.budget_s, until=self.until)
        source = _measured(suite, self.base, cases, plan, self.progress)
        self.sources.append(source)
        found = gains(source.run.cases, source.blocks, self.base)
        late = [g for g in found if g.reason == OVER or (g.case.form.compiled and NO_ANSWER in g.reason)]
        self.left_out += [name_of(gain.case, self.base) for gain in late]
        missing = plan.launches - len({block.launch for block in source.blocks})
        if missing and len(late) < len(cases):
            of = f" of {name_of(cases[0], self.base)}" if len(cases) == 1 else ""
            self.left_out.append(f"{missing} of {plan.launches} launches{of}")
        return [gain for gain in found if gain not in late]


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


def _measured(suite: Suite, base: Case, cases: Sequence[Case], plan: Plan, progress: Progress) -> "Source":
    """Measure some cases beside the base in a campaign of their own."""
    selected = [(base, phase) for phase in PHASE_OF.values()]
    selected += [(case, PHASE_OF[made_faster(case.variant)]) for case in cases]
    suite.measure(selected, plan, progress, compared=True)
    plain = next(record for record in suite.source.run.cases if record.case == base)
    if plain.status != "ok":
        raise UserError(f"{base.key} cannot be measured: {plain.reason}")
    return suite.source
