"""The passes after the timed campaign: what cases do is counted, and where their operators spend time."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec.structs

from bench.cases import SMALLEST_NETWORK, reference_case
from bench.measure import messages
from bench.measure.campaign import Progress
from bench.measure.workers import REQUEST_TIMEOUT_S, Asked, WorkerError
from bench.runs import CaseCounters, CaseRecord, Notice

PROFILED_STEPS = 8

StartWorker = Callable[[str], Asked]
Workers = Mapping[tuple[str, int], Asked]


def count_cases(
    records: Sequence[CaseRecord], start_worker: StartWorker, progress: Progress
) -> tuple[list[CaseRecord], list[Notice]]:
    """Return the records with what was counted of them, in a process of its own for each device."""
    workers: dict[str, Asked] = {}
    counted, notices = [], []
    for number, record in enumerate(records):
        progress("counters", number, len(records), None)
        found: CaseCounters | str | None = None
        if record.status == "ok" and needs_counters(record):
            found = _counted(record, workers, start_worker)
        if isinstance(found, str):
            notices.append(
                Notice(f"{record.case.key} could not be counted ({found})", "its times are complete without")
            )
            found = None
        counted.append(msgspec.structs.replace(record, counters=found))
    return counted, notices


def needs_counters(record: CaseRecord) -> bool:
    """Tell whether counters are needed: of cases, and of the smallest network, which is told per operator."""
    return record.role in ("", SMALLEST_NETWORK)


def _counted(record: CaseRecord, workers: dict[str, Asked], start_worker: StartWorker) -> CaseCounters | str:
    """Return the counters of a case, or in one sentence why there are none."""
    device = record.case.device
    try:
        worker = workers.setdefault(device, workers.get(device) or start_worker(device))
        reply = worker.ask(messages.Prepare(0, record.case, warm_up=False), REQUEST_TIMEOUT_S)
        if isinstance(reply, messages.Prepared):
            reply = worker.ask(messages.Count(0), REQUEST_TIMEOUT_S)
        worker.ask(messages.Forget(0), REQUEST_TIMEOUT_S)
    except WorkerError as error:
        workers.pop(device, None)
        return f"its worker process {error}"
    if isinstance(reply, messages.Counted):
        return reply.counters
    return reply.reason if isinstance(reply, messages.Refused) else "no answer"


def profile_cases(
    records: Sequence[CaseRecord], workers: Workers, folder: Path
) -> tuple[list[dict[str, Any]], list[Notice]]:
    """Profile one case of each device, and return its operators by phase; the trace goes into the folder."""
    operators: list[dict[str, Any]] = []
    notices: list[Notice] = []
    for device in dict.fromkeys(record.case.device for record in records):
        ok = {n: r.case for n, r in enumerate(records) if r.case.device == device and r.status == "ok"}
        number = reference_case(ok)
        if number is not None:
            found = _operators(workers[device, 0], number, folder / "traces" / f"{ok[number].key}.json.gz")
            if isinstance(found, str):
                cause = f"{ok[number].key} could not be profiled ({found})"
                notices.append(Notice(cause, "the times are complete without its operators"))
            else:
                operators += [{"case": ok[number].key, **record} for record in found]
    return operators, notices


def _operators(worker: Asked, number: int, trace: Path) -> list[dict[str, Any]] | str:
    try:
        reply = worker.ask(messages.Profile(number, PROFILED_STEPS, str(trace.absolute())), REQUEST_TIMEOUT_S)
    except WorkerError as error:
        return f"its worker process {error}"
    if isinstance(reply, messages.Profiled):
        return reply.operators
    return reply.reason if isinstance(reply, messages.Refused) else "no answer"
