"""How many times as fast one is as the other, with the interval of that ratio."""

from dataclasses import dataclass
from math import exp, hypot

from nncore_bench.report.format import NOT_AVAILABLE, number
from nncore_bench.verdict import Row


@dataclass(frozen=True)
class Ratio:
    """Hold a ratio with its interval; the bounds are None where one side has no interval."""

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        """Return `1.52 (1.47 to 1.58)`, with the digits that the interval leaves."""
        return self.followed_by("")

    def followed_by(self, words: str) -> str:
        """Return the ratio with words before its interval: `1.52 times as fast (1.47 to 1.58)`."""
        if self.low is None or self.high is None:
            return f"{number(self.value)}{words} ({NOT_AVAILABLE})"
        half = (self.high - self.low) / 2
        value, low, high = (number(bound, half) for bound in (self.value, self.low, self.high))
        return f"{value}{words} ({low} to {high})"

    @property
    def verdict(self) -> str:
        """Say `yes` where the ratio is above 1 beyond its interval, `no` below, `undecided` between."""
        if self.low is not None and self.low > 1:
            return "yes"
        return "no" if self.high is not None and self.high < 1 else "undecided"


def speed_up(slow: Row, fast: Row) -> Ratio | None:
    """Return how many times as fast the second step is as the first, from their medians.

    From medians, since the smallest lap of a CPU step has no counterpart on a device, whose steps are timed a
    block at a time, and since samples per second come from them.

    The relative half-widths of the two independent intervals add as squares, on the logarithmic scale. None
    where one of them was not measured.
    """
    if not slow.median_s or not fast.median_s:
        return None
    ratio = slow.median_s / fast.median_s
    widths = [relative_half_width(row) for row in (slow, fast)]
    if widths[0] is None or widths[1] is None:
        return Ratio(ratio, None, None)
    spread = hypot(widths[0], widths[1])
    return Ratio(ratio, ratio * exp(-spread), ratio * exp(spread))


def undisturbed_ratio(numerator: Row, denominator: Row) -> Ratio | None:
    """Return how many times as long one step takes undisturbed as another, on the same clock.

    None where one of them was not measured; intervals join as in `speed_up`.
    """
    if not numerator.time_s or not denominator.time_s:
        return None
    ratio = numerator.time_s / denominator.time_s
    if numerator.time_high_s is None or denominator.time_high_s is None:
        return Ratio(ratio, None, None)
    spread = hypot(
        numerator.time_high_s / numerator.time_s - 1, denominator.time_high_s / denominator.time_s - 1
    )
    return Ratio(ratio, ratio * exp(-spread), ratio * exp(spread))


def relative_half_width(row: Row) -> float | None:
    """Return half the width of the median's interval as a share of the median; None where it is unknown."""
    if not row.median_s or row.median_high_s is None:
        return None
    return row.median_high_s / row.median_s - 1
