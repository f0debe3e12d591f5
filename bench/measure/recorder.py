"""The recorder: a campaign from the first worker to the last file of its run."""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec.structs

from bench.cases import reference_case
from bench.measure import messages
from bench.measure.campaign import Conductor, Plan, Progress
from bench.measure.machine import code_measured, host_name, machine_facts, notices
from bench.measure.workers import WORKER_ENVIRONMENT, Asked, Launcher, WorkerError
from bench.options import Options
from bench.runs import Block, Campaign, CaseRecord, Run, RunFolder

PROFILED_STEPS = 8


class Recorder:
    """Record one run: conduct its campaign, profile its reference cases, and keep its folder up to date."""

    def __init__(self, options: Options, records: Sequence[CaseRecord], launcher: Launcher) -> None:
        self._options = options
        self._launcher = launcher
        host = host_name()
        now = datetime.now(UTC)
        self.folder = RunFolder.create(options.results, host, now=now, short_id=secrets.token_hex(2))
        facts = {**machine_facts(WORKER_ENVIRONMENT), **launcher.hello.facts}
        self.run = Run(
            id=self.folder.path.name,
            host=host,
            started=now.isoformat(timespec="seconds"),
            state="running",
            options=options.as_record(),
            code=code_measured(Path.cwd()),
            machine=facts,
            cases=tuple(records),
            notices=notices(facts),
        )
        self.folder.save(self.run)

    def record(self, plan: Plan, progress: Progress) -> Run:
        """Run the campaign and the profiler pass; what was finished stays when it is cut short."""
        conductor = Conductor(list(self.run.cases), plan, self._start_worker, self, progress)
        try:
            campaign = conductor.run()
            self.save_cases(conductor.cases, campaign)
            operators = self._profile(conductor)
            campaign = msgspec.structs.replace(campaign, peak_memory_bytes=self._launcher.memory_bytes())
            self._update(state="finished", operators=operators, campaign=campaign)
            self.folder.merge_rounds()
        except BaseException:
            self._update(state="interrupted")
            raise
        return self.run

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
                found = _ask(conductor.workers[device, 0], request)
                operators += [{"case": key, **record} for record in found]
        return tuple(operators)


def _ask(worker: Asked, request: messages.Profile) -> list[dict[str, Any]]:
    """Return the operators, or none where the profiler failed: the times measured stay good."""
    try:
        reply = worker.ask(request)
    except WorkerError:
        return []
    return reply.operators if isinstance(reply, messages.Profiled) else []
