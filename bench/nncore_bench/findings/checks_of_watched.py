"""Checks of a watched run: what its own loop, its data, its compiled parts and its memory cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import PurePath
from typing import Any

import numpy as np

from nncore_bench.estimate.observed import Observed
from nncore_bench.findings.finding import Finding, found
from nncore_bench.runs import NANO
from nncore_bench.watch.fold import Watched
from nncore_bench.watch.phases import WAITING

WORTH = 0.05
"""Waiting, or an optimizer, of a smaller share of the step is not worth a change of the loop."""

WORTH_READING = 0.01
FEWEST_TENSORS = 5
KILO = 1024
GROWTH = 0.02
"""Memory that grows by a smaller share of itself in the second half of a run is no leak."""

FEWEST_READINGS = 10


@dataclass(frozen=True)
class WatchedEvidence:
    """What is known of a watched run: its phases by name, and the facts of its process."""

    phases: Mapping[str, Observed]
    watched: Watched
    facts: Mapping[str, Any]
    steps: int

    @property
    def step_s(self) -> float:
        """The mean step."""
        return self.phases["step"].mean.value

    @property
    def examined(self) -> Mapping[str, Any]:
        """What was seen where steps were examined."""
        seen: Mapping[str, Any] = self.facts.get("examined") or {}
        return seen


def findings_of_watched(
    lines: Sequence[Observed], watched: Watched, facts: Mapping[str, Any], steps: int
) -> list[Finding]:
    """Return what costs time in a watched run, the costliest first, those of unknown cost last."""
    known = WatchedEvidence({line.phase: line for line in lines}, watched, facts, steps)
    seen = [replace(one, check=name) for name, check in CHECKS.items() if (one := check(known))]
    return sorted(seen, key=lambda one: -1.0 if one.gain_s is None else one.gain_s, reverse=True)


def waiting_for_data(known: WatchedEvidence) -> Finding | None:
    """Find a loop that waits for its DataLoader, and what that does meanwhile."""
    waiting = known.phases.get(WAITING)
    if waiting is None or waiting.share < WORTH:
        return None
    figures = {"time_s": waiting.mean.value, "share": waiting.share}
    main, *workers = known.examined.get("fetched") or [{}]
    by = workers or [main]
    batches = sum(one.get("batches", 0) for one in by)
    if not batches:
        return found("waits for data", WAITING, waiting.mean.value, "time of data", **figures)
    whole, transform, collate = (
        sum(one[name] for one in by) / batches * NANO for name in ("whole_ns", "transform_ns", "collate_ns")
    )
    figures |= {
        "batch_s": whole,
        "transform_s": transform,
        "collate_s": collate,
        "dataset_s": whole - transform - collate,
    }
    if not workers:
        return found("fetches itself", WAITING, waiting.mean.value, "time of data", **figures)
    handed = known.examined.get("handed") or {}
    hand_over = handed["ready_ns"] / handed["ready"] * NANO if handed.get("ready") else None
    needed = ceil(whole / max(known.step_s - waiting.mean.value, NANO))
    return found(
        "workers too slow" if needed > len(workers) else "waits for workers",
        WAITING,
        waiting.mean.value,
        "time of data",
        **figures,
        workers=len(workers),
        needed=needed,
        handing_s=hand_over,
    )


def synchronisation(known: WatchedEvidence) -> Finding | None:
    """Find lines that wait for the value of a tensor."""
    reads, steps = known.examined.get("reads") or [], known.examined.get("steps") or 1
    costly = [one for one in reads if one["ns"] * NANO / steps > WORTH_READING * known.step_s]
    if not costly:
        return None
    first = costly[0]
    waits_s = sum(one["ns"] for one in costly) * NANO / steps
    return found(
        "waits at lines",
        "other",
        waits_s,
        "waits measured",
        time_s=waits_s,
        busiest=f"{named(first['where'])} ({first['call']} of a tensor on {first['device']})",
        more_sites=len(costly) - 1,
    )


def optimizer_loop(known: WatchedEvidence) -> Finding | None:
    """Find an optimizer that goes through its tensors one by one, though it has a fused form."""
    phase = known.phases.get("optimizer")
    if phase is None or phase.share < WORTH:
        return None
    for one in known.facts.get("optimizer_forms") or []:
        if one["fused"] is False and one["tensors"] >= FEWEST_TENSORS:
            return found(
                "optimizer not fused",
                "optimizer",
                phase.mean.value,
                "whole optimizer",
                optimizer=one["name"],
                tensors=one["tensors"],
                share=phase.share,
            )
    return None


def compiled_again(known: WatchedEvidence) -> Finding | None:
    """Find code that torch.compile compiled again and again, while it was watched."""
    compiled = known.facts.get("compiled") or []
    again = [one for number, one in enumerate(compiled) if one["again"] or _repeats(compiled[:number], one)]
    if not again:
        return None
    took_s = sum(one["took_s"] or 0.0 for one in again)
    last = again[-1]
    return found(
        "compiled again",
        "forward",
        took_s / max(known.steps, 1) if took_s else None,
        "compiling spread" if took_s else "compiling not timed",
        again_times=len(again),
        place=f"{named(last['where'])} ({last['function']})",
        why=last["again"] or "this torch does not say why",
    )


def _repeats(earlier: Sequence[Mapping[str, Any]], one: Mapping[str, Any]) -> bool:
    """Return whether a compilation, whose reason torch does not tell before 2.6, is one of the same code.

    In the first steps, many objects of a class may each have their own.
    """
    same = any((one["where"], one["function"]) == (other["where"], other["function"]) for other in earlier)
    return same and one["before_step"] > earlier[0]["before_step"]


def graph_breaks(known: WatchedEvidence) -> Finding | None:
    """Find lines at which compiled code falls back to Python."""
    breaks = known.facts.get("breaks") or []
    if not breaks:
        return None
    places = {named(one["where"]): one for one in breaks}
    where, first = next(iter(places.items()))
    line = f": {first['line'].strip()}" if first["line"] else ""
    return found(
        "graph breaks",
        "forward",
        None,
        "breaks not timed",
        break_times=len(places),
        place=f"{where}{line}",
        why=first["why"],
    )


def memory_growth(known: WatchedEvidence) -> Finding | None:
    """Find memory that grows to the end: in the second half of the run, in most of its pairs of readings."""
    for column, where in ((2, "on the device"), (1, "in RAM")):
        readings = [(row[0], row[column]) for row in known.watched.memory_kb if row[column]]
        late = np.array(readings[len(readings) // 2 :], dtype=float)
        if len(late) < FEWEST_READINGS:
            continue
        earlier, later = np.triu_indices(len(late), 1)
        slopes = (late[later, 1] - late[earlier, 1]) / (late[later, 0] - late[earlier, 0])
        low, slope = np.quantile(slopes, [0.1, 0.5])
        grown = slope * (late[-1, 0] - late[0, 0])
        if low > 0 and grown > GROWTH * late[0, 1]:
            return found(
                "memory grows",
                "step",
                None,
                "no time",
                kept_bytes=slope * KILO,
                place=where,
                grown_bytes=(late[-1, 1] - readings[0][1]) * KILO,
            )
    return None


CHECKS: Mapping[str, Callable[[WatchedEvidence], Finding | None]] = {
    "waiting-for-data": waiting_for_data,
    "synchronisation": synchronisation,
    "optimizer-loop": optimizer_loop,
    "compiled-again": compiled_again,
    "graph-breaks": graph_breaks,
    "memory-growth": memory_growth,
}


def named(where: str) -> str:
    """Return a file and line by the last two parts of the path."""
    return "/".join(PurePath(where).parts[-2:])
