"""Warnings about the machine before and during a run, each with its figures and a next step."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from nncore_bench.machine.gpu import PROHIBITED, THROTTLES
from nncore_bench.machine.reading import UNKNOWN, figure
from nncore_bench.machine.state import State, meanwhile
from nncore_bench.records import CaseRecord, Notice

BUSY_PER_CORE = 0.25
CROWDED = 0.5
"""By so many cores may threads and load exceed what there is: the load still holds the start of this run."""

GPU_BUSY_PERCENT = 5.0
"""What draws the screen keeps a GPU this busy at most."""

OTHERS_CORES = 0.10
STOLEN_SHARE = 0.02
HELD_SHARE = 0.01
SWAPPED_IN_MIB = 1.0
SLOW_GOVERNORS = {"powersave", "conservative"}
HARMLESS = {"idle", "application clocks", "display clocks", "none", "unknown"}

Facts: TypeAlias = Mapping[str, Any]


def notices_before(
    facts: Facts, threads: Sequence[int | str], devices: Collection[str] = ()
) -> tuple[Notice, ...]:
    """Return warnings about the machine as it is before a run, and about what was asked of it."""
    most = max((count for count in threads if isinstance(count, int)), default=1)
    found = [
        _load(facts),
        _cores(facts, most),
        _crowd(facts, most),
        _quota(facts, most),
        _governor(facts),
        _battery(facts),
        _debug_build(facts),
    ]
    if "cuda" in devices:
        found += [
            _gpu_throttle(facts.get("gpu_throttle_before"), "before the run began"),
            *(notice(facts) for notice in OF_THE_GPU),
        ]
    return tuple(notice for notice in found if notice)


def notices_after(before: State, after: State) -> tuple[Notice, ...]:
    """Return warnings about what happened to the machine between two readings of its state."""
    facts = meanwhile(before, after)
    found = [notice(facts) for notice in DURING]
    found.append(_gpu_throttle(facts.get("gpu_throttle_after"), "when the run ended"))
    return tuple(notice for notice in found if notice)


def thrown_out(records: Iterable[CaseRecord]) -> list[Notice]:
    """Return a warning for each case some of whose blocks were measured again."""
    return [
        Notice(
            f"torch.compile compiled within {record.thrown_out} timed blocks of {record.case.key}, which were"
            " thrown out and measured again",
            "see what it compiles again and why: TORCH_LOGS=recompiles,graph_breaks",
        )
        for record in records
        if record.thrown_out
    ]


def _figure(facts: Facts, name: str) -> float:
    """Return a figure, or nought where it is not known: what is not known is not warned of."""
    return figure(facts.get(name)) or 0.0


def _allowed(facts: Facts) -> float:
    return _figure(facts, "cores_allowed") or 1.0


def _load(facts: Facts) -> Notice | None:
    if _figure(facts, "load_before") <= BUSY_PER_CORE * _allowed(facts):
        return None
    return Notice(
        f"the load average was {facts['load_before']} on {_allowed(facts):g} cores before the run began",
        "wait until other programs have ended, or read the disturbance column with this in mind",
    )


def _cores(facts: Facts, most: int) -> Notice | None:
    if most <= _allowed(facts):
        return None
    return Notice(
        f"{most} threads were asked for on {_allowed(facts):g} cores",
        "choose at most as many as there are cores: threads that wait for a core slow a step down",
    )


def _crowd(facts: Facts, most: int) -> Notice | None:
    """Warn where the threads alone would fit, and where the load alone would not have been worth a word."""
    load, cores = _figure(facts, "load_before"), _allowed(facts)
    if most > cores or most + load <= cores + CROWDED or _load(facts):
        return None
    return Notice(
        f"{most} threads beside a load average of {load:g} need more than {cores:g} cores",
        "wait until other programs have ended, or ask for fewer threads",
    )


def _quota(facts: Facts, most: int) -> Notice | None:
    quota = figure(facts.get("cgroup_cpus"))
    if quota is None or most <= quota:
        return None
    return Notice(
        f"the control group allows {quota:g} cores' worth of time, and {most} threads were asked for",
        "raise the quota of this container"
        + (f", or give --step-threads at most {int(quota)}" if quota >= 1 else ""),
    )


def _governor(facts: Facts) -> Notice | None:
    slow = SLOW_GOVERNORS.intersection(str(facts.get("cpu_governor", "")).split())
    if not slow:
        return None
    return Notice(
        f"the frequency governor is {', '.join(sorted(slow))}, which may keep the clock low",
        "set it to performance (cpupower frequency-set -g performance)",
    )


def _battery(facts: Facts) -> Notice | None:
    if facts.get("power_supply") != "battery":
        return None
    return Notice("the machine runs on its battery, which lowers clocks", "plug it in")


def _debug_build(facts: Facts) -> Notice | None:
    if facts.get("torch_debug_build") is not True:
        return None
    return Notice(
        "torch is a debug build, which is several times as slow", "install a release build of torch"
    )


def _gpu_throttle(words: object, when: str) -> Notice | None:
    reasons = [word for word in str(words or "").split(", ") if word in THROTTLES.values()]
    reasons = [word for word in reasons if word not in HARMLESS]
    if not reasons:
        return None
    return Notice(
        f"the GPU's clocks were held down {when} ({', '.join(reasons)})",
        "let it cool, or look at its power limit (nvidia-smi -q -d PERFORMANCE,POWER)",
    )


def _gpu_in_use(facts: Facts) -> Notice | None:
    programs, busy = _figure(facts, "gpu_programs_before"), _figure(facts, "gpu_busy_before")
    if not programs and busy <= GPU_BUSY_PERCENT:
        return None
    taken = figure(facts.get("gpu_memory_used_gib"))
    memory = "" if taken is None else f", and {taken:g} GiB of its memory were taken"
    return Notice(
        f"{programs:.0f} other program{'s' if programs != 1 else ''} had the GPU open before the run began:"
        f" it was {busy:.0f} % busy{memory}",
        "end them (nvidia-smi tells which they are), or measure on another GPU (--step-devices=cuda:1)",
    )


def _gpu_prohibited(facts: Facts) -> Notice | None:
    if facts.get("gpu_compute_mode") != PROHIBITED:
        return None
    return Notice(
        "the GPU's compute mode is prohibited, in which no program can use it",
        "set it to default (nvidia-smi -c DEFAULT, as root)",
    )


def _gpu_slice(facts: Facts) -> Notice | None:
    if facts.get("gpu_mig_mode") != "on":
        return None
    return Notice(
        "the GPU is divided into slices (MIG): what is recorded of its clocks, memory and power is of"
        " all slices together",
        "read these with that in mind; the times are those of the slice",
    )


def _gpu_unknown(facts: Facts) -> Notice | None:
    if facts.get("gpu") != UNKNOWN:
        return None
    return Notice(
        "nothing could be read of the GPU: NVIDIA's management library (NVML) is missing or does not answer",
        "see whether nvidia-smi works here; times are complete, clocks and other programs unknown",
    )


OF_THE_GPU: tuple[Callable[[Facts], Notice | None], ...] = (
    *(_gpu_in_use, _gpu_prohibited, _gpu_slice, _gpu_unknown),
)


def _others(facts: Facts) -> Notice | None:
    used = _figure(facts, "others_cores_during")
    if used <= OTHERS_CORES:
        return None
    return Notice(
        f"other programs kept {used:.2f} cores busy on average during the run",
        "end them and measure again, or read the disturbance column with this in mind",
    )


def _stolen(facts: Facts) -> Notice | None:
    share = _figure(facts, "stolen_share_during")
    if share <= STOLEN_SHARE:
        return None
    return Notice(
        f"the hypervisor gave {100 * share:.1f} % of the processor time wanted here to others during the run",
        "measure again at another time, or on a machine of your own",
    )


def _throttled(facts: Facts) -> Notice | None:
    times = _figure(facts, "cpu_throttles_during")
    if not times:
        return None
    return Notice(
        f"processors slowed down for heat during the run (their counters went up by {times:.0f})",
        "let the machine cool, or ask for fewer threads",
    )


def _swapped(facts: Facts) -> Notice | None:
    swapped = _figure(facts, "swapped_in_mib_during")
    if swapped <= SWAPPED_IN_MIB:
        return None
    return Notice(
        f"{swapped:.0f} MiB were read back from swap during the run",
        "end programs that hold memory, or measure smaller cases",
    )


def _held(facts: Facts) -> Notice | None:
    shares = {name: _figure(facts, f"gpu_{name}_held_share_during") for name in ("power", "thermal")}
    held = [f"{100 * share:.0f} % for {name} reasons" for name, share in shares.items() if share > HELD_SHARE]
    if not held:
        return None
    return Notice(
        f"the GPU's clocks were held down during the run, of its time {' and '.join(held)}",
        "let it cool, or look at its power limit (nvidia-smi -q -d PERFORMANCE,POWER)",
    )


DURING: tuple[Callable[[Facts], Notice | None], ...] = (_others, _stolen, _throttled, _swapped, _held)
