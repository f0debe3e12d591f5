"""The profiler's own pass: names, counts and ranks of operators, never step times."""

from bisect import bisect_right
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined] # in its __all__ no more than in its docs
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from bench.cases import STEP_PHASES
from bench.measure.counting import train_once
from bench.measure.subjects import Subject

WARM_UP_STEPS = 2
MICRO = 1e-6


def profile_steps(subject: Subject, steps: int, trace: Path) -> list[dict[str, Any]]:
    """Profile some steps, write the trace, and return the operators of each phase.

    Each record has `phase`, `operator` (as PyTorch names it), `calls_per_step`, `self_host_s` and
    `self_device_s` per step in seconds under the profiler, and `share` of the phase's self time.
    """
    activities = [ProfilerActivity.CPU]
    if subject.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    plan = schedule(wait=0, warmup=WARM_UP_STEPS, active=steps, repeat=1)
    with profile(activities=activities, schedule=plan) as profiler:
        for number in range(WARM_UP_STEPS + steps):
            labelled_step(subject, number)
            profiler.step()
    trace.parent.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(trace))
    return operators_by_phase(list(profiler.events() or []), steps)


def labelled_step(subject: Subject, number: int) -> None:
    """Run a whole step with each phase under a label of its name."""
    train_once(subject, number, record_function)
    if subject.device.type == "cuda":
        torch.cuda.synchronize()


def operators_by_phase(events: list[Any], steps: int) -> list[dict[str, Any]]:
    """Attribute each operator to the phase in whose time it began; largest share of its phase first.

    By time and not by call stack, since on CUDA the backward pass runs in a thread of its own.
    """
    # On CUDA the profiler repeats the labels with the times of the device.
    on_host = [event for event in events if event.device_type == DeviceType.CPU]
    phases = [event for event in on_host if event.name in STEP_PHASES]
    labels = sorted((phase.time_range.start, phase.time_range.end, phase.name) for phase in phases)
    starts = [start for start, _, _ in labels]
    totals: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for event in on_host:
        place = bisect_right(starts, event.time_range.start) - 1
        inside = place >= 0 and event.time_range.start <= labels[place][1]
        if not inside or not event.name.startswith("aten::"):
            continue
        total = totals[labels[place][2], event.name]
        total[0] += event.count
        total[1] += event.self_cpu_time_total
        total[2] += event.self_device_time_total
    return _records(totals, steps)


def _records(totals: dict[tuple[str, str], list[float]], steps: int) -> list[dict[str, Any]]:
    column = 2 if any(total[2] for total in totals.values()) else 1
    sums: dict[str, float] = defaultdict(float)
    for (phase, _), total in totals.items():
        sums[phase] += total[column]
    ranked = sorted(totals.items(), key=lambda item: (STEP_PHASES.index(item[0][0]), -item[1][column]))
    return [
        {
            "phase": phase,
            "operator": operator,
            "calls_per_step": calls / steps,
            "self_host_s": host * MICRO / steps,
            "self_device_s": device * MICRO / steps if column == 2 else None,  # noqa: PLR2004 - the device's column
            "share": (host, device)[column - 1] / sums[phase] if sums[phase] else 0.0,
        }
        for (phase, operator), (calls, host, device) in ranked
    ]
