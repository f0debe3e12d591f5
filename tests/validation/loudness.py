"""How loud the machine is: a fixed product of matrices, timed on each core again and again.

    python tests/validation/loudness.py [--seconds 5] [--json]

A core of a shared machine changes between a fast state and slow ones, for milliseconds or for seconds. A lap
is slow if it takes more than SLOWED times as long as the 5 % quantile of its core's laps. A core that is slow
all the time therefore shows in the time of its fast laps alone: compare that with other cores and hours.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
from tabulate import tabulate

Floats: TypeAlias = npt.NDArray[np.float64]

FAST_QUANTILE, SLOWED = 0.05, 1.25
SIZE, PRODUCTS = 128, 20  # a millisecond or less; both matrices fit into 128 KiB
WARM_UP_S = 0.1
TITLE = "How loud the machine was"
NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Stretches:
    """Lengths of the stretches in which a core stayed in one state, in seconds."""

    median_s: float
    longest_s: float


@dataclass(frozen=True)
class Loudness:
    """How much of the time a core was slow, how slow it was then, and for how long at a stretch.

    `fast_lap_s` is the 5 % quantile of its laps, `slow_share` a share of the time, and `times_slower` the
    median slow lap over the median fast one. A core that was never slow has None.
    """

    core: int
    fast_lap_s: float
    slow_share: float
    times_slower: float | None
    slow: Stretches | None
    fast: Stretches


@dataclass(frozen=True)
class Probe:
    """The loudness of all cores before one slice of a series, beside a load of burner.py.

    `started` is a UTC time in ISO format.
    """

    started: str
    cores: tuple[Loudness, ...]
    load: str = "none"


def loudness_of(core: int, laps_s: Floats) -> Loudness:
    """Return how loud a core was while it took these laps, of shape [laps] and one after the other."""
    fast_lap = float(np.quantile(laps_s, FAST_QUANTILE))
    slow = laps_s > SLOWED * fast_lap
    begins = np.flatnonzero(np.diff(slow, prepend=not slow[0]))
    lengths, is_slow = np.add.reduceat(laps_s, begins), slow[begins]
    return Loudness(
        core,
        fast_lap,
        float(laps_s[slow].sum() / laps_s.sum()),
        float(np.median(laps_s[slow]) / np.median(laps_s[~slow])) if slow.any() else None,
        _stretches(lengths[is_slow]) if slow.any() else None,
        _stretches(lengths[~is_slow]),
    )


def _stretches(lengths_s: Floats) -> Stretches:
    return Stretches(float(np.median(lengths_s)), float(lengths_s.max()))


def laps_of(core: int, seconds: float) -> Floats:
    """Return the times of the product on a core, taken for some seconds, of shape [laps]."""
    import torch  # noqa: PLC0415 - takes seconds, and who only reads what was recorded gets along without it

    torch.set_num_threads(1)
    one, other = torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE)
    laps: list[int] = []
    with _pinned(core):
        begun = before = time.perf_counter_ns()
        while before < begun + (WARM_UP_S + seconds) * 1e9:
            for _ in range(PRODUCTS):
                one @ other
            now = time.perf_counter_ns()
            if before >= begun + WARM_UP_S * 1e9:
                laps.append(now - before)
            before = now
    return np.array(laps) / 1e9


@contextmanager
def _pinned(core: int) -> Iterator[None]:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def sentence(one: Loudness) -> str:
    """Return the line about one core."""
    fast = f"fast laps of {1e3 * one.fast_lap_s:.2f} ms in stretches of {_in_ms(one.fast)}"
    if one.slow is None or one.times_slower is None:
        return f"core {one.core}: never slow; {fast}"
    return (
        f"core {one.core}: slow {100 * one.slow_share:.0f} % of the time, {one.times_slower:.2f} times slower"
        f" then, in stretches of {_in_ms(one.slow)}; {fast}"
    )


def _in_ms(stretches: Stretches) -> str:
    return f"{1e3 * stretches.median_s:.1f} ms (longest {1e3 * stretches.longest_s:.0f})"


Reading: TypeAlias = Callable[[Loudness], float | None]
COLUMNS: Mapping[str, tuple[str, Reading]] = {
    "slow, % of the time": (".0f", lambda one: 100 * one.slow_share),
    "times slower": (".2f", lambda one: one.times_slower),
    "slow stretch, ms": (".1f", lambda one: 1e3 * one.slow.median_s if one.slow else None),
    "longest": (".0f", lambda one: 1e3 * one.slow.longest_s if one.slow else None),
    "fast stretch, ms": (".1f", lambda one: 1e3 * one.fast.median_s),
    "longest fast": (".0f", lambda one: 1e3 * one.fast.longest_s),
    "fast lap, ms": (".2f", lambda one: 1e3 * one.fast_lap_s),
}


def loudness_table(series: Iterable[tuple[Mapping[str, str], Sequence[Probe]]]) -> str:
    """Return how loud each core was over the slices of each series, which its own columns name."""
    named = list(series)
    if not any(probes for _, probes in named):
        return f"{TITLE}: {NOT_RECORDED}"
    lines = [{**name, **line} for name, probes in named for line in _lines(probes)]
    table = tabulate(lines, headers="keys", tablefmt="pipe", disable_numparse=True, missingval="-")
    return f"{TITLE}, median over the slices (least to most):\n\n{table}"


def _lines(probes: Sequence[Probe]) -> list[dict[str, str]]:
    cores: dict[tuple[str, int], list[Loudness]] = {}
    for probe in probes:
        for one in probe.cores:
            cores.setdefault((probe.load, one.core), []).append(one)
    if not cores:
        return [{"core": NOT_RECORDED}]
    return [
        ({"probed beside": load} if any(name != "none" for name, _ in cores) else {})
        | {"core": str(core), "slices": str(len(ones))}
        | {name: _over([read(one) for one in ones], places) for name, (places, read) in COLUMNS.items()}
        for (load, core), ones in sorted(cores.items())
    ]


def _over(values: Sequence[float | None], places: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    middle, least, most = (format(one, places) for one in (median(known), min(known), max(known)))
    return f"{middle} ({least} to {most})"


def main() -> None:
    """Probe all cores that this process may use, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each core is probed")
    parser.add_argument("--json", action="store_true", help="print figures for a program, times in seconds")
    given = parser.parse_args()
    if not given.seconds > 0:
        parser.error(f"--seconds: {given.seconds:g} gives no laps (example: 5)")
    if not hasattr(os, "sched_getaffinity"):
        sys.exit("a process cannot choose its core on this system (a series goes without with --no-probe)")
    cores = sorted(os.sched_getaffinity(0))
    found = [loudness_of(core, laps_of(core, given.seconds)) for core in cores]
    sys.stdout.write(msgspec.json.encode(found).decode() if given.json else "\n".join(map(sentence, found)))
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
