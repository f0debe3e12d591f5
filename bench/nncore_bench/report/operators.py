"""What is in the phases: operators, and where the wall clock of a profiled step goes."""

from collections.abc import Callable, Iterable, Sequence

import pandas as pd
from msgspec.structs import asdict

from nncore_bench.cases import DOES_NOT_APPLY, STEP_PHASES, Case
from nncore_bench.companions import reference_case
from nncore_bench.estimate.cells import Cells
from nncore_bench.estimate.profiles import busy_share, slowed_by, smallest_of, split_of, unaccounted
from nncore_bench.estimate.rows import Row
from nncore_bench.records import CaseProfile, DeviceActivity, ProfiledOperator
from nncore_bench.report.counters import CEILINGS_WITHIN, least_share
from nncore_bench.text.format import (
    count,
    decimals,
    in_unit,
    micro,
    percentage,
    several,
    slowdown,
    span,
    unit_for,
)
from nncore_bench.text.frame import case_columns, identity, shared_by, shown_columns
from nncore_bench.text.table import Column, Table

ON_SCREEN = 12
PARTS = ("kernel_s", "copy_s", "memset_s", "runtime_s", "operator_s", "python_s")
ACTIVITY: dict[str, tuple[str, Callable[[float], str]]] = {
    "busy_share": ("busy % profiled", percentage),
    "kernels": ("kernels/step", count),
    "gaps": ("gaps/step", count),
    "gap_total_s": ("gaps µs/step", micro),
    "gap_p50_s": ("gap p50 µs", micro),
    "gap_p95_s": ("gap p95 µs", micro),
    "queue_depth": ("queue", lambda depth: decimals(depth, 1)),
}
NEVER_STEP_TIMES = (
    "From a pass of its own under torch.profiler, which slows the step: believe names, calls and shares, and"
    " take step times from the other tables."
)


def own_profiles(profiles: Sequence[CaseProfile]) -> dict[Case, CaseProfile]:
    """Return the profiles of the user's cases."""
    return {profile.case: profile for profile in profiles if not profile.role}


def operator_tables(profiles: Sequence[CaseProfile]) -> list[Table]:
    """Return the operators of one profiled case of each device; the first file has those of every case."""
    own = own_profiles(profiles)
    columns = shown_columns(own)
    raw = [
        {name: getattr(case, name) for name in columns} | asdict(operator)
        for case, profile in own.items()
        for operator in profile.operators
    ]
    tables: list[Table] = []
    for device in dict.fromkeys(case.device for case in own):
        reference = reference_case(case for case in own if case.device == device)
        name = f"operators_{device}" if tables else "operators"
        tables.append(_operator_table(name, own[reference], pd.DataFrame(raw)))
    return tables


def _operator_table(name: str, profile: CaseProfile, raw: pd.DataFrame) -> Table:
    of_step = [operator for operator in profile.operators if operator.phase in STEP_PHASES]
    top = sorted(of_step, key=_self_time, reverse=True)[:ON_SCREEN]
    caption = (
        f"The {len(top)} of {len(of_step)} lines that take longest by themselves, each without the operators"
        f" it calls. {NEVER_STEP_TIMES} The CSV has all lines of every profiled case, with shapes, types,"
        " bytes and FLOP."
    )
    title = f"What is in the phases of {profile.case.key}"
    return Table(name, title, caption, pd.DataFrame(_lines(top)), raw)


def _lines(operators: Sequence[ProfiledOperator]) -> list[dict[str, str]]:
    host, device = (unit_for(getattr(o, name) for o in operators) for name in ("host_s", "device_s"))
    on_device = any(operator.device_s for operator in operators)
    return [
        {
            "phase": operator.phase,
            "operator": operator.operator,
            "of": _of(operator),
            "shapes": operator.shapes,
            "calls/step": count(operator.calls) if operator.calls else "",
            f"host {host.symbol}": in_unit(operator.host_s, host.seconds),
            **({f"device {device.symbol}": in_unit(operator.device_s, device.seconds)} if on_device else {}),
            "% of phase": percentage(operator.share),
        }
        for operator in operators
    ]


def _of(operator: ProfiledOperator) -> str:
    """Return the module of an operator and, in the backward pass, its forward operator."""
    made_by = f"{operator.made_by.removeprefix('aten::')}'s backward" if operator.made_by else ""
    return ", ".join(part for part in (operator.module, made_by) if part)


def _self_time(operator: ProfiledOperator) -> float:
    return operator.host_s if operator.device_s is None else operator.device_s


def account_table(profiles: Sequence[CaseProfile], cells: Cells) -> Table | None:
    """Return where the wall clock of each profiled step goes, in shares that add up; on the CPU in three."""
    own = {case: profile for case, profile in own_profiles(profiles).items() if profile.account("step")}
    if not own:
        return None
    columns = shown_columns(own)
    lines = [
        identity(case, columns)
        | _shares(profile, profiles)
        | {"operators": count(_calls(profile)), "profiler": slowdown(slowed_by(profile, _row(cells, case)))}
        for case, profile in own.items()
    ]
    raw = [
        {**{name: getattr(case, name) for name in columns}, **asdict(account), "whole_s": account.whole_s}
        | _quality(profile, cells)
        for case, profile in own.items()
        for account in profile.accounts
    ]
    caption = (
        "Shares of the profiled step, without overlap or gap. kernels: what operators take beyond what the"
        " same take in a network with next to nothing to do; dispatch: that much, once for each call;"
        " Python: all time outside of operators. More threads can only make the kernels faster."
        " On a device: what was under way, a kernel before a copy, a memset, a call of the runtime, an"
        " operator, Python. profiler: what it adds to the step, median to median; on a device the wall clock"
        " of the profiled steps to that of plain ones."
    )
    title = f"Where the wall clock of a step goes ({shared_by(own)})"
    shown = pd.DataFrame(lines).fillna(DOES_NOT_APPLY)  # a CPU and a device fill different columns
    return Table("accounting", title, caption, shown, pd.DataFrame(raw))


def _shares(profile: CaseProfile, profiles: Sequence[CaseProfile]) -> dict[str, str]:
    account = profile.account("step")
    split = split_of(profile, smallest_of(profiles, profile.case))
    if split is not None:
        parts = {"kernels %": split.kernels, "dispatch %": split.dispatch, "Python %": split.python}
        return {name: percentage(share) for name, share in parts.items()}
    if account is None:
        return {}
    return {
        f"{name.removesuffix('_s').replace('python', 'Python')} %": percentage(
            getattr(account, name) / account.whole_s
        )
        for name in PARTS
    }


def _calls(profile: CaseProfile) -> float:
    return sum(o.calls for o in profile.operators if o.dispatched and o.phase in STEP_PHASES)


def _quality(profile: CaseProfile, cells: Cells) -> dict[str, object]:
    return {
        "profiled_step_s": profile.step_s,
        "slowed_by": slowed_by(profile, _row(cells, profile.case)),
        "unaccounted": unaccounted(profile),
        "page_faults": profile.page_faults,
    }


def _row(cells: Cells, case: Case) -> Row | None:
    return cells.get(case, {}).get("step")


def activity_table(profiles: Sequence[CaseProfile], cells: Cells) -> Table | None:
    """Return how the device spent the profiled steps, and what bounds each; None without a device."""
    own = {case: profile for case, profile in own_profiles(profiles).items() if profile.device}
    if not own:
        return None
    columns = [
        *case_columns(shown_columns(own)),
        Column("bound", "bound", lambda profile: next(iter(cells[profile.case].values())).bound, words=True),
        Column("", "kernel_s", lambda profile: getattr(_row(cells, profile.case), "kernel_s", None)),
        Column(
            "busy % of plain step",
            "busy_share_of_plain_step",
            lambda profile: busy_share(_row(cells, profile.case)),
            percentage,
        ),
        *(_activity(name) for name in DeviceActivity.__struct_fields__),
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


def _activity(name: str) -> Column:
    title, text = ACTIVITY.get(name, ("", str))
    return Column(title, name, lambda profile: getattr(profile.device, name), text)


def profile_lines(profiles: Sequence[CaseProfile], cells: Cells) -> list[str]:
    """Return how far the profiles can be trusted: sums, agreement with the counters, and what they cost."""
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
    told = [f"Disagreement in {p.case.key}: {p.disagreement}." for p in differing[:ON_SCREEN]]
    return [line, *told, *_too_busy(own, cells)]


def _too_busy(cases: Iterable[Case], cells: Cells) -> list[str]:
    """Return a line for every device that is surely busy for longer than the step, which is an error."""
    rows = [(case, row) for case in cases if (row := _row(cells, case)) is not None]
    return [
        f"Impossible: by its profile the device is at work for {percentage(busy)} % of the plain step of"
        f" {case.key}, so one of the two is wrong, or its clock was lower while it was profiled; please"
        " report it."
        for case, row in rows
        if (busy := busy_share(row)) is not None and busy * least_share(row) > 1 + CEILINGS_WITHIN
    ]
