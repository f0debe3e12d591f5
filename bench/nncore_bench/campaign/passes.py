"""The passes after the timed campaign: count what cases do, and profile their operators."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec.structs

from nncore_bench.campaign.conductor import Progress, StartWorker
from nncore_bench.campaign.launcher import REQUEST_TIMEOUT_S, Asked, WorkerError, patience
from nncore_bench.cases import FED, safe_label
from nncore_bench.companions import COMPANIONS, SMALLEST_NETWORK, reference_case
from nncore_bench.records import CaseCounters, CaseProfile, CaseRecord, Notice
from nncore_bench.worker import messages
from nncore_bench.worker.messages import NOT_HELD

PROFILED_STEPS = 17
TRACES_FOLDER = "traces"

Workers = Mapping[tuple[str, int], Asked]


def count_cases(
    records: Sequence[CaseRecord], start_worker: StartWorker, progress: Progress
) -> tuple[list[CaseRecord], list[Notice]]:
    """Return the records with their counters, counted in a process of its own for each device."""
    workers: dict[str, Asked] = {}
    counted, notices = [], []
    for number, record in enumerate(records):
        progress("counters", number, len(records), None)
        found: CaseCounters | str | None = None
        if record.status == "ok" and (not record.role or COMPANIONS[record.role].counted):
            found = _counted(record, workers, start_worker)
        if isinstance(found, str):
            notices.append(
                Notice(f"{record.case.key} could not be counted ({found})", "its times are complete without")
            )
            found = None
        counted.append(msgspec.structs.replace(record, counters=found))
    return counted, notices


def _counted(record: CaseRecord, workers: dict[str, Asked], start_worker: StartWorker) -> CaseCounters | str:
    """Return the counters of a case, or in one sentence why there are none."""
    device = record.case.device
    try:
        worker = workers.setdefault(device, workers.get(device) or start_worker(device))
        request = messages.Prepare(0, record.case, warm_up=False)
        reply = worker.ask(request, patience(request))
        if isinstance(reply, messages.Prepared):
            reply = worker.ask(messages.Count(0), REQUEST_TIMEOUT_S)
        worker.ask(messages.Forget(0), REQUEST_TIMEOUT_S)
    except WorkerError as error:
        workers.pop(device, None)
        return f"its worker process {error}"
    if isinstance(reply, messages.Counted):
        return reply.counters
    return reply.reason if isinstance(reply, messages.Refused) else "no answer"


def profile_cases(  # noqa: PLR0913 - what a pass needs
    records: Sequence[CaseRecord],
    workers: Workers,
    start_worker: StartWorker,
    folder: Path,
    progress: Progress,
    *,
    every: bool,
) -> tuple[list[CaseProfile], list[Notice]]:
    """Profile every case, or one of each device, and the smallest network; traces go to the folder.

    The smallest network computes next to nothing, so its operators show the cost of dispatch.
    """
    chosen = to_profile(records, every=every)
    profiles, notices = [], []
    usual = {device: worker for (device, launch), worker in workers.items() if launch == 0}
    for done, number in enumerate(chosen):
        progress("profile", done, len(chosen), None)
        found = _profiled(usual, start_worker, number, records[number], folder)
        if isinstance(found, str):
            cause = f"{records[number].case.key} could not be profiled ({found})"
            notices.append(Notice(cause, "the times are complete without its operators"))
        else:
            profiles.append(found)
    return profiles, notices


def to_profile(records: Sequence[CaseRecord], *, every: bool) -> list[int]:
    """Return the numbers of the cases to profile, and of the smallest network of each of their places."""
    ok = {n: record for n, record in enumerate(records) if record.status == "ok"}
    cases = {n: record.case for n, record in ok.items() if not record.role}
    if not every:
        devices = dict.fromkeys(case.device for case in cases.values())
        chosen = [reference_case(case for case in cases.values() if case.device == one) for one in devices]
        cases = {n: case for n, case in cases.items() if case in chosen}
    places = {case.place for case in cases.values()}
    smallest = [n for n, r in ok.items() if r.role == SMALLEST_NETWORK and r.case.place in places]
    return [*cases, *smallest]


def _profiled(
    workers: dict[str, Asked], start_worker: StartWorker, number: int, record: CaseRecord, folder: Path
) -> CaseProfile | str:
    """Return the profile of a case, or in a few words why there is none.

    It runs in the worker that timed it or, if that is gone, in a new one, which later cases use as well.
    """
    device = record.case.device
    role = f"{safe_label(record.role)}-" if record.role else ""
    trace = Path(TRACES_FOLDER) / f"{role}{record.case.key}.json.gz"
    path, fed = str((folder / trace).absolute()), not {*FED}.isdisjoint(record.phases)
    request = messages.Profile(number, record.case, PROFILED_STEPS, path, fed=fed)
    try:
        if device not in workers:
            workers[device] = start_worker(device)
        reply = workers[device].ask(request, REQUEST_TIMEOUT_S)
        if isinstance(reply, messages.Refused) and NOT_HELD in reply.reason:
            prepare = messages.Prepare(number, record.case, warm_up=False)
            workers[device].ask(prepare, patience(prepare))
            reply = workers[device].ask(request, REQUEST_TIMEOUT_S)
    except WorkerError as error:
        workers.pop(device, None)
        return f"its worker process {error}"
    if isinstance(reply, messages.Profiled):
        profile = msgspec.structs.replace(reply.profile, role=record.role, trace=str(trace))
        both = (profile.disagreement, lost_kernels(profile, record))
        return msgspec.structs.replace(profile, disagreement="; ".join(filter(None, both)))
    return reply.reason if isinstance(reply, messages.Refused) else "no answer"


def lost_kernels(profile: CaseProfile, record: CaseRecord) -> str:
    """Return in words where the profile has other kernels than launches were counted, or nothing.

    Each launch is of one kernel, and a profiler that loses records (see `profiler.record`) has
    fewer. What came with a CUDA graph has no launch of its own.
    """
    counted = record.counted("step")
    if profile.device is None or counted is None or counted.kernel_launches is None:
        return ""
    seen = round((profile.device.kernels - profile.device.graph_kernels) * profile.steps)
    if seen == counted.kernel_launches * profile.steps:
        return ""
    return (
        f"the profiler saw {seen:,} kernels in {profile.steps} steps, counted {counted.kernel_launches:,}"
        " launches a step"
    )
