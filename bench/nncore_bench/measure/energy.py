"""Energy: what the counters of processor and GPU go up by while a case trains.

RAPL counts the processor packages (Linux, powercap; Khan et al., ACM TOMPECS 3(2), 2018, on its accuracy),
NVML the board of a GPU. Both count all that runs there, idling included, and neither is exact over
milliseconds: a window is a second or more.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec.structs

from nncore_bench.measure import messages
from nncore_bench.measure.blocks import LEAST_ITERATIONS
from nncore_bench.measure.campaign import Progress, pool_of
from nncore_bench.measure.gpu import energy_counter
from nncore_bench.measure.messages import NOT_HELD
from nncore_bench.measure.passes import StartWorker
from nncore_bench.measure.reading import ROOT, text
from nncore_bench.measure.workers import REQUEST_TIMEOUT_S, Asked, WorkerError, patience
from nncore_bench.records import CaseRecord, Energy, Notice

WINDOWS = 3
WINDOW_S = 1.0
BLOCKS_AT_ONCE = 8
"""So many blocks of the campaign are asked for as one: what restores the state between them is little."""

MICRO = 1e-6
PACKAGE, GPU = "package", "GPU"
NO_PACKAGE = Notice(
    "the energy of the processor cannot be read here: there is no RAPL counter of a package that may be read",
    "on Linux let this user read /sys/class/powercap/intel-rapl:*/energy_uj",
)
NO_GPU = Notice("the energy of the GPU cannot be read here: NVML does not count it", "that of the CPU stands")

Meter: TypeAlias = Callable[[], float]
"""Return the joules so far, from some beginning."""


@dataclass
class Rapl:
    """Count the joules of all processor packages; the counters of the kernel begin again at their range."""

    ranges: Mapping[Path, int]

    def __post_init__(self) -> None:
        self.last = {file: int(file.read_text()) for file in self.ranges}
        self.joules = 0.0

    def __call__(self) -> float:
        """Return the joules since the first reading."""
        for file, span in self.ranges.items():
            now = int(file.read_text())
            self.joules += ((now - self.last[file]) % (span + 1)) * MICRO
            self.last[file] = now
        return self.joules


def package_meter(root: Path = ROOT) -> Meter | None:
    """Return the meter of the processor packages, or None where not all of them may be read."""
    domains = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
    packages = [folder for folder in domains if (text(folder / "name") or "").startswith("package")]
    try:
        ranges = {
            folder / "energy_uj": int((folder / "max_energy_range_uj").read_text()) for folder in packages
        }
        return Rapl(ranges) if ranges else None
    except (OSError, ValueError):
        return None


@contextmanager
def meters(environment: Mapping[str, str] = os.environ, root: Path = ROOT) -> Iterator[dict[str, Meter]]:
    """Give what can be read on this machine, by name, while it is open."""
    with energy_counter(environment) as gpu:
        found = {PACKAGE: package_meter(root), GPU: gpu}
        yield {name: meter for name, meter in found.items() if meter is not None}


def measure_energy(  # noqa: PLR0913, PLR0917 - what a pass needs
    records: Sequence[CaseRecord],
    workers: MutableMapping[tuple[str, int], Asked],
    start_worker: StartWorker,
    found: Mapping[str, Meter],
    progress: Progress,
    now: Callable[[], float] = time.perf_counter,
    rest: Callable[[float], None] = time.sleep,
) -> tuple[list[CaseRecord], list[Notice]]:
    """Return the records with the energy of their steps, where a meter counts it, and what went wrong.

    In the workers that timed them; one that dies is taken out of `workers`. Before the first of them, the
    meters are read over a window in which nothing is asked of any worker.
    """
    idle_w: dict[str, float] | None = None
    measured: list[CaseRecord] = []
    notices = [] if PACKAGE in found else [NO_PACKAGE]
    devices = {record.case.device for record in records if record.status == "ok"}
    if GPU not in found and devices - {"cpu"}:
        notices.append(NO_GPU)
    for number, record in enumerate(records):
        progress("energy", number, len(records), None)
        seen = {name: meter for name, meter in found.items() if name == PACKAGE or record.case.on_device}
        energy: Energy | str | None = None
        if seen and record.status == "ok" and not record.role and "plain" in record.steps_per_block:
            idle_w = _idle_w(found, now, rest) if idle_w is None else idle_w
            energy = _energy(number, record, workers, start_worker, seen, now)
        if isinstance(energy, str):
            cause = f"the energy of {record.case.key} could not be measured ({energy})"
            notices.append(Notice(cause, "its times are complete without"))
            energy = None
        if energy is not None and idle_w:
            energy = msgspec.structs.replace(energy, idle_w={name: idle_w[name] for name in energy.joules})
        measured.append(msgspec.structs.replace(record, energy=energy))
    return measured, notices


def _idle_w(
    found: Mapping[str, Meter], now: Callable[[], float], rest: Callable[[float], None]
) -> dict[str, float]:
    """Return the watts by meter over a window of rest; nothing where one stops answering."""
    with suppress(OSError, ValueError):
        begin, before = now(), {name: meter() for name, meter in found.items()}
        rest(WINDOW_S)
        return {name: (meter() - before[name]) / (now() - begin) for name, meter in found.items()}
    return {}


def _energy(  # noqa: PLR0913, PLR0917 - the same
    number: int,
    record: CaseRecord,
    workers: MutableMapping[tuple[str, int], Asked],
    start_worker: StartWorker,
    found: Mapping[str, Meter],
    now: Callable[[], float],
) -> Energy | str:
    """Return the energy of a case's steps in the worker that timed it, or in a few words why not."""
    pool = pool_of(record.case)
    key = next((key for key in workers if key[0] == pool), (pool, 0))
    usual = record.steps_per_block["plain"]
    iterations = usual if usual <= LEAST_ITERATIONS else BLOCKS_AT_ONCE * usual
    request = messages.Measure(number, "plain", iterations)
    try:
        if key not in workers:
            workers[key] = start_worker(pool)
        worker = workers[key]
        reply = worker.ask(request, REQUEST_TIMEOUT_S)  # what comes first is warming up
        if isinstance(reply, messages.Refused) and NOT_HELD in reply.reason:
            prepare = messages.Prepare(number, record.case, warm_up=True)
            reply = worker.ask(prepare, patience(prepare))
        if isinstance(reply, messages.Refused):
            return reply.reason
        windows = []
        for _ in range(WINDOWS):
            begin, before = now(), {name: meter() for name, meter in found.items()}
            steps = 0
            while now() - begin < WINDOW_S:
                reply = worker.ask(request, REQUEST_TIMEOUT_S)
                if isinstance(reply, messages.Refused):
                    return reply.reason
                steps += iterations + 1  # the leading one has cost as much
            taken = {name: meter() - before[name] for name, meter in found.items()}
            windows.append((steps, now() - begin, taken))
    except WorkerError as error:
        workers.pop(key, None)
        return f"its worker process {error}"
    except (OSError, ValueError) as error:
        return f"a counter stopped answering: {error}"
    return Energy(
        steps=tuple(steps for steps, _, _ in windows),
        seconds=tuple(seconds for _, seconds, _ in windows),
        joules={name: tuple(taken[name] for _, _, taken in windows) for name in found},
    )
