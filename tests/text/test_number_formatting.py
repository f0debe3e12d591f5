"""Numbers are printed with their unit, with the digits that mean something, and never as something else."""

import re

import pytest

from nncore_bench.estimate.estimates import Estimate
from nncore_bench.text.format import (
    count,
    decimals,
    duration,
    from_to,
    number,
    percentage,
    plus_minus,
    slowdown,
    unit_for,
)


@pytest.mark.parametrize(
    ("seconds", "printed"),
    [
        (20e-6, "20.0 µs"),
        (200e-6, "200 µs"),
        (2e-3, "2.00 ms"),
        (20e-3, "20.0 ms"),
        (412e-9, "412 ns"),
        (1.0, "1.00 s"),
        (60.0, "60.0 s"),
        (3e-10, "0.300 ns"),
    ],
)
def test_a_duration_is_printed_in_the_unit_that_suits_it(seconds: float, printed: str) -> None:
    """20 µs are printed as 20 µs, and not as 412 ns."""
    assert duration(seconds) == printed


@pytest.mark.parametrize("seconds", [1e-9 * 1.37**power for power in range(60)])
def test_a_printed_duration_reads_back_to_half_a_percent(seconds: float) -> None:
    """Three digits keep a number to half a unit of the third."""
    text, symbol = duration(seconds).split()
    unit = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}[symbol]
    assert float(text.replace(",", "")) * unit == pytest.approx(seconds, rel=0.0051)


@pytest.mark.parametrize(
    ("value", "half_width", "printed"),
    [
        (640.0, 8.0, "640 ± 8"),
        (640.4, 0.5, "640.4 ± 0.5"),
        (640.0, 14.0, "640 ± 14"),
        (25_134.0, 310.0, "25,100 ± 300"),
        (0.01234, 0.0005, "0.0123 ± 0.0005"),
        (351.0, 98.0, "350 ± 100"),
        (640.0, 2_400.0, "600 ± 2,400"),
        (26_340.2, 0.3, "26,340 ± 10"),
        (20.0, 0.0, "20.00 ± 0.01"),
    ],
)
def test_a_value_ends_at_the_place_of_its_interval(value: float, half_width: float, printed: str) -> None:
    """Digits that the interval makes meaningless are not shown, and the interval itself never becomes 0."""
    assert plus_minus(Estimate.around(value, half_width)) == printed


@pytest.mark.parametrize("half_width", [0.001 * 1.9**power for power in range(25)])
def test_rounding_never_moves_a_value_by_more_than_half_its_interval(half_width: float) -> None:
    """What rounding takes is small beside what is unknown anyway, or beside the fourth digit."""
    value = 1234.567
    shown, shown_half = (
        float(part.replace(",", "")) for part in plus_minus(Estimate.around(value, half_width)).split("±")
    )
    assert abs(shown - value) <= max(half_width / 2, 0.5)
    assert shown_half >= 0.66 * half_width


@pytest.mark.parametrize("unknown", [None, float("nan"), float("inf")])
def test_unknown_is_not_zero(unknown: float | None) -> None:
    """Every formatting function prints n/a for what is not known."""
    printed = [
        number(unknown),
        plus_minus(None if unknown is None else Estimate(unknown, 0.0, 1.0)),
        percentage(unknown),
        slowdown(unknown),
    ]
    printed += [decimals(unknown, 1), count(unknown), duration(unknown).split()[0]]
    assert set(printed) == {"n/a"}


@pytest.mark.parametrize("high", [None, float("inf")])
def test_a_value_without_interval_says_so(high: float | None) -> None:
    """A single block has no spread; its value is shown all the same."""
    assert plus_minus(Estimate(640.0, high=high)) == "640 ± n/a"


@pytest.mark.parametrize(
    ("values", "symbol"),
    [
        ([20e-6, 20e-3], "µs"),
        ([2e-3, 20e-3], "ms"),
        ([1.0, 3.0], "s"),
        ([999e-9, 1.0], "ns"),
        ([None, 0.0, 2e-3], "ms"),
        ([], "µs"),
        ([None], "µs"),
    ],
)
def test_a_column_takes_the_unit_of_its_smallest_value(values: list[float | None], symbol: str) -> None:
    """One unit for a column keeps its lines comparable; nothing in it is below 1."""
    assert unit_for(values).symbol == symbol


@pytest.mark.parametrize(
    ("share", "printed"),
    [(0.412, "41"), (0.041, "4.1"), (0.0995, "10"), (0.004, "0.4"), (1.0, "100"), (0.0, "0.0")],
)
def test_shares_are_percentages(share: float, printed: str) -> None:
    """Small ones keep a decimal."""
    assert percentage(share) == printed


@pytest.mark.parametrize(
    ("ratio", "printed"), [(1.124, "+12 %"), (0.97, "\N{MINUS SIGN}3 %"), (1.001, "+0 %"), (0.999, "+0 %")]
)
def test_disturbances_carry_their_sign(ratio: float, printed: str) -> None:
    """And zero has no minus."""
    assert slowdown(ratio) == printed


@pytest.mark.parametrize(("value", "printed"), [(-0.52, "-0.5"), (-0.01, "0.0"), (1.24, "1.2")])
def test_differences_may_be_negative(value: float, printed: str) -> None:
    """A lap overhead below zero is noise that has to be seen."""
    assert decimals(value, 1) == printed


@pytest.mark.parametrize(("value", "printed"), [(3.0, "3"), (2.5, "2.50"), (1234.0, "1,234")])
def test_counts_are_whole_where_they_are(value: float, printed: str) -> None:
    """Three calls a step are 3, not 3.00."""
    assert count(value) == printed


@pytest.mark.parametrize(
    ("estimate", "printed"),
    [
        (Estimate(1.523, 1.468, 1.58), "1.52 times (1.47 to 1.58)"),
        (Estimate(1.523), "1.52 times (n/a)"),
        (Estimate(1234.0, 900.0), "1,200 times (900 or more)"),
        (None, "n/a"),
    ],
)
def test_an_interval_is_printed_as_far_as_it_is_known(estimate: Estimate | None, printed: str) -> None:
    """Both ends to the same place, one end alone, or neither."""
    assert from_to(estimate, " times") == printed


def test_negative_numbers_keep_their_sign() -> None:
    """An offset of -6 µs is not 0."""
    assert re.fullmatch(r"-6", number(-6.2, 1.0 * 2))
