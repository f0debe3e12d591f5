"""The profiler's pass: the contents of each phase, never the time of a step."""

import resource
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from msgspec.structs import replace
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from nncore_bench.cases import FED, STEP_PHASES, Case
from nncore_bench.records import CaseProfile
from nncore_bench.runs import NANO
from nncore_bench.worker.blocks import no_collection
from nncore_bench.worker.counters.operators import Call, count_operators
from nncore_bench.worker.counters.steps import labelled
from nncore_bench.worker.profile.attribution import (
    WHOLE,
    Windows,
    parts_of,
    rows_of_profile,
    with_calls,
    with_device_time,
    with_makers,
)
from nncore_bench.worker.profile.breakdown import Interval, account_of, activity_of, length
from nncore_bench.worker.profile.modules import running_modules
from nncore_bench.worker.profile.trace import ON_DEVICE, RUNTIME, Event, nested, read_trace
from nncore_bench.worker.subjects.batches import moved
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
    laps, page_faults = record(subject, steps, trace, fed=fed)
    calls = {} if subject.replays else calls_of(subject)
    found = read_profile(case, read_trace(trace), laps, calls, composite_operators(calls), subject.parts)
    return replace(found, page_faults=page_faults)


def record(subject: Subject, steps: int, trace: Path, *, fed: bool = True) -> tuple[list[Interval], float]:
    """Profile some steps, with each phase under a label of its name, and write the trace.

    Return the intervals of the steps by the worker's own clock, and the page faults per step.

    Warm-up must be in the same session: in the k-th session of a process the first k kernel records have
    wrong times and are dropped (pytorch issue 192021), and those must not belong to counted steps. An empty
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
    return laps, faults / steps


def _steps(subject: Subject, steps: int) -> list[Interval]:
    run, times = _labelled(subject), []
    for number in range(steps):
        times.append(time.perf_counter_ns())
        run(number)
    if subject.device.type == "cuda":
        torch.cuda.synchronize()
    times.append(time.perf_counter_ns())
    return list(pairwise(times))


def _labelled(subject: Subject) -> Callable[[int], None]:
    """Return a function that runs a step under a label, with labels of its phases if it is not replayed."""
    replay = subject.iteration("plain") if subject.replays else None

    def run(number: int) -> None:
        with record_function(WHOLE):
            if replay is None:
                subject.train_in_phases(number, labelled())
            else:
                replay(number, lambda: None)

    return run


def _feed(subject: Subject, times: int) -> None:
    for _ in range(times):
        with record_function("data"):
            inputs, targets = next(subject.feed)
        with nullcontext() if subject.device.type == "cpu" else record_function("copy"):
            inputs, targets = moved((inputs, targets), subject.device)


def calls_of(subject: Subject) -> dict[str, list[Call]]:
    """Return the operator calls of each phase of a step in order, with their shapes, work and modules."""
    with subject.mode("plain"), running_modules(subject.models) as modules:
        counted = count_operators(subject, modules)
    subject.restore()
    return {phase: counted[phase].calls for phase in subject.parts}


def composite_operators(calls: Mapping[str, Sequence[Call]]) -> set[str]:
    """Return the names of all composite operators, except those that the step itself dispatched.

    `detach_` is included, which torch.tensor calls on its result where no dispatch mode sees it.
    """
    registered = torch._C._dispatch_get_registrations_for_dispatch_key(COMPOSITE)  # noqa: SLF001 - the only list
    dispatched = {call.operator for of_phase in calls.values() for call in of_phase}
    return {"aten::detach_", *(name.partition(".")[0] for name in registered)} - dispatched


def read_profile(  # noqa: PLR0913, PLR0917 - what is known of the profiled steps
    case: Case,
    events: Sequence[Event],
    laps: Sequence[Interval],
    calls: Mapping[str, Sequence[Call]],
    composites: Collection[str],
    phases: Sequence[str] = STEP_PHASES,
) -> CaseProfile:
    """Return the profile of a case from the events of its trace; raises ValueError without a whole step.

    `laps` are the intervals of the steps by the worker's own clock, `calls` the operator calls that the
    counters saw, `composites` the names of operators that only call others, and `phases` the parts of a step.
    """
    nodes = nested(events)
    everything = Windows.of(nodes, phases)
    if not everything.steps:
        raise ValueError("the trace contains no complete step")
    on_device = case.device == "cuda"
    windows = everything if on_device else everything.quiet_half(laps)
    parts, disagreement = with_calls(parts_of(nodes, windows, composites), calls, len(windows.steps))
    parts = with_device_time(with_makers(parts), nodes, events)
    window = _steps_and_drain(everything, events)
    if on_device:
        accounts = [account_of("step", [window], events, len(laps))]
        step_s = (laps[-1][1] - laps[0][0]) * NANO / len(laps)
    else:
        accounts = [
            account_of(phase, times, events, windows.count(phase))
            for phase in (*FED, *phases, WHOLE)
            if (times := windows.of_phase(phase))
        ]
        quiet = [laps[everything.steps.index(step)] for step in windows.steps]
        step_s = length(quiet) * NANO / len(quiet)
    return CaseProfile(
        case,
        len(windows.steps),
        step_s,
        tuple(accounts),
        rows_of_profile(parts, windows, phases, on_device=on_device),
        median_step_s=median(end - start for start, end in laps) * NANO,
        device=activity_of(window, len(everything.steps), events),
        disagreement=disagreement,
    )


def _steps_and_drain(windows: Windows, events: Sequence[Event]) -> Interval:
    """Return the interval from the first step until the device has finished the last, before any feeding."""
    first, last = windows.of_phase("step")[0][0], windows.of_phase("step")[-1][1]
    fed = min((start for name in FED for start, _ in windows.of_phase(name)), default=None)
    ends = [
        event.end_ns
        for event in events
        if event.category in (*ON_DEVICE, *RUNTIME)
        and event.start_ns >= first
        and (fed is None or event.start_ns < fed)
    ]
    return first, max([last, *ends])
