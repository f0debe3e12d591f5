"""Tables of the machine that was measured, and of every fact on record."""

from collections.abc import Mapping
from operator import itemgetter

from nncore_bench.runs import Run
from nncore_bench.text.format import NOT_AVAILABLE
from nncore_bench.text.table import Column, Table

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
    """Return the facts that distinguish machines, with the CPU quota of a container that has one."""
    quota = run.machine.get("cgroup_cpus")
    facts = {
        "host": run.host,
        **{label: run.machine.get(name) for label, name in MACHINE_FACTS.items()},
        **({"CPU quota, cores": quota} if isinstance(quota, int | float) else {}),
        "commit": _commit(run),
    }
    return _table("machine", "Machine", "The rest is in table facts and in run.json.", facts)


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
    return _table("facts", "Code, options and machine", "", facts, on_screen=False)


def _table(
    name: str, title: str, caption: str, facts: Mapping[str, object], *, on_screen: bool = True
) -> Table:
    columns = [
        Column("fact", "fact", itemgetter(0), words=True),
        Column("value", "value", lambda fact: _typed(fact[1]), _plain, words=True),
    ]
    return Table.of(name, title, caption, columns, facts.items(), on_screen=on_screen)


def _typed(value: object) -> object:
    """Return a fact for files: a number as it is, a list as text, None for unknown."""
    return value if isinstance(value, int | float) else None if value in (None, "") else _plain(value)


def _commit(run: Run) -> str:
    return f"{run.code.commit or 'unknown'}{' (with changes)' if run.code.dirty else ''}"


def named(run: Run) -> str:
    """Return a run's id and host, and its processor and GPU as far as they are known."""
    models = [str(run.machine[name]) for name in MODELS if run.machine.get(name)]
    return f"run {run.id} on {run.host}" + (f" ({'; '.join(models)})" if models else "")


def _plain(value: object) -> str:
    """Return a fact on one line, a list without brackets."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "-"
    return NOT_AVAILABLE if value in (None, "") else " ".join(str(value).split())
