"""The profiler's pass, which shows what a phase consists of, never how long a step takes."""

import resource
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from nncore_bench.cases import FED, STEP_PHASES, Case
from nncore_bench.records import Account, CaseProfile
from nncore_bench.runs import NANO
from nncore_bench.worker.blocks import no_collection
from nncore_bench.worker.counters.operators import Call, count_operators
from nncore_bench.worker.counters.steps import train_once
from nncore_bench.worker.profile.attribution import (
    WHOLE,
    Windows,
    device_ns,
    parts_of,
    rows_of_profile,
    with_calls,
    with_makers,
)
from nncore_bench.worker.profile.breakdown import Interval, account_of, activity_of
from nncore_bench.worker.profile.modules import running_modules
from nncore_bench.worker.profile.trace import ON_DEVICE, RUNTIME, Event, nested, read_trace
from nncore_bench.worker.subjects.subject import Subject

WARM_UP_STEPS = 3
FED_SHARE = 2
"""Steps profiled for each batch that is fed."""

COMPOSITE = "CompositeImplicitAutograd"


def profile_case(subject: Subject, case: Case, steps: int, trace: Path, *, fed: bool = True) -> CaseProfile:
    """Profile some steps of a case (and with `fed` some batches), write the trace, and return its contents.

    Times are of the quicker half of the profiled steps, which were undisturbed; on an asynchronous device
    they are of all steps, from the beginning of the first to the end of the last kernel.
    """
    recorded = record(subject, steps, trace, fed=fed)
    calls = {} if subject.replays else calls_of(subject)
    return read_profile(case, read_trace(trace), recorded, calls, composite_operators(calls))


@dataclass(frozen=True)
class Recorded:
    """The worker's own record of the steps: their intervals by its clock, and page faults per step."""

    laps: Sequence[Interval]
    page_faults: float


def record(subject: Subject, steps: int, trace: Path, *, fed: bool = True) -> Recorded:
    """Profile some steps, with each phase under a label of its name, and write the trace.

    Warm-up must be in the same session: in the k-th session of a process the first k kernel records have
    wrong times and are dropped (pytorch issue 192021), and those must not be of steps that count. An empty
    session beforehand does not help: torch 2.13 on CUDA 13 saw no kernel after one.
    """
    on_device = subject.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_device else [])]
    trace.parent.mkdir(parents=True, exist_ok=True)
    subject.restore()
    # One cycle of the schedule for all steps: a cycle per step would show up between them.
    with (
        no_collection(),
        subject.mode("plain"),
        profile(activities=activities, schedule=schedule(wait=0, warmup=1, active=1, repeat=1)) as profiler,
    ):
        _steps(subject, WARM_UP_STEPS)
        _feed(subject, int(fed))
        profiler.step()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        laps = _steps(subject, steps)
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        _feed(subject, max(1, steps // FED_SHARE) if fed else 0)
        profiler.step()
    profiler.export_chrome_trace(str(trace))
    subject.restore()
    return Recorded(laps, faults / steps)


def _steps(subject: Subject, steps: int) -> list[tuple[int, int]]:
    run, times = _labelled(subject), []
    for number in range(steps):
        times.append(time.perf_counter_ns())
        run(number)
    if subject.device.type == "cuda":
        torch.cuda.synchronize()
    times.append(time.perf_counter_ns())
    return list(pairwise(times))


def _labelled(subject: Subject) -> Callable[[int], None]:
    """Return a function that runs a step with labelled phases, or under one label if it is replayed."""
    if not subject.replays:
        return lambda number: train_once(subject, number, record_function)
    replay = subject.iteration("plain")

    def replayed(number: int) -> None:
        with record_function(WHOLE):
            replay(number, lambda: None)

    return replayed


def _feed(subject: Subject, times: int) -> None:
    for _ in range(times):
        with record_function("data"):
            inputs, targets = next(subject.feed)
        with nullcontext() if subject.device.type == "cpu" else record_function("copy"):
            inputs, targets = inputs.to(subject.device), targets.to(subject.device)


def calls_of(subject: Subject) -> dict[str, list[Call]]:
    """Return the operator calls of each phase of a step in order, with their shapes, work and modules."""
    with subject.mode("plain"), running_modules(subject.step.model) as modules:
        counters = count_operators(subject, modules)
    subject.restore()
    return {phase: counters[phase].calls for phase in STEP_PHASES}


def composite_operators(calls: Mapping[str, Sequence[Call]]) -> set[str]:
    """Return the names of all composite operators, except those that the step itself dispatched.

    `detach_` is included, which torch.tensor calls on its result where no dispatch mode sees it.
    """
    registered = torch._C._dispatch_get_registrations_for_dispatch_key(COMPOSITE)  # noqa: SLF001 - the only list
    dispatched = {call.operator for of_phase in calls.values() for call in of_phase}
    return {"aten::detach_", *(name.partition(".")[0] for name in registered)} - dispatched


def read_profile(
    case: Case,
    events: Sequence[Event],
    recorded: Recorded,
    calls: Mapping[str, Sequence[Call]],
    composites: Collection[str],
) -> CaseProfile:
    """Return the profile of a case from the events of its trace; raises ValueError without a whole step."""
    nodes = nested(events)
    everything = Windows.of(nodes)
    if not everything.steps:
        raise ValueError("the trace contains no complete step")
    on_device = case.device == "cuda"
    windows = everything if on_device else everything.quiet_half(recorded.laps)
    parts, disagreement = with_calls(parts_of(nodes, windows, composites), calls, len(windows.steps))
    parts = with_makers(parts)
    rows = rows_of_profile(parts, windows, device_ns(parts, nodes, events), on_device=on_device)
    window = _steps_and_drain(everything, events)
    if on_device:
        shares = account_of("step", [window], events)
        accounts = [_per_step(shares, len(recorded.laps))]
        step_s = (recorded.laps[-1][1] - recorded.laps[0][0]) * NANO / len(recorded.laps)
    else:
        accounts = [
            account_of(p, windows.of_phase(p), events) for p in (*FED, *STEP_PHASES) if windows.of_phase(p)
        ]
        accounts.append(account_of("step", windows.of_phase("step"), events))
        laps = [recorded.laps[everything.steps.index(step)] for step in windows.steps]
        step_s = sum(end - start for start, end in laps) * NANO / len(laps)
    return CaseProfile(
        case,
        len(windows.steps),
        step_s,
        tuple(accounts),
        rows,
        median_step_s=median(end - start for start, end in recorded.laps) * NANO,
        device=activity_of(window, len(everything.steps), events),
        disagreement=disagreement,
        page_faults=recorded.page_faults,
    )


def _steps_and_drain(windows: Windows, events: Sequence[Event]) -> Interval:
    """Return the interval from the first step until the device has finished the last, before any feeding."""
    first, last = windows.of_phase("step")[0][0], windows.of_phase("step")[-1][1]
    fed = min((start for feed in windows.feeds for start, _ in feed.values()), default=None)
    ends = [
        event.end_ns
        for event in events
        if event.category in (*ON_DEVICE, *RUNTIME)
        and event.start_ns >= first
        and (fed is None or event.start_ns < fed)
    ]
    return first, max([last, *ends])


def _per_step(account: Account, steps: int) -> Account:
    seconds = {name: getattr(account, name) / steps for name in account.__struct_fields__ if name != "phase"}
    return Account(account.phase, **seconds)
