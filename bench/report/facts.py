"""What was measured on, and which operators the profiling pass saw."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.report.format import NOT_AVAILABLE, count, number, percentage, unit_for
from bench.report.tables import Table
from bench.runs import Run

OPERATORS_ON_SCREEN = 10
OPERATOR_COLUMNS = ("case", "phase", "operator", "calls_per_step", "self_host_s", "self_device_s", "share")
MODELS = ("cpu_model", "gpu")
MACHINE_FACTS = {
    "CPU": "cpu_model",
    "cores": "cores_allowed",
    "memory GiB": "memory_gib",
    "GPU": "gpu",
    "kernel": "kernel",
    "Python": "python",
    "torch": "torch",
}


def machine_table(run: Run) -> Table:
    """Return the facts by which a reader tells one machine from another."""
    facts = {
        "host": run.host,
        **{label: run.machine.get(name) for label, name in MACHINE_FACTS.items()},
        **_quota(run),
        "commit": _commit(run),
    }
    lines = _facts(facts)
    return Table("machine", "Machine", "The rest is in table facts and in run.json.", lines, lines)


def _quota(run: Run) -> dict[str, Any]:
    """Return how many cores' worth of time a container was allowed, where it was told of a limit."""
    quota = run.machine.get("cgroup_cpus")
    return {"CPU quota, cores": quota} if isinstance(quota, int | float) else {}


def facts_table(run: Run) -> Table:
    """Return every fact of a run: its code, its options and its machine."""
    facts = {
        "run": run.id,
        "host": run.host,
        "started": run.started,
        "state": run.state,
        "code": run.code.path,
        "commit": _commit(run),
        **{f"--step-{name}": value for name, value in run.options.items()},
        **run.machine,
    }
    lines = _facts(facts)
    return Table("facts", "Code, options and machine", "", lines, lines, on_screen=False)


def _facts(facts: Mapping[str, object]) -> pd.DataFrame:
    return pd.DataFrame([{"fact": name, "value": _plain(value)} for name, value in facts.items()])


def _commit(run: Run) -> str:
    return f"{run.code.commit or 'unknown'}{' (with changes)' if run.code.dirty else ''}"


def operator_table(run: Run) -> Table | None:
    """Return the operators that took most of each profiled case; None without a profiling pass."""
    if not run.operators:
        return None
    raw = pd.DataFrame([{name: op.get(name) for name in OPERATOR_COLUMNS} for op in run.operators])
    ranked = sorted(run.operators, key=_self_time, reverse=True)
    cases = dict.fromkeys(str(op.get("case")) for op in run.operators)
    top = [
        op for case in cases for op in [o for o in ranked if str(o.get("case")) == case][:OPERATORS_ON_SCREEN]
    ]
    host, device = (unit_for(op.get(column) for op in top) for column in ("self_host_s", "self_device_s"))
    names = (*(("case",) if len(cases) > 1 else ()), "phase", "operator")
    on_device = any(op.get("self_device_s") for op in top)
    lines = [
        {
            **{name: str(op.get(name, NOT_AVAILABLE)) for name in names},
            "calls/step": count(op.get("calls_per_step")),
            f"host {host.symbol}": number(_in(op.get("self_host_s"), host.seconds)),
            **(
                {f"device {device.symbol}": number(_in(op.get("self_device_s"), device.seconds))}
                if on_device
                else {}
            ),
            "% of phase": percentage(op.get("share")),
        }
        for op in top
    ]
    caption = (
        f"The {OPERATORS_ON_SCREEN} operators of each profiled case that take longest by themselves, from a"
        " pass of its own: torch.profiler slows the step, so believe names, ranks and counts, not times."
        " The CSV has them all."
    )
    title = f"Operators ({next(iter(cases)) if len(cases) == 1 else 'self time per step'})"
    return Table("operators", title, caption, pd.DataFrame(lines), raw)


def named(run: Run) -> str:
    """Return a run by its id, its host, and the processor and GPU it had."""
    models = [str(run.machine[name]) for name in MODELS if run.machine.get(name)]
    return f"run {run.id} on {run.host}" + (f" ({'; '.join(models)})" if models else "")


def _self_time(operator: Mapping[str, Any]) -> float:
    return float(operator.get("self_device_s") or operator.get("self_host_s") or 0.0)


def _in(seconds: float | None, unit: float) -> float | None:
    return None if seconds is None else seconds / unit


def _plain(value: object) -> str:
    """Return a fact on one line; a list loses its brackets, and an unknown one says so."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "-"
    return NOT_AVAILABLE if value is None or value == "" else " ".join(str(value).split())
