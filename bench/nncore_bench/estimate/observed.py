"""The estimates of a run that was watched: what a step took with all that happened to it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from nncore_bench.cases import parts_in
from nncore_bench.estimate.estimates import COVERAGE, Estimate, Laps, half_width
from nncore_bench.runs import NANO
from nncore_bench.watch.fold import Watched

TAIL = 0.95


@dataclass(frozen=True)
class Observed:
    """A phase of the watched steps, or the whole step: the mean, median and 95 % quantile, in seconds.

    The means of phases add up to that of the step; `share` is that of the step, and `of_steps` the share of
    the steps that had the phase at all.
    """

    phase: str
    mean: Estimate
    median_s: float
    tail_s: float
    share: float
    of_steps: float


def observed(watched: Watched) -> list[Observed]:
    """Return the phases of the watched steps in their order, and the step last; nothing without steps."""
    if not watched.parts_ns:
        return []
    whole = [np.array(window, dtype=float) for window in watched.watched_ns]
    of_step = _observed("step", whole, 1.0)
    mean_ns = of_step.mean.value / NANO
    found = []
    for phase in parts_in(watched.parts_ns[0]):
        windows = [np.array(parts[phase], dtype=float) for parts in watched.parts_ns]
        found.append(_observed(phase, windows, float(np.concatenate(windows).mean()) / mean_ns))
    return [*found, of_step]


def _observed(phase: str, windows: Sequence[Laps], share: float) -> Observed:
    everything = np.concatenate(windows)
    half = half_width(np.array([[window.mean() for window in windows]]))
    return Observed(
        phase,
        Estimate.around(float(everything.mean()), half).scaled(NANO),
        float(np.median(everything)) * NANO,
        float(np.quantile(everything, TAIL)) * NANO,
        share,
        float((everything > 0).mean()),
    )


def cost_of_seams(with_seams: Sequence[Sequence[int]], without: Sequence[Sequence[int]]) -> Estimate | None:
    """Return the seconds that seams add to a step: the median over rounds of the difference of medians.

    The interval is that of the median by the order of the differences, whatever their distribution
    (Thompson, Annals of Mathematical Statistics 7, 1936). None without a round that has both.
    """
    differences = np.sort(
        [np.median(seams) - np.median(bare) for seams, bare in zip(with_seams, without, strict=False)]
    )
    if not len(differences):
        return None
    value = float(np.median(differences)) * NANO
    rounds, beyond = len(differences), (1 - COVERAGE) / 2
    left_out = [rank for rank in range(rounds // 2) if binom.cdf(rank, rounds, 0.5) <= beyond]
    if not left_out:  # of five rounds and fewer
        return Estimate(value)
    low, high = differences[left_out[-1]], differences[-1 - left_out[-1]]
    return Estimate(value, float(low) * NANO, float(high) * NANO)
