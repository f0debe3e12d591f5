"""Launch-bound: whether the host sets the pace of every step on a device, as far as profiles show it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from nncore_bench.cases import DOES_NOT_APPLY, Case
from nncore_bench.estimate.profiles import BUSY_FROM
from nncore_bench.estimate.rows import Row
from nncore_bench.records import CaseProfile

ALIKE = 1.1
"""Call a step launch-bound if it takes at most this many times as long as a launch-bound one of its kind."""


@dataclass(frozen=True)
class LaunchBound:
    """Cases that differ in size alone, whose steps are all launch-bound.

    `example` is the profiled case whose device works longest: `device_s` of its `step_s`. The longest step
    takes `spread` times as long as the shortest.
    """

    cases: tuple[Case, ...]
    example: Case
    step_s: float
    device_s: float
    spread: float


def device_alone_s(profile: CaseProfile) -> float | None:
    """Return the seconds of kernels, copies and fills in a step; None if none was seen."""
    account = profile.account("step")
    return None if account is None or profile.device is None else account.device_s or None


def launch_bound(steps: Mapping[Case, Row], profiles: Iterable[CaseProfile]) -> list[LaunchBound]:
    """Return the groups of cases of one kind whose every step on a device waits for its host.

    A profiled step does so if its device works for less than 80 % of it. Other steps enqueue the same
    operators, which takes the host as long, so they do if they take no longer. A group does not count without
    a profiled case, or with a step that does not wait for the host.
    """
    alone = {p.case: seconds for p in profiles if not p.role and (seconds := device_alone_s(p))}
    groups: dict[Case, dict[Case, float]] = {}
    for case, row in steps.items():
        if case.on_device and row.median_s:
            kind = replace(case, batch_size=0, hidden=DOES_NOT_APPLY)
            groups.setdefault(kind, {})[case] = row.median_s
    found = (_of_group(times, {c: s for c, s in alone.items() if c in times}) for times in groups.values())
    return [group for group in found if group is not None]


def _of_group(times: Mapping[Case, float], alone: Mapping[Case, float]) -> LaunchBound | None:
    if not alone or any(seconds >= BUSY_FROM * times[case] for case, seconds in alone.items()):
        return None
    longest = ALIKE * max(times[case] for case in alone)
    if any(seconds > longest for case, seconds in times.items() if case not in alone):
        return None
    example = max(alone, key=lambda case: alone[case])
    spread = max(times.values()) / min(times.values())
    return LaunchBound(tuple(times), example, times[example], alone[example], spread)
