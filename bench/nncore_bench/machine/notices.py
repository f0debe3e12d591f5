"""Warnings about the machine before and during a run, each with its figures and a next step."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, TypeAlias

from nncore_bench.machine.gpu import PROHIBITED, THROTTLES
from nncore_bench.machine.reading import UNKNOWN, figure
from nncore_bench.machine.state import State, meanwhile
from nncore_bench.records import CaseRecord, Notice

BUSY_PER_CORE = 0.25
CROWDED = 0.5
"""Threads and load may exceed the cores by this much: the load still includes the start of this run."""

GPU_BUSY_PERCENT = 5.0
"""Drawing the screen keeps a GPU at most this busy."""

OTHERS_CORES = 0.10
STOLEN_SHARE = 0.02
HELD_SHARE = 0.01
SWAPPED_IN_MIB = 1.0
SLOW_GOVERNORS = {"powersave", "conservative"}
HARMLESS = {"idle", "application clocks", "display clocks", "none", "unknown"}

Facts: TypeAlias = Mapping[str, Any]
READ_WITH_CARE = "or read the disturbance column with this in mind"
COOL = "let it cool, or look at its power limit (nvidia-smi -q -d PERFORMANCE,POWER)"


@dataclass(frozen=True)
class Rule:
    """A warning: the condition on facts under which it holds, its cause and the next step."""

    holds: Callable[[Facts], object]
    cause: Callable[[Facts], str]
    next_step: str


def _figure(facts: Facts, name: str) -> float:
    """Return a figure, or 0 where it is unknown: nobody is warned of the unknown."""
    return figure(facts.get(name)) or 0.0


def _above(name: str, limit: float) -> Callable[[Facts], bool]:
    return lambda facts: _figure(facts, name) > limit


def _is(name: str, value: object) -> Callable[[Facts], bool]:
    return lambda facts: facts.get(name) == value


def _loaded(facts: Facts) -> bool:
    return _figure(facts, "load_before") > BUSY_PER_CORE * _figure(facts, "cores")


def _crowded(facts: Facts) -> bool:
    """Tell whether threads fit alone, and the load alone is not worth a warning, but both are too much."""
    threads, cores = facts["threads"], facts["cores"]
    together = threads + _figure(facts, "load_before")
    return threads <= cores and together > cores + CROWDED and not _loaded(facts)


def _governors(facts: Facts) -> str:
    return ", ".join(sorted(SLOW_GOVERNORS.intersection(str(facts.get("cpu_governor", "")).split())))


def _throttles(words: object) -> str:
    reasons = [word for word in str(words or "").split(", ") if word in THROTTLES.values()]
    return ", ".join(word for word in reasons if word not in HARMLESS)


def _gpu_used(facts: Facts) -> str:
    programs, busy = _figure(facts, "gpu_programs_before"), _figure(facts, "gpu_busy_before")
    taken = figure(facts.get("gpu_memory_used_gib"))
    memory = "" if taken is None else f", and {taken:g} GiB of its memory were taken"
    return (
        f"{programs:.0f} other program{'s' if programs != 1 else ''} had the GPU open before the run began:"
        f" it was {busy:.0f} % busy{memory}"
    )


def _held(facts: Facts) -> str:
    shares = {name: _figure(facts, f"gpu_{name}_held_share_during") for name in ("power", "thermal")}
    return " and ".join(
        f"{100 * share:.0f} % for {name} reasons" for name, share in shares.items() if share > HELD_SHARE
    )


def _throttle_rule(name: str, when: str) -> Rule:
    return Rule(
        lambda facts: _throttles(facts.get(name)),
        lambda facts: f"the GPU's clocks were held down {when} ({_throttles(facts[name])})",
        COOL,
    )


def _quota_rule(least: float, most: float, next_step: str) -> Rule:
    return Rule(
        lambda facts: (
            (quota := figure(facts.get("cgroup_cpus"))) is not None
            and least <= quota < min(most, facts["threads"])
        ),
        "the control group allows {cgroup_cpus:g} cores' worth of time, and {threads} threads were asked"
        " for".format_map,
        next_step,
    )


BEFORE = (
    Rule(
        _loaded,
        "the load average was {load_before} on {cores:g} cores before the run began".format_map,
        f"wait until other programs have ended, {READ_WITH_CARE}",
    ),
    Rule(
        lambda facts: facts["threads"] > facts["cores"],
        "{threads} threads were asked for on {cores:g} cores".format_map,
        "choose at most as many as there are cores: threads that wait for a core slow a step down",
    ),
    Rule(
        _crowded,
        "{threads} threads beside a load average of {load_before:g} need more than {cores:g}"
        " cores".format_map,
        "wait until other programs have ended, or ask for fewer threads",
    ),
    _quota_rule(0.0, 1.0, "raise the quota of this container"),
    _quota_rule(1.0, inf, "raise the quota of this container, or give --step-threads at most {whole_quota}"),
    Rule(
        _governors,
        lambda facts: f"the frequency governor is {_governors(facts)}, which may keep the clock low",
        "set it to performance (cpupower frequency-set -g performance)",
    ),
    Rule(
        _is("power_supply", "battery"),
        "the machine runs on its battery, which lowers clocks".format_map,
        "plug it in",
    ),
    Rule(
        lambda facts: facts.get("torch_debug_build") is True,
        "torch is a debug build, which is several times as slow".format_map,
        "install a release build of torch",
    ),
)
BEFORE_ON_GPU = (
    _throttle_rule("gpu_throttle_before", "before the run began"),
    Rule(
        lambda facts: (
            _figure(facts, "gpu_programs_before") or _figure(facts, "gpu_busy_before") > GPU_BUSY_PERCENT
        ),
        _gpu_used,
        "end them (nvidia-smi tells which they are), or measure on another GPU (--step-devices=cuda:1)",
    ),
    Rule(
        _is("gpu_compute_mode", PROHIBITED),
        "the GPU's compute mode is prohibited, in which no program can use it".format_map,
        "set it to default (nvidia-smi -c DEFAULT, as root)",
    ),
    Rule(
        _is("gpu_mig_mode", "on"),
        "the GPU is divided into slices (MIG): what is recorded of its clocks, memory and power is of"
        " all slices together".format_map,
        "read these with that in mind; the times are those of the slice",
    ),
    Rule(
        _is("gpu", UNKNOWN),
        "nothing could be read of the GPU: NVIDIA's management library (NVML) is missing or does not"
        " answer".format_map,
        "see whether nvidia-smi works here; times are complete, clocks and other programs unknown",
    ),
)
DURING = (
    Rule(
        _above("others_cores_during", OTHERS_CORES),
        "other programs kept {others_cores_during:.2f} cores busy on average during the run".format_map,
        f"end them and measure again, {READ_WITH_CARE}",
    ),
    Rule(
        _above("stolen_share_during", STOLEN_SHARE),
        lambda facts: (
            f"the hypervisor gave {100 * facts['stolen_share_during']:.1f} % of the processor time wanted"
            " here to others during the run"
        ),
        "measure again at another time, or on a machine of your own",
    ),
    Rule(
        _above("cpu_throttles_during", 0),
        "processors slowed down for heat during the run (their counters went up by"
        " {cpu_throttles_during:.0f})".format_map,
        "let the machine cool, or ask for fewer threads",
    ),
    Rule(
        _above("swapped_in_mib_during", SWAPPED_IN_MIB),
        "{swapped_in_mib_during:.0f} MiB were read back from swap during the run".format_map,
        "end programs that hold memory, or measure smaller cases",
    ),
    Rule(
        _held,
        lambda facts: f"the GPU's clocks were held down during the run, of its time {_held(facts)}",
        COOL,
    ),
    _throttle_rule("gpu_throttle_after", "when the run ended"),
)


def notices_before(
    facts: Facts, threads: Sequence[int | str], devices: Collection[str] = ()
) -> tuple[Notice, ...]:
    """Return warnings about the machine as it is before a run, and about the threads asked for."""
    known = {
        **facts,
        "threads": max((count for count in threads if isinstance(count, int)), default=1),
        "cores": _figure(facts, "cores_allowed") or 1.0,
        "whole_quota": int(_figure(facts, "cgroup_cpus")),
    }
    return tuple(_notices((*BEFORE, *(BEFORE_ON_GPU if "cuda" in devices else ())), known))


def notices_after(before: State, after: State) -> tuple[Notice, ...]:
    """Return warnings about what happened to the machine between two readings of its state."""
    return tuple(_notices(DURING, meanwhile(before, after)))


def _notices(rules: Iterable[Rule], facts: Facts) -> Iterator[Notice]:
    for rule in rules:
        if rule.holds(facts):
            yield Notice(rule.cause(facts), rule.next_step.format_map(facts))


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
