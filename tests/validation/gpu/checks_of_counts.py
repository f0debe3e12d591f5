"""Whether what was counted is what is known, and whether the profiler lost nothing."""

from collections.abc import Iterator, Mapping

from checks_of_steps import steps_on_device
from claims import Claim, Finding, Told, listed
from day import Measured

from nncore_bench.cases import SIMPLENN, Case
from nncore_bench.estimate.profiles import unaccounted
from nncore_bench.records import Account, CaseCounters, CaseProfile, CaseRecord, DeviceActivity

INPUTS, CLASSES = 784, 10
MOST_UNACCOUNTED = 0.03
MOST_BUSY = 1.05
"""Of the plain step: the profile and the step are of different minutes."""

LESS_BUSY = 0.03


def checks_of_counters(run: Measured) -> Iterator[Finding]:
    """Check the counters of plain steps."""
    plain = [r for r in run.source.run.cases if r.case.variant == "eager" and r.status == "ok"]
    counted = {record.case: record.counters for record in plain if record.counters is not None}
    missing = [record.case.key for record in plain if record.counters is None]
    yield listed(Claim.COUNTED, missing, f"{len(counted)}")
    yield from _undisturbed(counted)
    own = {case: counters for case, counters in counted.items() if case.subject == SIMPLENN}
    wrong = [
        f"{case.key}: {counters.phases['step'].flop}, not {flop_of(case)}"
        for case, counters in own.items()
        if counters.phases["step"].flop != flop_of(case)
    ]
    if own:
        yield listed(Claim.FLOP, wrong, f"{len(own)} cases")


def flop_of(case: Case) -> int:
    """Return the FLOP of a step of the SimpleNN.

    Forward multiplies by both weights; backward gives the gradient of each weight and, of the second layer
    alone, of its inputs.
    """
    first = 2 * case.batch_size * INPUTS * int(case.hidden)
    second = 2 * case.batch_size * int(case.hidden) * CLASSES
    return 2 * first + 3 * second


def _undisturbed(counted: Mapping[Case, CaseCounters]) -> Iterator[Finding]:
    """Yield which steps on the device wait, copy or leak; a scaled one has to look whether it overflowed."""
    steps = {
        case: (
            counters.phases["step"].synchronisations,
            counters.phases["step"].copies,
            counters.leaked_bytes,
        )
        for case, counters in counted.items()
        if case.device == "cuda" and case.precision != "float16"
    }
    wrong = [
        f"{case.key}: {waits} waits {counted[case].waits}, {copies} copies, {leaked} bytes leaked"
        for case, (waits, copies, leaked) in steps.items()
        if (waits, copies, leaked) != (0, 0, 0)
    ]
    if steps:
        yield listed(Claim.UNDISTURBED, wrong, f"{len(steps)} cases")


def checks_of_profiles(run: Measured) -> Iterator[Finding | Told]:
    """Check the profiles of cases on the device."""
    profiles = [p for p in run.source.run.profiles if p.case.device == "cuda" and not p.role]
    yield from _made(run, {profile.case for profile in profiles})
    if not profiles:
        return
    differing = [f"{profile.case.key}: {p}" for profile in profiles if (p := profile.disagreement)]
    yield listed(Claim.AGREEMENT, differing, f"{len(profiles)} cases")
    off = {p.case.key: share for p in profiles if (share := unaccounted(p)) is not None}
    far = [f"{key}: {share:+.1%}" for key, share in off.items() if abs(share) > MOST_UNACCOUNTED]
    yield listed(Claim.ACCOUNT, far, f"{max(map(abs, off.values()), default=0.0):.1%} off at most")
    active = {profile: profile.device for profile in profiles if profile.device is not None}
    idle = [profile.case.key for profile in profiles if profile.device is None]
    shares = [f"{p.case.key}: {of.busy_share:.2f}" for p, of in active.items() if not 0 < of.busy_share <= 1]
    yield listed(Claim.BUSY, [*idle, *shares], f"{len(active)} cases")
    yield from _kernels(run.source.run.cases, active)
    yield from _busy_of_plain(run, active)


def _made(run: Measured, profiled: set[Case]) -> Iterator[Finding]:
    """Yield which cases have no profile: of all, if they were to be profiled, else of the device."""
    own = run.source.run
    cases = [r.case for r in own.cases if r.case.device == "cuda" and r.status == "ok" and "step" in r.phases]
    if own.options.get("profile"):
        missing = [case.key for case in cases if case not in profiled]
    elif run.stage == "default":
        missing = [] if profiled or not cases else ["the device"]
    else:
        return
    yield listed(Claim.PROFILED, missing, f"{len(profiled)}")


def _kernels(
    records: tuple[CaseRecord, ...], active: Mapping[CaseProfile, DeviceActivity]
) -> Iterator[Finding]:
    launched = {
        record.case: record.counters.phases["step"].kernel_launches
        for record in records
        if record.counters is not None and record.case.variant == "eager"
    }
    seen = {
        profile.case.key: (device.kernels, count)
        for profile, device in active.items()
        if (count := launched.get(profile.case)) is not None
    }
    if seen:
        lost = [f"{key}: {n:.1f} of {count}" for key, (n, count) in seen.items() if round(n) != count]
        counts = [count for _, count in seen.values()]
        yield listed(Claim.KERNELS, lost, f"{min(counts)} to {max(counts)} a step")


def _busy_of_plain(run: Measured, active: Mapping[CaseProfile, DeviceActivity]) -> Iterator[Finding | Told]:
    """Yield how busy the device is in the undisturbed step.

    The profiler makes the host slow and leaves kernels as they are: the same seconds of a shorter step.
    """
    steps, wrong, told = steps_on_device(run), [], []
    for profile, device in active.items():
        account, row = profile.account("step"), steps.get(profile.case)
        if account is None or row is None or not row.time_s:
            continue
        busy = _device_s(account) / row.time_s
        figure = f"busy {busy:.0%} of the plain step, {device.busy_share:.0%} of the profiled one"
        told.append(Told(profile.case.key, f"{figure}, bound {row.bound}, queue {device.queue_depth:.1f}"))
        if not device.busy_share - LESS_BUSY <= busy <= MOST_BUSY:
            wrong.append(f"{profile.case.key}: {figure}")
    if told:
        yield listed(Claim.BUSY_OF_PLAIN, wrong, f"{len(told)} cases")
    yield from told


def _device_s(account: Account) -> float:
    return account.kernel_s + account.copy_s + account.memset_s
