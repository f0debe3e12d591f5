"""The suite's state in one pytest session: options, cases, workers, and the recorded run."""

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from nncore_bench.campaign.conductor import Progress
from nncore_bench.campaign.launcher import Asked, Launcher, allocator_can_be_chosen, answer_of
from nncore_bench.campaign.plan import ROUNDS_OF_A_COMMAND, Plan
from nncore_bench.campaign.recorder import Recorder
from nncore_bench.cases import FED, PHASES, SIMPLENN, Case, kind_of
from nncore_bench.companions import companions_of
from nncore_bench.errors import UserError
from nncore_bench.estimate.laps import published
from nncore_bench.estimate.rows import Row
from nncore_bench.handover import HandOver
from nncore_bench.machine.gpu import chosen_gpu
from nncore_bench.options import Options
from nncore_bench.records import CaseRecord
from nncore_bench.runs import NANO, SCHEMA_VERSION, BlocksOfCase, by_case, unwritable
from nncore_bench.variants import misfit
from nncore_bench.worker import messages

if TYPE_CHECKING:
    from nncore_bench.estimate.source import Source

NO_CUDA = "no CUDA device was found"
COMPARED = 0.25
"""Length of the blocks of cases that are only there to be compared, relative to others.

The shorter they are, the more alike is the machine that neighbours see.
"""


class Suite:
    """One session of the suite; nothing is started before it is needed."""

    def __init__(self, options: Options, launcher: Launcher | None = None) -> None:
        self.options = options
        self.recorder: Recorder | None = None
        self._launcher = launcher
        self._checkers: dict[str, Asked] = {}
        self._checked: dict[Case, str] = {}
        self._failed: set[Case] = set()

    @property
    def launcher(self) -> Launcher:
        """Return the process that workers come from, started when first asked for."""
        if self._launcher is None:
            self._launcher = Launcher(more=chosen_gpu(self.options.gpu_number, os.environ))
        return self._launcher

    def close(self) -> None:
        """End every worker process."""
        if self._launcher is not None:
            self._launcher.close()
            self._launcher = None

    @cached_property
    def cases(self) -> list[Case]:
        """Return the grid; `all` threads is what torch says it is."""
        all_threads = self.launcher.hello.all_threads if "all" in self.options.threads else 1
        return self.options.cases(all_threads)

    @cached_property
    def cells(self) -> list[tuple[Case, str]]:
        """Return each case with each of its phases, as measured unless the user selects some.

        A DataLoader takes 13 to 40 µs for a sample: five batches of 65,536 would take as long as three rounds
        of everything else. So the batch sizes that only CUDA has by default are not fed.
        """
        more = self.options.more_batch_sizes
        return [
            (case, phase)
            for case in self.cases
            for phase in case.phases()
            if phase not in FED or case.batch_size not in more
        ]

    def get_ready(self) -> None:
        """Let both launchers import torch at the same time; raises UserError for a folder it cannot write."""
        results = self.options.results
        try:
            results.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=results):
                pass
        except OSError as error:
            raise UserError(unwritable(results, error)) from None
        if "cpu" in self.options.devices and allocator_can_be_chosen():
            self.launcher.beside()

    def refuse_what_cannot_be(self) -> None:
        """Raise UserError for options that this machine cannot meet, before anything is measured."""
        _ = self.launcher.hello
        gpu = next((device for device in self.options.devices if device != "cpu"), "")
        no_other = "cpu" not in self.options.devices or self.options.gpu_number is not None
        if gpu and no_other and not self.launcher.hello.cuda:
            raise UserError(f"--step-devices: {gpu!r} was asked for and {NO_CUDA} (use --step-devices=cpu)")
        if self.options.dataset != "digits" and self.options.subject == SIMPLENN:
            case = replace(self.cases[0], device="cpu", threads=1, batch_size=1, hidden=1)
            if reason := self.check(case):
                raise UserError(f"--step-dataset: {reason.partition(': ')[2] or reason}")

    def skip_reason(self, case: Case) -> str:
        """Return why a case cannot run on this machine, or nothing."""
        if case.device == "cuda" and not self.launcher.hello.cuda:
            return NO_CUDA
        return misfit(case.variant, case.precision, case.device)

    def check(self, case: Case) -> str:
        """Run one step of a case untimed and return what is wrong with it, or nothing."""
        if case not in self._checked:
            requests = messages.Prepare(0, case, warm_up=False), messages.Forget(0)
            found = answer_of(messages.Done, self._checkers, self.launcher.start, case.device, *requests)
            self._checked[case] = found if isinstance(found, str) else ""
        return self._checked[case]

    def measure(
        self, selected: Iterable[tuple[Case, str]], plan: Plan, progress: Progress, *, compared: bool = False
    ) -> None:
        """Measure the selected cases and phases; finished rounds stay if it is interrupted.

        `compared` cases, measured to be compared with each other, have shorter blocks and no companions.
        """
        while self._checkers:  # they hold data, and a GPU that may admit a single process
            self._checkers.popitem()[1].close()
        phases: dict[Case, list[str]] = defaultdict(list)
        for case, phase in selected:
            phases[case].append(phase)
        reasons = {case: self.skip_reason(case) for case in phases}
        records = [
            CaseRecord(
                case,
                tuple(names),
                status="skipped" if reasons[case] else "ok",
                reason=reasons[case],
                block_share=COMPARED if compared else 1.0,
            )
            for case, names in phases.items()
        ]
        ok = [record for record in records if record.status == "ok"]
        twins = [r.case for r in ok if "step" in r.phases and allocator_can_be_chosen()]
        companions = [] if compared else companions_of([record.case for record in ok], twins)
        self.recorder = Recorder(self.options, records, self.launcher, companions)
        self.recorder.record(plan, progress)

    @property
    def folder(self) -> Path:
        """Return the folder of the recorded run; raises UserError where there is none."""
        if self.recorder is None:
            raise UserError("nothing was recorded")
        return self.recorder.folder.path

    @cached_property
    def source(self) -> "Source":
        """Return the recorded run, read back; raises UserError where there is none."""
        from nncore_bench.estimate.source import read_source  # noqa: PLC0415 - pandas takes a second to import

        return read_source(self.folder)

    @cached_property
    def rows(self) -> dict[tuple[Case, str], Row]:
        """Return the rows of the frame by case and phase."""
        return {(row.case, row.phase): row for row in self.source.rows}

    @cached_property
    def _blocks_of_case(self) -> Mapping[Case, BlocksOfCase]:
        numbered = by_case(self.source.blocks)
        return {record.case: numbered[number] for number, record in enumerate(self.source.run.cases)}

    def hand_over(self, case: Case, phase: str, stats: list[Any]) -> HandOver:
        """Return the report of the test of a case and phase; its statistics will go to `stats`."""
        if self.recorder is None or (row := self.rows.get((case, phase))) is None:
            absent = "" if self.recorder is None else f"its step has no {phase}"
            return HandOver((), {}, lambda: self.check(case), stats, case, self._failed, absent)
        blocks = [] if row.status == "failed" else self._blocks_of_case[case][kind_of(phase)]
        means = tuple(float(np.mean(published(block, phase, case))) * NANO for block in blocks)
        return HandOver(means, row.as_record(), lambda: self.check(case), stats, case, self._failed)


def measured_grid(options: Options, progress: Progress, launcher: Launcher | None = None) -> "Source":
    """Measure the whole grid, and return the run; raises UserError."""
    suite = Suite(options, launcher)
    try:
        suite.get_ready()
        suite.refuse_what_cannot_be()
        suite.measure(suite.cells, Plan.of(options, ROUNDS_OF_A_COMMAND), progress)
    finally:
        suite.close()
    return suite.source


def own_part(source: "Source") -> dict[str, Any]:
    """Return our part of `benchmark.json` besides the rows of its tests."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run": msgspec.to_builtins(source.run),
        "rows": [  # these have no test there
            row.as_record() for row in source.rows if row.status != "ok" or row.phase not in PHASES
        ],
        "companions": [row.as_record() for row in source.beside],
    }
