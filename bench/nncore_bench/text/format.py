"""Numbers as text: the one place where a value gets its unit and loses the digits that mean nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor, inf, isfinite, log10

from nncore_bench.estimate.estimates import Estimate

NOT_AVAILABLE = "n/a"
MOST_DIGITS = 3
"""A number by itself shows no more; beside its interval it may show one more."""

MOST_DIGITS_WITH_INTERVAL = 4
"""No timing of a shared machine is good to more; torch.utils.benchmark stops there too."""


@dataclass(frozen=True)
class Unit:
    """A unit of time: its symbol and its length in seconds."""

    symbol: str
    seconds: float

    def text(self, seconds: float | None) -> str:
        """Return a time in this unit, without the symbol."""
        return in_unit(seconds, self.seconds)


UNITS = (Unit("s", 1.0), Unit("ms", 1e-3), Unit("µs", 1e-6), Unit("ns", 1e-9))
MICROSECONDS = UNITS[2]


def unit_for(values: Iterable[float | None]) -> Unit:
    """Return the largest unit in which the smallest of some times, in seconds, is at least 1."""
    smallest = min((value for value in values if value is not None and 0 < value < inf), default=None)
    if smallest is None:
        return MICROSECONDS
    return next((unit for unit in UNITS if smallest >= unit.seconds), UNITS[-1])


def number(value: float | None, half_width: float | None = None) -> str:
    """Return a number with the digits that its uncertainty leaves, `n/a` when it is unknown."""
    if value is None or not isfinite(value):
        return NOT_AVAILABLE
    return _rounded(value, _last_place(value, half_width, MOST_DIGITS))


def in_unit(value: float | None, unit: float) -> str:
    """Return a number in a unit, `n/a` when it is unknown."""
    return number(None if value is None else value / unit)


def micro(seconds: float | None) -> str:
    """Return a time in microseconds, without the unit."""
    return in_unit(seconds, MICROSECONDS.seconds)


def rounded(estimate: Estimate | None, unit: float = 1.0) -> str:
    """Return a value in a unit with the digits that its interval leaves, without the interval."""
    if estimate is None:
        return NOT_AVAILABLE
    half_width = estimate.half_width
    return number(estimate.value / unit, None if half_width is None else half_width / unit)


def plus_minus(estimate: Estimate | None, unit: float = 1.0) -> str:
    """Return `value ± half-width` in a unit, both to the same place."""
    if estimate is None or not isfinite(estimate.value):
        return NOT_AVAILABLE
    value, half_width = estimate.value / unit, estimate.half_width
    if half_width is None or not isfinite(half_width):
        return f"{number(value)} ± {NOT_AVAILABLE}"
    half_width = max(half_width / unit, 0.0)
    place = _last_place(value, half_width, MOST_DIGITS_WITH_INTERVAL)
    return f"{_rounded(value, place)} ± {_rounded(max(half_width, 10.0**place), place)}"


def from_to(estimate: Estimate | None, words: str = "") -> str:
    """Return `1.52 (1.47 to 1.58)`, with words after the value, and `or more` where there is no upper end."""
    if estimate is None:
        return NOT_AVAILABLE
    value, low, high = estimate.value, estimate.low, estimate.high
    if low is None:
        return f"{number(value)}{words} ({NOT_AVAILABLE})"
    half_width = value - low if high is None else (high - low) / 2
    end = "or more" if high is None else f"to {number(high, half_width)}"
    return f"{number(value, half_width)}{words} ({number(low, half_width)} {end})"


def signed(value: float, places: int) -> str:
    """Return a difference with its sign and fixed decimals: `+1,204.5`."""
    return f"{value:+,.{places}f}"


def magnitude(share: float | None) -> str:
    """Return the order of magnitude of a share: `3e-05`."""
    return NOT_AVAILABLE if share is None else f"{share:.0e}" if share else "0"


def duration(seconds: float | None) -> str:
    """Return a time with the unit that suits it, for a sentence."""
    unit = unit_for([seconds])
    return f"{number(None if seconds is None else seconds / unit.seconds)} {unit.symbol}"


def decimals(value: float | None, places: int) -> str:
    """Return a value near 0 or 1 with fixed decimals, so that a column of differences or ratios lines up."""
    if value is None or not isfinite(value):
        return NOT_AVAILABLE
    return f"{round(value, places) + 0.0:.{places}f}"  # adding 0.0 takes the sign off a zero


def span(values: Sequence[float]) -> str:
    """Return the least and the largest of some numbers: `1.2 to 3.4`, or one where both print alike."""
    if not values:
        return NOT_AVAILABLE
    low, high = decimals(min(values), 1), decimals(max(values), 1)
    return low if low == high else f"{low} to {high}"


def count(value: float | None) -> str:
    """Return a count: a whole number as it is, a mean of several with its significant digits."""
    return f"{value:,.0f}" if value is not None and float(value).is_integer() else number(value)


def several(things: int, noun: str) -> str:
    """Return `1 case` or `4 cases`."""
    return f"{things:,} {noun}{'' if things == 1 else 's'}"


def first_of(names: Sequence[str], most: int) -> str:
    """Return the first names and the number of the others: `a, b and 3 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def percentage(share: float | None) -> str:
    """Return a share as a bare number of percent: `41`, `4.1`, `0.4`."""
    if share is None or not isfinite(share):
        return NOT_AVAILABLE
    return decimals(100 * share, 0 if abs(share) >= 0.0995 else 1)  # noqa: PLR2004 - 9.95 % prints as 10


def slowdown(ratio: float | None) -> str:
    """Return a ratio as the percentage it adds, with its sign: `+12 %`."""
    if ratio is None or not isfinite(ratio):
        return NOT_AVAILABLE
    return f"{round(100 * (ratio - 1)) + 0:+d} %".replace("-", "−")  # noqa: RUF001 - a minus as wide as the plus


def _last_place(value: float, half_width: float | None, most_digits: int) -> int:
    """Return the power of ten of the last digit worth printing.

    It is the place of the interval's first digit, or of its second where the first is a 1 (rounding 1.4 to 1
    would lose too much); at least one and at most `most_digits` digits of the value are kept.
    """
    first = floor(log10(abs(value))) if value else 0
    finest = first - most_digits + 1
    if half_width is None or not isfinite(half_width) or half_width <= 0:
        return finest
    place = floor(log10(half_width))
    if half_width < 2 * 10.0**place:
        place -= 1
    return min(max(place, finest), first)


def _rounded(value: float, place: int) -> str:
    """Return a value rounded to a power of ten, with thousands separated."""
    scale = 10.0**place
    return f"{floor(value / scale + 0.5) * scale:,.{max(-place, 0)}f}"
