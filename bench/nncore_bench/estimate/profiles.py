"""Profiles: work against dispatch, the cost of the profiler, and the bound of a step on a device."""

from collections.abc import Iterable
from statistics import median

from nncore_bench.cases import Case, is_part
from nncore_bench.companions import SMALLEST_NETWORK
from nncore_bench.estimate.rows import Row
from nncore_bench.records import CaseProfile, ProfiledOperator

HOST, DEVICE, COPY, DATA, UNKNOWN = "host", "device", "copy", "data", "unknown"
BUSY_FROM = 0.8
"""Below this share of the step at work, a device waits for its host."""

MOSTLY = 0.5


def profile_of(profiles: Iterable[CaseProfile], case: Case) -> CaseProfile | None:
    """Return the profile of a case, if it was made."""
    return next((profile for profile in profiles if profile.case == case and not profile.role), None)


def split_of(profile: CaseProfile, profiles: Iterable[CaseProfile]) -> dict[str, float] | None:
    """Return the shares of a profiled step on the CPU: kernels, dispatch, and Python with all else.

    The time of an operator in the smallest network, which computes next to nothing, is dispatch: finding the
    kernel, checking shapes, allocating the output, autograd's bookkeeping. The rest is its kernel. The
    dispatch of an operator that the smallest network lacks is the median of those that it has. The result is
    None if the profiles have no smallest network at the same place, and on a device.
    """
    account, place = profile.account("step"), profile.case.place
    smallest = next((p for p in profiles if p.role == SMALLEST_NETWORK and p.case.place == place), None)
    costs: dict[tuple[str, str, str], float] = {}
    for operator in step_operators(smallest) if smallest else ():
        costs.setdefault(_kind(operator), operator.host_s / operator.calls)
    if not costs or account is None or not account.whole_s or profile.case.on_device:
        return None
    usual = median(costs.values())
    work_s = sum(
        max(0.0, operator.host_s - operator.calls * costs.get(_kind(operator), usual))
        for operator in step_operators(profile)
    )
    kernels = min(work_s, account.operator_s) / account.whole_s
    operators = account.operator_s / account.whole_s
    return {"kernels": kernels, "dispatch": operators - kernels, "Python": 1 - operators}


def step_operators(profile: CaseProfile) -> list[ProfiledOperator]:
    """Return the operators of the step that the counters count as well."""
    return [o for o in profile.operators if o.dispatched and o.calls and is_part(o.phase)]


def _kind(operator: ProfiledOperator) -> tuple[str, str, str]:
    return operator.phase, operator.operator, operator.made_by


def slowed_by(profile: CaseProfile, row: Row | None) -> float | None:
    """Return the step time under the profiler over the median without.

    On a device the wall clock of the profiled steps is used: the host's laps, of which `median_step_s` is the
    median, end before the device has finished the step.
    """
    profiled_s = profile.step_s if profile.case.on_device else profile.median_step_s
    if row is None or not row.median_s or profiled_s is None:
        return None
    return profiled_s / row.median_s


def unaccounted(profile: CaseProfile) -> float | None:
    """Return the relative error of the account of the step against the worker's own clock."""
    account = profile.account("step")
    return None if account is None or not profile.step_s else account.whole_s / profile.step_s - 1


def device_seconds(profile: CaseProfile) -> dict[str, float]:
    """Return the seconds per step in which the device was at work, by phase and for the whole step.

    A phase has the sum of what its operators launched; the step does not count twice what ran simultaneously.
    """
    seconds: dict[str, float] = {}
    for operator in profile.operators:
        if operator.device_s is not None:
            seconds[operator.phase] = seconds.get(operator.phase, 0.0) + operator.device_s
    account = profile.account("step")
    return seconds if account is None else {**seconds, "step": account.device_s}


def busy_share(row: Row | None) -> float | None:
    """Return the share of the undisturbed time in which the device was at work; None if unknown.

    Profiling makes the host slow and leaves a kernel as it is, so the share of the profiled step would be too
    small. Above 1 either the profile or the time is wrong.
    """
    return None if row is None or row.kernel_s is None or not row.time_s else row.kernel_s / row.time_s


def bound_of(profile: CaseProfile, busy: float | None, data_share: float | None) -> str:
    """Return what bounds a training loop on a device: `data`, `copy`, `device` or `host`; else `unknown`.

    `data` where waiting for batches is more than half of the feeding loop; `host` where the device is idle
    for more than a fifth of the step, which is 1 - `busy`; `copy` where most of what it does is copying.
    """
    if data_share is not None and data_share > MOSTLY:
        return DATA
    if busy is None or profile.device is None:
        return UNKNOWN
    if busy < BUSY_FROM:
        return HOST
    return COPY if profile.device.copy_share > MOSTLY * profile.device.busy_share else DEVICE
