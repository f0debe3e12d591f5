"""The recorder: a campaign from the first worker to the last file of its run."""

import os
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from math import ceil, inf
from pathlib import Path
from typing import Any

import msgspec.structs

from nncore_bench.campaign.conductor import COMPUTE_MODE, CUDA, Conductor, Progress
from nncore_bench.campaign.launcher import ALLOCATOR_POLICY, Asked, Launcher, WorkerError
from nncore_bench.campaign.passes import count_cases, profile_cases
from nncore_bench.campaign.plan import Plan
from nncore_bench.companions import COMPANIONS
from nncore_bench.machine.facts import code_measured, host_name, machine_facts
from nncore_bench.machine.fingerprint import GPU
from nncore_bench.machine.gpu import EXCLUSIVE, chosen_gpu, gpu_facts_by_uuid, visible
from nncore_bench.machine.notices import notices_after, notices_before, thrown_out
from nncore_bench.machine.reading import UNKNOWN
from nncore_bench.machine.state import meanwhile, state_now
from nncore_bench.options import Options
from nncore_bench.records import CaseRecord, Notice
from nncore_bench.runs import Block, Campaign, Run, RunFolder
from nncore_bench.variants import DEFAULT_ALLOCATOR
from nncore_bench.worker import messages
from nncore_bench.worker.blocks import LEAST_ITERATIONS, least_iterations

SPARE = 1.1
"""Suggest a budget larger by this factor than what rounds have taken."""


class Recorder:
    """Record one run: conduct its campaign, profile its reference cases, and keep its folder up to date."""

    def __init__(
        self,
        options: Options,
        records: Sequence[CaseRecord],
        launcher: Launcher,
        companions: Sequence[CaseRecord] = (),
    ) -> None:
        self._launcher = launcher
        self._environment = {**os.environ, **chosen_gpu(options.gpu_number, os.environ)}
        self._started: list[Asked] = []
        self._with_gpu = any(record.case.device == CUDA and record.status == "ok" for record in records)
        self._opened: Asked | None = None
        self._every = options.profile
        host = host_name()
        now = datetime.now(UTC)
        self.folder = RunFolder.create(options.results, host, now=now, short_id=secrets.token_hex(2))
        seen_by_torch = dict(launcher.hello.facts)
        code = code_measured(Path(seen_by_torch.pop("code_path")))
        facts = {**machine_facts(ALLOCATOR_POLICY, environment=self._environment), **seen_by_torch}
        if self._with_gpu:
            facts |= self._of_the_gpu(facts)
        self.run = Run(
            id=self.folder.path.name,
            host=host,
            started=now.isoformat(timespec="seconds"),
            state="running",
            options=options.as_record(),
            code=code,
            machine=facts,
            cases=tuple(records),
            companions=tuple(companions),
            notices=notices_before(
                facts, [record.case.threads for record in records], {record.case.device for record in records}
            ),
        )
        self.folder.save(self.run)

    def _of_the_gpu(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return the facts that change once torch says which GPU it uses.

        The worker that reports its UUID becomes the first of the campaign. If none can be started, the
        campaign tries again, and its cases record the reason.
        """
        try:
            self._opened, uuid = self._open_gpu()
        except WorkerError:
            return {}
        found = gpu_facts_by_uuid(facts, uuid)
        if found:
            self._environment |= visible(uuid)
        return found if GPU in facts else {GPU: UNKNOWN, **found}

    def _open_gpu(self) -> tuple[Asked, str]:
        """Return a worker that uses the GPU, and the GPU's UUID; raises WorkerError if none can use it."""
        worker = self._launcher.start(CUDA)
        reply = worker.ask(messages.Look())
        if isinstance(reply, messages.Refused):
            worker.close()
            raise WorkerError(reply.reason)
        return worker, reply.uuid if isinstance(reply, messages.Seen) else ""

    def record(self, plan: Plan, progress: Progress) -> Run:
        """Run the campaign and the profiler pass; finished rounds stay if it is interrupted."""
        measured = [*self.run.cases, *self.run.companions]
        alone = self._with_gpu and self.run.machine.get("gpu_compute_mode") in EXCLUSIVE
        conductor = Conductor(measured, plan, self._start_worker, self.save, progress, one_at_a_time=alone)
        try:
            campaign = self._conduct(conductor)
            self._update(records=conductor.cases, campaign=campaign)
            campaign = msgspec.structs.replace(campaign, memory_bytes=self._launcher.memory_bytes())
            self.folder.merge_rounds()
            self._look_closer(conductor, progress)
            self._update(state="finished", campaign=campaign)
        except BaseException:
            self._update(state="interrupted")
            raise
        finally:
            self._end_workers(conductor)  # another campaign may follow
        return self.run

    def _end_workers(self, conductor: Conductor) -> None:
        """End every worker, to free their memory, and a GPU that admits a single process."""
        while self._started:
            self._started.pop().close()
        conductor.workers.clear()

    def _conduct(self, conductor: Conductor) -> Campaign:
        """Run the campaign, and record what else the machine did meanwhile, also if it is interrupted."""
        state = partial(state_now, with_gpu=self._with_gpu, environment=self._environment)
        before = state()
        try:
            return conductor.run()
        finally:
            after = state()
            machine = {**self.run.machine, **meanwhile(before, after)}
            self._update(*notices_after(before, after), machine=machine)

    def _look_closer(self, conductor: Conductor, progress: Progress) -> None:
        """Count and profile after the timed campaign, and save the results of each at once.

        A campaign with an end is not profiled: that takes some 10 s, and its times are what was asked for.
        """
        apart, cut = too_little_memory(conductor), cut_short(conductor)
        if apart:
            self._end_workers(conductor)  # what counts and profiles has a process of its own then
        until = conductor.plan.until
        counted, notices = count_cases(conductor.cases, self._start_worker, progress, until)
        if apart:
            self._end_workers(conductor)
        self._update(*apart, *cut, *thrown_out(counted), *_missed(counted), *notices, records=counted)
        if until < inf:
            return
        profiles, notices = profile_cases(
            counted, conductor.workers, self._start_worker, self.folder.path, progress, every=self._every
        )
        self._update(*notices, profiles=tuple(profiles))

    def save(self, blocks: Sequence[Block], cases: Sequence[CaseRecord], campaign: Campaign) -> None:
        """Keep the blocks of a round, if it has any, the records of the cases, and the account so far."""
        if blocks:
            self.folder.save_round(blocks[0].round, blocks)
        self._update(records=cases, campaign=campaign)

    def _update(
        self,
        *notices: Notice,
        records: Sequence[CaseRecord] | None = None,
        **changes: Any,  # noqa: ANN401 - fields of the run
    ) -> None:
        """Save the run with more notices, the records of cases and companions, and other changes."""
        if records is not None:
            changes["cases"] = tuple(record for record in records if not record.role)
            changes["companions"] = tuple(record for record in records if record.role)
        self.run = msgspec.structs.replace(self.run, notices=(*self.run.notices, *notices), **changes)
        self.folder.save(self.run)

    def _start_worker(self, pool: str) -> Asked:
        if pool == CUDA:
            worker, self._opened = self._opened or self._open_gpu()[0], None
        else:
            worker = (self._launcher.beside() if pool == DEFAULT_ALLOCATOR else self._launcher).fork()
        self._started.append(worker)
        return worker


def too_little_memory(conductor: Conductor) -> list[Notice]:
    """Return a warning if the worker processes could not all run at the same time."""
    alongside, launches = conductor.alongside, conductor.launches
    if alongside == launches:
        return []
    if conductor.kept_apart_by == COMPUTE_MODE:
        cause = (
            "the GPU lets one process in at a time (its compute mode), so that"
            f" {launches} worker processes ran one after another"
        )
        remedy = "set its compute mode to default (nvidia-smi -c DEFAULT, as root)"
    else:
        cause = (
            f"{conductor.kept_apart_by} sufficed for {alongside} of {launches} worker processes at a time,"
            " each of which holds every case; the others ran after them"
        )
        remedy = "measure fewer cases at a time"
    return [Notice(cause, f"{remedy}, if the machine was not equally fast all the while")]


def cut_short(conductor: Conductor) -> list[Notice]:
    """Return a notice if blocks have fewer iterations than usual, or the budget fitted fewer launches."""
    launches, wanted, seconds = conductor.launches, conductor.plan.launches, conductor.seconds_per_round()
    iterations = least_iterations(conductor.longest_s)
    causes, remedy = [], "give a larger --step-budget for more rounds, if an interval is too wide"
    if iterations < LEAST_ITERATIONS:
        plural = "s" if iterations > 1 else ""
        causes = [
            f"a step takes up to {conductor.longest_s:.1f} s: its blocks have {iterations} iteration{plural}"
        ]
    if launches < wanted and conductor.rounds_done:
        ends = conductor.plan.until < inf
        limit = "time there was" if ends else f"budget of {conductor.plan.budget_s:g} s"
        causes.append(
            f"a round of all cases takes {seconds:.1f} s: {launches} of {wanted} launches fit the {limit},"
            " and intervals come from these alone"
        )
        budget = "a longer --budget" if ends else f"--step-budget={ceil(SPARE * wanted * seconds)}"
        remedy = f"give {budget} for all launches, or measure fewer cases"
    return [Notice("; ".join(causes), remedy)] if causes else []


def _missed(records: Sequence[CaseRecord]) -> list[Notice]:
    """Return a notice for every companion that could not be measured."""
    return [
        Notice(
            f"the {record.role} beside the cases could not be measured ({record.reason})",
            f"the times of the cases are complete; {COMPANIONS[record.role].lost}",
        )
        for record in records
        if record.role and record.status == "failed"
    ]
