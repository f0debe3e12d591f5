"""Warnings about the machine before and during a run, each with its figures and a next step."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
HARMFUL = {*THROTTLES.values()} - {"idle", "application clocks", "display clocks"}

Facts: TypeAlias = Mapping[str, Any]
READ_WITH_CARE = "or read the disturbance column with this in mind"
WAIT = "wait until other programs have ended"
COOL = "let it cool, or look at its power limit (nvidia-smi -q -d PERFORMANCE,POWER)"


def notices_before(
    facts: Facts, threads: Sequence[int | str], devices: Collection[str] = ()
) -> tuple[Notice, ...]:
    """Return warnings about the machine as it is before a run, and about the threads asked for."""
    most = max((count for count in threads if isinstance(count, int)), default=1)
    on_gpu = _of_the_gpu(facts) if "cuda" in devices else ()
    return (*_of_the_threads(facts, most), *_of_the_processor(facts), *on_gpu)


def _of_the_threads(facts: Facts, threads: int) -> Iterator[Notice]:
    cores, load = _figure(facts, "cores_allowed") or 1.0, _figure(facts, "load_before")
    if load > BUSY_PER_CORE * cores:
        yield Notice(
            f"the load average was {load} on {cores:g} cores before the run began",
            f"{WAIT}, {READ_WITH_CARE}",
        )
    if threads > cores:
        yield Notice(
            f"{threads} threads were asked for on {cores:g} cores",
            "choose at most as many as there are cores: threads that wait for a core slow a step down",
        )
    elif load <= BUSY_PER_CORE * cores and threads + load > cores + CROWDED:
        yield Notice(
            f"{threads} threads beside a load average of {load:g} need more than {cores:g} cores",
            f"{WAIT}, or ask for fewer threads",
        )
    quota = figure(facts.get("cgroup_cpus"))
    if quota is not None and 0 <= quota < threads:
        at_most = f", or give --step-threads at most {int(quota)}" if quota >= 1 else ""
        yield Notice(
            f"the control group allows {quota:g} cores' worth of time, and {threads} threads were asked for",
            f"raise the quota of this container{at_most}",
        )


def _of_the_processor(facts: Facts) -> Iterator[Notice]:
    slow = SLOW_GOVERNORS.intersection(str(facts.get("cpu_governor", "")).split())
    if slow:
        yield Notice(
            f"the frequency governor is {', '.join(sorted(slow))}, which may keep the clock low",
            "set it to performance (cpupower frequency-set -g performance)",
        )
    if facts.get("power_supply") == "battery":
        yield Notice("the machine runs on its battery, which lowers clocks", "plug it in")
    if facts.get("torch_debug_build") is True:
        yield Notice(
            "torch is a debug build, which is several times as slow", "install a release build of torch"
        )


def _of_the_gpu(facts: Facts) -> Iterator[Notice]:
    yield from _throttled(facts.get("gpu_throttle_before"), "before the run began")
    programs, busy = _figure(facts, "gpu_programs_before"), _figure(facts, "gpu_busy_before")
    if programs or busy > GPU_BUSY_PERCENT:
        taken = figure(facts.get("gpu_memory_used_gib"))
        memory = "" if taken is None else f", and {taken:g} GiB of its memory were taken"
        yield Notice(
            f"{programs:.0f} other program{'s' if programs != 1 else ''} had the GPU open before the run"
            f" began: it was {busy:.0f} % busy{memory}",
            "end them (nvidia-smi tells which they are), or measure on another GPU (--step-devices=cuda:1)",
        )
    if facts.get("gpu_compute_mode") == PROHIBITED:
        yield Notice(
            "the GPU's compute mode is prohibited, in which no program can use it",
            "set it to default (nvidia-smi -c DEFAULT, as root)",
        )
    if facts.get("gpu_mig_mode") == "on":
        yield Notice(
            "the GPU is divided into slices (MIG): what is recorded of its clocks, memory and power is of"
            " all slices together",
            "read these with that in mind; the times are those of the slice",
        )
    if facts.get("gpu") == UNKNOWN:
        yield Notice(
            "nothing could be read of the GPU: NVIDIA's management library (NVML) is missing or does not"
            " answer",
            "see whether nvidia-smi works here; times are complete, clocks and other programs unknown",
        )


def notices_after(before: State, after: State) -> tuple[Notice, ...]:
    """Return warnings about what happened to the machine between two readings of its state."""
    return tuple(_during(meanwhile(before, after)))


def _during(facts: Facts) -> Iterator[Notice]:
    others, stolen = _figure(facts, "others_cores_during"), _figure(facts, "stolen_share_during")
    if others > OTHERS_CORES:
        yield Notice(
            f"other programs kept {others:.2f} cores busy on average during the run",
            f"end them and measure again, {READ_WITH_CARE}",
        )
    if stolen > STOLEN_SHARE:
        yield Notice(
            f"the hypervisor gave {100 * stolen:.1f} % of the processor time wanted here to others during"
            " the run",
            "measure again at another time, or on a machine of your own",
        )
    if throttles := _figure(facts, "cpu_throttles_during"):
        yield Notice(
            f"processors slowed down for heat during the run (their counters went up by {throttles:.0f})",
            "let the machine cool, or ask for fewer threads",
        )
    if (swapped := _figure(facts, "swapped_in_mib_during")) > SWAPPED_IN_MIB:
        yield Notice(
            f"{swapped:.0f} MiB were read back from swap during the run",
            "end programs that hold memory, or measure smaller cases",
        )
    shares = {name: _figure(facts, f"gpu_{name}_held_share_during") for name in ("power", "thermal")}
    held = [f"{100 * share:.0f} % for {name} reasons" for name, share in shares.items() if share > HELD_SHARE]
    if held:
        yield Notice(
            f"the GPU's clocks were held down during the run, of its time {' and '.join(held)}", COOL
        )
    yield from _throttled(facts.get("gpu_throttle_after"), "when the run ended")


def _throttled(words: object, when: str) -> Iterator[Notice]:
    reasons = ", ".join(word for word in str(words).split(", ") if word in HARMFUL)
    if reasons:
        yield Notice(f"the GPU's clocks were held down {when} ({reasons})", COOL)


def _figure(facts: Facts, name: str) -> float:
    """Return a figure, or 0 if it is unknown: an unknown figure is no reason to warn."""
    return figure(facts.get(name)) or 0.0


def thrown_out(records: Iterable[CaseRecord]) -> list[Notice]:
    """Return a warning for each case in which blocks were discarded and measured again."""
    return [
        Notice(
            f"torch.compile compiled within {record.thrown_out} timed blocks of {record.case.key}, which were"
            " thrown out and measured again",
            "see what it compiles again and why: TORCH_LOGS=recompiles,graph_breaks",
        )
        for record in records
        if record.thrown_out
    ]
