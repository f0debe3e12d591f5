"""The passes after the timed campaign: count what cases do, and profile their operators."""

import time
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path

import msgspec.structs

from nncore_bench.campaign.conductor import OVER, Progress, StartWorker
from nncore_bench.campaign.launcher import Asked, answer_of
from nncore_bench.cases import FED, safe_label
from nncore_bench.companions import COMPANIONS, SMALLEST_NETWORK, reference_case
from nncore_bench.records import VARIES, CaseProfile, CaseRecord, Notice
from nncore_bench.worker import messages
from nncore_bench.worker.blocks import LEAST_ITERATIONS

PROFILED_STEPS, OF_LONG_ONES = 17, 4
TRACES_FOLDER = "traces"


def count_cases(
    records: Sequence[CaseRecord], start_worker: StartWorker, progress: Progress, until: float = inf
) -> tuple[list[CaseRecord], list[Notice]]:
    """Return the records with their counters, counted in a process of its own for each device.

    Those of which it has not begun at a moment of the monotonic clock are left out.
    """
    workers: dict[str, Asked] = {}
    counted, notices = list(records), []
    for number, record in enumerate(records):
        progress("counters", number, len(records), None)
        if record.status != "ok" or (record.role and not COMPANIONS[record.role].counted):
            continue
        requests = messages.Prepare(0, record.case, warm_up=False), messages.Count(0), messages.Forget(0)
        found: messages.Counted | str = OVER
        if time.monotonic() < until:
            found = answer_of(messages.Counted, workers, start_worker, record.case.device, *requests)
        if isinstance(found, str):
            cause = f"{record.case.key} could not be counted ({found})"
            notices.append(Notice(cause, "its times are complete without"))
        else:
            counted[number] = msgspec.structs.replace(record, counters=found.counters)
    return counted, notices


def profile_cases(  # noqa: PLR0913 - what a pass needs
    records: Sequence[CaseRecord],
    workers: Mapping[tuple[str, int], Asked],
    start_worker: StartWorker,
    folder: Path,
    progress: Progress,
    *,
    every: bool,
) -> tuple[list[CaseProfile], list[Notice]]:
    """Profile every case, or one of each device, and the smallest network; traces go to the folder.

    Each is profiled in the first launch's worker, which timed it, or in a new one if that is gone. The
    smallest network computes next to nothing, so its operators show the cost of dispatch.
    """
    chosen = to_profile(records, every=every)
    profiles, notices = [], []
    usual = {device: worker for (device, launch), worker in workers.items() if launch == 0}
    for done, number in enumerate(chosen):
        progress("profile", done, len(chosen), None)
        record = records[number]
        role = f"{safe_label(record.role)}-" if record.role else ""
        trace = Path(TRACES_FOLDER) / f"{role}{record.case.key}.json.gz"
        path, fed = str((folder / trace).absolute()), not {*FED}.isdisjoint(record.phases)
        long = min(record.steps_per_block.values(), default=LEAST_ITERATIONS) < LEAST_ITERATIONS
        steps = OF_LONG_ONES if long else PROFILED_STEPS
        request = messages.Profile(number, record.case, steps, path, fed=fed)
        found = answer_of(messages.Profiled, usual, start_worker, record.case.device, request)
        if isinstance(found, str):
            cause = f"{record.case.key} could not be profiled ({found})"
            notices.append(Notice(cause, "the times are complete without its operators"))
        else:
            disagreements = [found.profile.disagreement, lost_kernels(found.profile, record)]
            if record.correct.get(VARIES):  # one step was counted, and others were profiled
                disagreements.clear()
            changes = {"disagreement": "; ".join(filter(None, disagreements)), "trace": str(trace)}
            profiles.append(msgspec.structs.replace(found.profile, role=record.role, **changes))
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
