"""The crossover: from which batch size on one device is faster than another, with its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, inf, isinf, log

from nncore_bench.estimate.estimates import Estimate


@dataclass(frozen=True)
class Crossing:
    """A batch size at which the faster device changes.

    `upward`: above it the faster one is the device whose speed-up this is. The interval is where the curves
    of the speed-up's bounds cross; None is an end beyond the batch sizes measured.
    """

    batch_size: Estimate
    upward: bool


@dataclass(frozen=True)
class Crossover:
    """Where the speed-up of one device over another passes `worth` as the batch size grows.

    `batch_sizes` and `crossings` are in ascending order. `faster` is True if the device is surely faster at
    the smallest and the largest batch size and never the slower or equal one between, False if it is surely
    slower at both and there is no crossing, and None otherwise.
    """

    batch_sizes: tuple[int, ...]
    worth: float
    crossings: tuple[Crossing, ...]
    faster: bool | None


def crossover(speed_ups: Mapping[int, Estimate], *, worth: float = 1.0) -> Crossover:
    """Return where a speed-up passes `worth` (1, or the price of the device in units of the other's).

    `speed_ups` are positive, by batch size in ascending order, at least one. Between two batch sizes both
    times are straight lines over the batch size on logarithmic axes, and so is their quotient; nothing is
    said beyond the sizes measured. A value that touches `worth` and turns back is no crossing.
    """
    sizes, points = [log(size) for size in speed_ups], [one.scaled(1 / worth) for one in speed_ups.values()]
    values = [log(point.value) for point in points]
    lows = [-inf if point.low is None else log(point.low) for point in points]
    highs = [inf if point.high is None else log(point.high) for point in points]
    crossings = [_crossing(sizes, lows, highs, at, upward=upward) for at, upward in _zeros(sizes, values)]
    ends = {points[0].exceeds(1), points[-1].exceeds(1)}
    sure = not crossings and (ends == {False} or (ends == {True} and min(values) > 0))
    return Crossover(tuple(speed_ups), worth, tuple(crossings), ends.pop() if sure else None)


def _zeros(sizes: Sequence[float], values: Sequence[float]) -> list[tuple[float, bool]]:
    """Return where a broken line changes its sign, and whether upward; in the logarithm of batch sizes.

    Of a stretch of zeros between two signs it is the middle.
    """
    signed = [index for index, value in enumerate(values) if value]
    return [
        (_zero_between(sizes, values, left, right), values[right] > 0)
        for left, right in pairwise(signed)
        if (values[left] > 0) != (values[right] > 0)
    ]


def _zero_between(sizes: Sequence[float], values: Sequence[float], left: int, right: int) -> float:
    """Return where a line passes zero between two points of opposite signs, all between them being zero."""
    if right - left > 1:
        return (sizes[left + 1] + sizes[right - 1]) / 2
    if isinf(values[left]) or isinf(values[right]):  # an unknown bound: as far as it may be
        return sizes[right] if isinf(values[left]) else sizes[left]
    return sizes[left] + (sizes[right] - sizes[left]) * values[left] / (values[left] - values[right])


def _crossing(
    sizes: Sequence[float], lows: Sequence[float], highs: Sequence[float], at: float, *, upward: bool
) -> Crossing:
    """Return a crossing with its interval: upward the upper bound passes first, downward the lower one."""
    first, second = (highs, lows) if upward else (lows, highs)
    before = [zero for zero, up in _zeros(sizes, first) if up == upward and zero <= at]
    after = [zero for zero, up in _zeros(sizes, second) if up == upward and zero >= at]
    low, high = (exp(max(before)) if before else None), (exp(min(after)) if after else None)
    return Crossing(Estimate(exp(at), low, high), upward)
