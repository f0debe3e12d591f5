"""The recorder: a campaign from the first worker to the last file of its run."""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec.structs

from bench.cases import reference_case
from bench.measure import messages
from bench.measure.campaign import Conductor, Progress
from bench.measure.machine import code_measured, host_name, machine_facts
from bench.measure.notices import notices_after, notices_before
from bench.measure.plan import Plan
from bench.measure.state import meanwhile, state_now
from bench.measure.workers import ALLOCATOR_POLICY, Asked, Launcher, WorkerError
from bench.options import Options
from bench.runs import Block, Campaign, CaseRecord, Notice, Run, RunFolder

PROFILED_STEPS = 8


class Recorder:
    """Record one run: conduct its campaign, profile its reference cases, and keep its folder up to date."""

    def __init__(self, options: Options, records: Sequence[CaseRecord], launcher: Launcher) -> None:
        self._launcher = launcher
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
            notices=notices_before(
                facts, [record.case.threads for record in records], {record.case.device for record in records}
            ),
        )
        self.folder.save(self.run)

    def record(self, plan: Plan, progress: Progress) -> Run:
        """Run the campaign and the profiler pass; what was finished stays when it is cut short."""
        conductor = Conductor(list(self.run.cases), plan, self._start_worker, self, progress)
        try:
            campaign = self._conduct(conductor)
            self.save_cases(conductor.cases, campaign)
            operators = self._profile(conductor)
            campaign = msgspec.structs.replace(campaign, memory_bytes=self._launcher.memory_bytes())
            self._update(state="finished", operators=operators, campaign=campaign)
            self.folder.merge_rounds()
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

    def save_round(self, number: int, blocks: Sequence[Block]) -> None:
        """Keep the blocks of a finished round."""
        self.folder.save_round(number, blocks)

    def save_cases(self, cases: Sequence[CaseRecord], campaign: Campaign) -> None:
        """Keep the records of the cases and the account of the campaign so far."""
        self._update(cases=tuple(cases), campaign=campaign)

    def _update(self, **changes: Any) -> None:  # noqa: ANN401 - fields of the record
        self.run = msgspec.structs.replace(self.run, **changes)
        self.folder.save(self.run)

    def _start_worker(self, device: str) -> Asked:
        return self._launcher.fork() if device == "cpu" else self._launcher.spawn()

    def _profile(self, conductor: Conductor) -> tuple[dict[str, Any], ...]:
        """Profile one case per device, after the timed campaign and never during it."""
        operators: list[dict[str, Any]] = []
        for device in dict.fromkeys(record.case.device for record in conductor.cases):
            records = {n: r for n, r in enumerate(conductor.cases) if r.case.device == device}
            number = reference_case({n: r.case for n, r in records.items() if r.status == "ok"})
            if number is not None:
                key = conductor.cases[number].case.key
                trace = (self.folder.path / "traces" / f"{key}.json.gz").absolute()
                request = messages.Profile(number, PROFILED_STEPS, str(trace))
                found = self._operators(conductor.workers[device, 0], request, key)
                operators += [{"case": key, **record} for record in found]
        return tuple(operators)

    def _operators(self, worker: Asked, request: messages.Profile, key: str) -> list[dict[str, Any]]:
        """Return the operators, or none and a notice where the profiler failed: the times stay good."""
        try:
            reply = worker.ask(request)
        except WorkerError as error:
            reply = messages.Refused(f"its worker process {error}")
        if isinstance(reply, messages.Profiled):
            return reply.operators
        reason = reply.reason if isinstance(reply, messages.Refused) else "no answer"
        notice = Notice(
            f"{key} could not be profiled ({reason})", "the times are complete without its operators"
        )
        self._update(notices=(*self.run.notices, notice))
        return []
