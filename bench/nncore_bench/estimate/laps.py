"""Which of a block's laps are published as the time of a phase, on the CPU and on a device."""

import numpy as np

from nncore_bench.cases import OTHER, Case, kind_of
from nncore_bench.estimate.estimates import Laps, Lows
from nncore_bench.runs import Block, BlocksOfCase


def lows_of(by_kind: BlocksOfCase, phase: str, case: Case, mark_ns: float = 0.0) -> Lows | None:
    """Return the undisturbed time of a phase in a run and in its launches; None without blocks.

    On the CPU it is the smallest lap, and that of a step the sum of those of its parts, so that they add up
    to it. An own step, whose laps contain its seams, has the smallest of its steps without laps. On a device
    the blocks of a launch are averaged.
    """
    blocks, columns = by_kind[kind_of(phase)], [phase]
    if phase == "step" and not case.on_device and (lapped := by_kind["laps"]) and OTHER not in lapped[0].laps:
        blocks, columns = lapped, list(lapped[0].laps)
    launches: dict[int, list[Laps]] = {}
    for block in blocks:
        laps = [published(block, name, case, mark_ns) for name in columns]
        launches.setdefault(block.launch, []).append(np.stack(laps, axis=1))
    if not launches:
        return None
    return Lows.averaged(launches) if case.on_device else Lows.of(launches)


def published(block: Block, phase: str, case: Case, mark_ns: float = 0.0) -> Laps:
    """Return the laps that are the time of a phase, in nanoseconds.

    On the CPU, and for `data` everywhere, they are the host's, one per iteration. On a device they are one
    value per block, the mean over its iterations: of the spans between events for the parts, less `mark_ns`
    for each event (see `spans_of`), and of the wall clock for phases without events (whole step, inference).
    Means of spans add up to the whole step; the smallest spans come from different iterations.
    """
    if phase == "data" or not case.on_device:
        return block.column(phase)
    if block.device is None:
        return np.array([block.wall_mean_ns])
    return spans_of(block, mark_ns)[[block.laps.index(phase)]]


def spans_of(block: Block, mark_ns: float) -> Laps:
    """Return the mean span in nanoseconds of each lap of a block on a device, of shape [laps].

    Each lap contains the recording of one event, so `mark_ns` is subtracted per lap, but never more than the
    lap has. Raises ValueError for a block without events.
    """
    if block.device is None:
        raise ValueError(f"a block of {block.kind} without events has no spans on a device")
    means: Laps = block.device[1:].mean(axis=0)
    return means - _evenly(means, mark_ns * len(means))


def _evenly(laps: Laps, total: float) -> Laps:
    """Return the amounts to subtract from laps, `total` in all: equal ones, or a whole lap if shorter."""
    rising = np.sort(laps)
    given_up = np.concatenate([[0.0], np.cumsum(rising)[:-1]])
    each = (total - given_up) / np.arange(len(laps), 0, -1)
    enough = each <= rising
    level = each[enough.argmax()] if enough.any() else rising[-1]
    return np.minimum(laps, max(level, 0.0))
