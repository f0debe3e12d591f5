"""The tables of profiles: operators, shares of the wall clock of a step, and the use of the device."""

from collections.abc import Iterable, Sequence
from operator import attrgetter, methodcaller

import pandas as pd
from msgspec.structs import asdict

from nncore_bench.cases import DOES_NOT_APPLY, Case, is_part
from nncore_bench.companions import reference_case
from nncore_bench.estimate.cells import Cells
from nncore_bench.estimate.profiles import busy_share, slowed_by, split_of, step_operators, unaccounted
from nncore_bench.estimate.rows import Row
from nncore_bench.records import CaseProfile, ProfiledOperator
from nncore_bench.report.counters import CEILINGS_WITHIN, least_share
from nncore_bench.text.format import count, decimals, micro, percentage, several, slowdown, span, unit_for
from nncore_bench.text.frame import NUMBERS, case_columns, identity, shared_by, shown_columns
from nncore_bench.text.table import Column, Table

ON_SCREEN = 12
PARTS = ("kernel", "copy", "memset", "runtime", "operator", "Python")
ACTIVITY = (
    Column("busy % profiled", "busy_share", attrgetter("device.busy_share"), percentage),
    Column("", "copy_share", attrgetter("device.copy_share")),
    Column("kernels/step", "kernels", attrgetter("device.kernels"), count),
    Column("gaps/step", "gaps", attrgetter("device.gaps"), count),
    Column("gaps µs/step", "gap_total_s", attrgetter("device.gap_total_s"), micro),
    Column("gap p50 µs", "gap_p50_s", attrgetter("device.gap_p50_s"), micro),
    Column("gap p95 µs", "gap_p95_s", attrgetter("device.gap_p95_s"), micro),
    Column("queue", "queue_depth", attrgetter("device.queue_depth"), lambda depth: decimals(depth, 1)),
    Column("", "graph_kernels", attrgetter("device.graph_kernels")),
)
NEVER_STEP_TIMES = (
    "From a pass of its own under torch.profiler, which slows the step: believe names, calls and shares, and"
    " take step times from the other tables."
)


def own_profiles(profiles: Sequence[CaseProfile]) -> dict[Case, CaseProfile]:
    """Return the profiles of the user's cases."""
    return {profile.case: profile for profile in profiles if not profile.role}


def operator_tables(profiles: Sequence[CaseProfile]) -> list[Table]:
    """Return the operators of one profiled case of each device; the files have those of every case."""
    own = own_profiles(profiles)
    columns = shown_columns(own)
    raw = pd.DataFrame(
        {name: getattr(case, name) for name in columns} | asdict(operator)
        for case, profile in own.items()
        for operator in profile.operators
    )
    devices = dict.fromkeys(case.device for case in own)
    shown = [own[reference_case(case for case in own if case.device == device)] for device in devices]
    names = ["operators", *(f"operators_{profile.case.device}" for profile in shown[1:])]
    return [_operator_table(name, profile, raw) for name, profile in zip(names, shown, strict=False)]


def _operator_table(name: str, profile: CaseProfile, raw: pd.DataFrame) -> Table:
    of_step = [operator for operator in profile.operators if is_part(operator.phase)]
    of_step.sort(key=lambda one: one.host_s if one.device_s is None else one.device_s, reverse=True)
    top = of_step[:ON_SCREEN]
    host, device = (unit_for(getattr(one, seconds) for one in top) for seconds in ("host_s", "device_s"))
    on_device = f"device {device.symbol}" if any(one.device_s for one in top) else ""
    columns = [
        *(Column(title, "", attrgetter(title), words=True) for title in ("phase", "operator")),
        Column("of", "", _of, words=True),
        Column("shapes", "", attrgetter("shapes"), words=True),
        Column("calls/step", "", attrgetter("calls"), lambda calls: count(calls) if calls else ""),
        Column(f"host {host.symbol}", "", attrgetter("host_s"), host.text),
        Column(on_device, "", attrgetter("device_s"), device.text),
        Column("% of phase", "", attrgetter("share"), percentage),
    ]
    caption = (
        f"The {len(top)} of {len(of_step)} lines that take longest by themselves, each without the operators"
        f" it calls. {NEVER_STEP_TIMES} The CSV has all lines of every profiled case, with shapes, types,"
        " bytes and FLOP."
    )
    return Table.of(name, f"What is in the phases of {profile.case.key}", caption, columns, top, raw=raw)


def _of(operator: ProfiledOperator) -> str:
    """Return the module of an operator and, in the backward pass, its forward operator."""
    made_by = f"{operator.made_by.removeprefix('aten::')}'s backward" if operator.made_by else ""
    return ", ".join(part for part in (operator.module, made_by) if part)


def account_table(profiles: Sequence[CaseProfile], cells: Cells) -> Table | None:
    """Return the shares of the wall clock of each profiled step, which add up; on the CPU there are three."""
    own = {case: profile for case, profile in own_profiles(profiles).items() if profile.account("step")}
    if not own:
        return None
    names = shown_columns(own)
    lines: list[dict[str, str]] = []
    raw: list[dict[str, object]] = []
    for case, profile in own.items():
        slowed = slowed_by(profile, _row(cells, case))
        calls = sum(operator.calls for operator in step_operators(profile))
        counted = {"operators": count(calls), "profiler": slowdown(slowed)}
        lines.append(identity(case, names) | _shares(profile, profiles) | counted)
        quality = {
            "profiled_step_s": profile.step_s,
            "slowed_by": slowed,
            "unaccounted": unaccounted(profile),
            "page_faults": profile.page_faults,
        }
        parameters = {name: getattr(case, name) for name in names}
        raw += [parameters | asdict(one) | {"whole_s": one.whole_s} | quality for one in profile.accounts]
    caption = (
        "Shares of the profiled step, without overlap or gap. kernels: what operators take beyond what the"
        " same take in a network with next to nothing to do; dispatch: that much, once for each call;"
        " Python: all time outside of operators. More threads can only make the kernels faster."
        " On a device: what was under way, a kernel before a copy, a memset, a call of the runtime, an"
        " operator, Python. profiler: what it adds to the step, median to median; on a device the wall clock"
        " of the profiled steps to that of plain ones."
    )
    title = f"Where the wall clock of a step goes ({shared_by(own)})"
    columns = [  # a CPU and a device fill different ones
        Column(
            name, "", methodcaller("get", name, DOES_NOT_APPLY), words=name in names and name not in NUMBERS
        )
        for name in dict.fromkeys(name for line in lines for name in line)
    ]
    return Table.of("accounting", title, caption, columns, lines, raw=pd.DataFrame(raw))


def _shares(profile: CaseProfile, profiles: Sequence[CaseProfile]) -> dict[str, str]:
    shares = split_of(profile, profiles)
    if shares is None and (account := profile.account("step")):
        shares = {part: getattr(account, f"{part.lower()}_s") / account.whole_s for part in PARTS}
    return {f"{name} %": percentage(share) for name, share in (shares or {}).items()}


def _row(cells: Cells, case: Case) -> Row | None:
    return cells.get(case, {}).get("step")


def activity_table(profiles: Sequence[CaseProfile], cells: Cells) -> Table | None:
    """Return the use of the device in the profiled steps, and the bound of each; None without a device."""
    own = {case: profile for case, profile in own_profiles(profiles).items() if profile.device}
    if not own:
        return None
    steps, busy = {case: _row(cells, case) for case in own}, "busy_share_of_plain_step"
    columns = [
        *case_columns(shown_columns(own)),
        Column("bound", "bound", lambda profile: next(iter(cells[profile.case].values())).bound, words=True),
        Column("", "kernel_s", lambda profile: getattr(steps[profile.case], "kernel_s", None)),
        Column("busy % of plain step", busy, lambda profile: busy_share(steps[profile.case]), percentage),
        *ACTIVITY,
    ]
    caption = (
        "busy: how long a kernel, a copy or a memset ran in a profiled step, as a share of the undisturbed"
        " plain step, and of the profiled one, in which the host is slower and kernels are not; gaps: idle"
        " times between them; queue: kernels enqueued and not begun when one more is. bound: data where"
        " waiting for batches takes more than half of the loop, host where the device is idle for more than a"
        " fifth of the plain step, copy where it mostly copies, else device; unknown where the step was not"
        f" timed. {NEVER_STEP_TIMES}"
    )
    title = f"How the device spends the step ({shared_by(own)})"
    return Table.of("device", title, caption, columns, own.values())


def profile_lines(profiles: Sequence[CaseProfile], cells: Cells) -> list[str]:
    """Return the checks of the profiles: their sums, agreement with the counters, and cost."""
    own = own_profiles(profiles)
    if not own:
        return []
    off = [abs(miss) for profile in own.values() if (miss := unaccounted(profile)) is not None]
    slowed = [s for case, p in own.items() if (s := slowed_by(p, _row(cells, case))) is not None]
    differing = [profile for profile in own.values() if profile.disagreement]
    cost = f"; it makes the step {span(slowed)} times as long" if slowed else ""
    line = (
        f"The profiler looked into {several(len(own), 'case')}{cost}. Its accounts miss the step by the"
        f" worker's clock by {percentage(max(off, default=None))} % at most, and it saw what was counted in"
        f" {len(own) - len(differing)} of {len(own)}."
    )
    differences = [f"Disagreement in {p.case.key}: {p.disagreement}." for p in differing[:ON_SCREEN]]
    return [line, *differences, *_too_busy(own, cells)]


def _too_busy(cases: Iterable[Case], cells: Cells) -> list[str]:
    """Return a line for every device that is surely busy for longer than the step, which is an error."""
    return [
        f"Impossible: by its profile the device is at work for {percentage(busy)} % of the plain step of"
        f" {case.key}, so one of the two is wrong, or its clock was lower while it was profiled; please"
        " report it."
        for case in cases
        if (row := _row(cells, case)) and (busy := busy_share(row)) is not None
        if busy * least_share(row) > 1 + CEILINGS_WITHIN
    ]
