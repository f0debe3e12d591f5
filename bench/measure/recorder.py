"""The recorder: a campaign from the first worker to the last file of its run."""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec.structs

from bench.cases import MIDDLE_NETWORK, REFERENCE_KERNELS, SMALLEST_NETWORK
from bench.measure.campaign import Conductor, Progress
from bench.measure.energy import measure_energy, meters
from bench.measure.machine import code_measured, host_name, machine_facts
from bench.measure.notices import notices_after, notices_before, thrown_out
from bench.measure.passes import count_cases, profile_cases
from bench.measure.plan import Plan
from bench.measure.state import meanwhile, state_now
from bench.measure.workers import ALLOCATOR_POLICY, Asked, Launcher
from bench.options import Options
from bench.records import CaseRecord, Notice
from bench.runs import Block, Campaign, Run, RunFolder
from bench.variants import DEFAULT_ALLOCATOR

MISSED = {
    REFERENCE_KERNELS: "the times of the cases are complete; what limits them is unknown",
    SMALLEST_NETWORK: "the times of the cases are complete; what limits them is unknown, and the drift",
    MIDDLE_NETWORK: "the times of the cases are complete; the machine's drift is unknown",
    DEFAULT_ALLOCATOR: "the times of the cases are complete; what the allocator does to them is unknown",
}


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
        self._every = options.profile
        self._energy = options.energy
        host = host_name()
        now = datetime.now(UTC)
        self.folder = RunFolder.create(options.results, host, now=now, short_id=secrets.token_hex(2))
        seen_by_torch = dict(launcher.hello.facts)
        code = code_measured(Path(seen_by_torch.pop("code_path")))
        facts = {**machine_facts(ALLOCATOR_POLICY), **seen_by_torch}
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

    def record(self, plan: Plan, progress: Progress) -> Run:
        """Run the campaign and the profiler pass; what was finished stays when it is cut short."""
        measured = [*self.run.cases, *self.run.companions]
        own = len(self.run.cases)
        conductor = Conductor(measured, plan, self._start_worker, self, progress, own=own)
        try:
            campaign = self._conduct(conductor)
            self.save_cases(conductor.cases, campaign)
            campaign = msgspec.structs.replace(campaign, memory_bytes=self._launcher.memory_bytes())
            self.folder.merge_rounds()
            self._look_closer(conductor, progress)
            self._update(state="finished", campaign=campaign)
        except BaseException:
            self._update(state="interrupted")
            raise
        return self.run

    def _conduct(self, conductor: Conductor) -> Campaign:
        """Run the campaign, and note what else the machine did meanwhile, also where it is cut short."""
        with_gpu = any(record.case.device == "cuda" for record in self.run.cases)
        before = state_now(with_gpu=with_gpu)
        try:
            return conductor.run()
        finally:
            after = state_now(with_gpu=with_gpu)
            self._update(
                machine={**self.run.machine, **meanwhile(before, after)},
                notices=(*self.run.notices, *notices_after(before, after)),
            )

    def _look_closer(self, conductor: Conductor, progress: Progress) -> None:
        """Count and profile, after the timed campaign and never during it; what is there is saved at once."""
        own = len(self.run.cases)
        cases, notices = conductor.cases, list[Notice]()
        if self._energy:
            with meters() as found:
                cases, notices = measure_energy(cases, conductor.workers, self._start_worker, found, progress)
            self._update(cases=tuple(cases[:own]), notices=(*self.run.notices, *notices))
        if too_little_memory(conductor):
            for launch in range(conductor.plan.launches):
                conductor.retire(launch)  # what counts and profiles has a process of its own then
        counted, notices = count_cases(cases, self._start_worker, progress)
        self._update(
            cases=tuple(counted[:own]),
            companions=tuple(counted[own:]),
            notices=(
                *self.run.notices,
                *too_little_memory(conductor),
                *thrown_out(counted),
                *_missed(counted[own:]),
                *notices,
            ),
        )
        profiles, notices = profile_cases(
            counted, conductor.workers, self._start_worker, self.folder.path, progress, every=self._every
        )
        self._update(profiles=tuple(profiles), notices=(*self.run.notices, *notices))

    def save_round(self, number: int, blocks: Sequence[Block]) -> None:
        """Keep the blocks of a finished round."""
        self.folder.save_round(number, blocks)

    def save_cases(self, cases: Sequence[CaseRecord], campaign: Campaign) -> None:
        """Keep the records of the cases and the account of the campaign so far."""
        own = len(self.run.cases)
        self._update(cases=tuple(cases[:own]), companions=tuple(cases[own:]), campaign=campaign)

    def _update(self, **changes: Any) -> None:  # noqa: ANN401 - fields of the record
        self.run = msgspec.structs.replace(self.run, **changes)
        self.folder.save(self.run)

    def _start_worker(self, pool: str) -> Asked:
        if pool == DEFAULT_ALLOCATOR:
            return self._launcher.beside().fork()
        return self._launcher.fork() if pool == "cpu" else self._launcher.spawn()


def too_little_memory(conductor: Conductor) -> list[Notice]:
    """Return a warning where not all worker processes could be there at the same time."""
    if conductor.beside == conductor.plan.launches:
        return []
    return [
        Notice(
            f"memory sufficed for {conductor.beside} of {conductor.plan.launches} worker processes at a time,"
            " each of which holds every case; the others ran after them",
            "measure fewer cases at a time, if the machine was not equally fast all the while",
        )
    ]


def _missed(companions: Sequence[CaseRecord]) -> list[Notice]:
    """Return a notice for everything beside the cases that could not be measured."""
    return [
        Notice(
            f"the {record.role} beside the cases could not be measured ({record.reason})", MISSED[record.role]
        )
        for record in companions
        if record.status == "failed"
    ]
