"""The pure checks of the self-test on made-up figures with known answers."""

from collections.abc import Callable

import numpy as np
import pytest
from made_up_runs import STEP_LAPS, STEP_NS, block_of

from nncore_bench.estimate.estimates import Estimate
from nncore_bench.runs import Block
from nncore_bench.selftest import checks as truth
from nncore_bench.selftest.checks import Check, Steps

READINGS = np.full(1_000, 40)


def test_a_good_clock_passes_with_its_resolution_and_cost() -> None:
    """40 ns a reading, and spans that agree with the other clock, one of them interrupted at its end."""
    spans = [
        (1_000_000, 999_950, 1_000_050),
        (1_000_100, 1_000_000, 1_000_200),
        (1_000_000, 990_000, 9_000_000),
    ]
    check = truth.clock(READINGS, spans)
    assert check.passed
    assert (check.figures["resolution_ns"], check.figures["reading_ns"]) == (40, 40)
    assert check.figures["drift"] == pytest.approx(0, abs=1e-8)
    assert check.figures["drift_low"] == pytest.approx(-50e-6, rel=0.01)


def test_a_clock_that_goes_backwards_fails_clearly() -> None:
    """And says by how much."""
    backwards = READINGS.copy()
    backwards[500] = -25
    check = truth.clock(backwards, [(1_000_000, 1_000_000, 1_000_000)])
    assert (check.passed, check.figures) == (False, {"back_ns": 25})


def test_a_clock_that_stands_still_fails_clearly() -> None:
    """Whether between readings or over a span."""
    stood = [(0, 2_000_000, 2_000_100)]
    assert truth.clock(READINGS * 0, stood).figures == {"still_ms": 2}
    assert truth.clock(READINGS, stood).passed is False


@pytest.mark.parametrize(
    ("between_ns", "span_ns"),
    [(np.full(1_000, 2_000), 1_000_000), (READINGS, 1_002_000), (READINGS, 998_000)],
    ids=["a reading of 2 µs", "0.2 % fast", "0.2 % slow"],
)
def test_a_clock_that_is_coarse_or_wrong_fails(between_ns: np.ndarray, span_ns: int) -> None:
    """At most 1 µs a reading, and within 0.1 % of the other clock."""
    assert truth.clock(between_ns, [(span_ns, 999_900, 1_000_100)]).passed is False


def test_a_clock_is_not_accused_of_what_comes_between_it_and_the_other() -> None:
    """Every span was interrupted for 1 % of it between the readings of the two clocks."""
    late = [(1_005_000, 1_000_000, 1_010_000), (1_000_000, 995_000, 1_005_000)]
    assert truth.clock(READINGS, late).passed is None
    fast = [(round(1.05 * own), least, most) for own, least, most in late]
    assert truth.clock(READINGS, fast).passed is False


def steps_of(*, phase_ns: int = 0, left_ns: int = 0, scale: float = 1.0) -> list[Block]:
    """Return the blocks of a case whose laps are changed by some nanoseconds, and whose plain step is not."""
    changed = STEP_LAPS | {
        "forward": STEP_LAPS["forward"] + phase_ns,
        "unattributed": STEP_LAPS["unattributed"] + left_ns,
    }
    blocks = []
    for launch in range(2):
        for number in range(launch, 6, 2):
            factor = scale * (1 + 0.01 * number)  # the machine gets slower, and both kinds of block with it
            lapped = {name: round(time * factor) for name, time in changed.items()}
            plain = {"step": round(STEP_NS * factor)}
            blocks.append(block_of("laps", laps=lapped, launch=launch, number=number))
            blocks.append(block_of("plain", laps=plain, launch=launch, number=number))
    return blocks


def test_laps_that_make_the_whole_pass_and_say_what_is_unattributed() -> None:
    """650 of 660 µs are in phases, and 10 µs unattributed."""
    check = truth.parts_and_whole([steps_of()])
    assert check.passed
    assert check.figures["mean"] == pytest.approx(np.log(650 / 660))
    assert check.figures["unattributed_low_us"] == pytest.approx(10, rel=0.06)
    assert check.figure.startswith("the laps miss the step by -1.5 % ± 0.0 % over 1 cases (-1.5 % to -1.5 %)")


def test_laps_that_miss_the_whole_fail() -> None:
    """By more than 3 % and 5 µs, in either direction; a tenth of the step is within 5 µs."""
    assert not truth.parts_and_whole([steps_of(phase_ns=-20_000)]).passed
    assert not truth.parts_and_whole([steps_of(phase_ns=40_000)]).passed
    assert truth.parts_and_whole([steps_of(phase_ns=-20_000, scale=0.1)]).passed
    assert not truth.parts_and_whole([]).passed
    assert not truth.parts_and_whole([[block for block in steps_of() if block.kind == "laps"]]).passed


def test_one_case_that_is_surely_off_fails_the_check_of_all() -> None:
    """Most cases are fine, and the check fails all the same."""
    assert not truth.parts_and_whole([steps_of(), steps_of(), steps_of(phase_ns=40_000)]).passed


def test_an_observer_that_costs_three_percent_fails() -> None:
    """More than 2 % and 5 µs, wherever the clock reads leave it."""
    assert truth.observer([steps_of()]).passed
    assert not truth.observer([steps_of(left_ns=20_000)]).passed
    assert not truth.observer([]).passed


def noisy_steps(noise: float, error: float = 0.0, seed: int = 0) -> list[list[Block]]:
    """Return six cases whose blocks vary at random by a share, and whose laps are longer by an error."""
    random = np.random.default_rng(seed)

    def of_one() -> list[Block]:
        return [
            block_of(
                kind,
                laps={
                    name: round(time * factor * np.exp(random.normal(0, noise))) for name, time in of.items()
                },
                launch=launch,
                number=number,
            )
            for launch in range(2)
            for number in range(launch, 16, 2)
            for kind, of, factor in (("laps", STEP_LAPS, 1 + error), ("plain", {"step": STEP_NS}, 1.0))
        ]

    return [of_one() for _ in range(6)]


def test_a_loud_machine_is_neither_a_pass_nor_a_failure() -> None:
    """Blocks that vary by 60 % hide an error of 5 %; 100 of such runs fail by chance in 2 at most."""
    outcomes = [truth.observer(noisy_steps(0.6, seed=seed)).passed for seed in range(100)]
    assert outcomes.count(True) < 20
    assert outcomes.count(False) <= 2


@pytest.mark.parametrize(
    ("check", "error"), [(truth.observer, 0.05), (truth.parts_and_whole, 1.05 * 660 / 650 - 1)]
)
def test_an_error_of_five_percent_passes_once_in_30_at_most_however_loud(
    check: Callable[[Steps], Check], error: float
) -> None:
    """By noise of 1 to 60 % in each lap, 30 runs each; it fails while the machine lets it be seen."""
    for noise in (0.01, 0.1, 0.6):
        outcomes = [check(noisy_steps(noise, error, seed)).passed for seed in range(30)]
        assert outcomes.count(True) <= 1
        assert noise > 0.01 or set(outcomes) == {False}


def test_laps_that_vary_by_themselves_excuse_a_delay_that_is_off() -> None:
    """A delay of 300 µs found as 330: a failure, unless laps of that phase without one differ by 10 µs."""

    def steps(noise_ns: int) -> list[Block]:
        blocks = []
        for number in range(4):
            laps = dict(STEP_LAPS)
            block = block_of("laps", laps=laps, number=number)
            column = block.laps.index("loss")
            block.host[:, column] += noise_ns * (number % 2)
            block.host[1::3, column] += 330_000 - noise_ns * (number % 2)
            blocks.append(block)
        return blocks

    assert truth.planted_delay("loss", 300e-6, steps(0)).passed is False
    assert truth.planted_delay("loss", 300e-6, steps(10_000)).passed is None


def test_twins_fail_only_beyond_the_binomial_bound() -> None:
    """Of 12 intervals at 95 %, 4 may miss zero (P(more) < 0.1 %), and 5 may not."""
    held, missed = Estimate.around(0.01, 0.02), Estimate.around(0.03, 0.02)
    assert truth.identical_twins([held] * 8 + [missed] * 4).passed
    assert not truth.identical_twins([held] * 7 + [missed] * 5).passed
    assert not truth.identical_twins([]).passed


def test_an_interval_that_is_not_known_holds_nothing() -> None:
    """An instrument without intervals cannot pass by having none."""
    assert not truth.identical_twins([Estimate(0.0)] * 12).passed


def test_the_difference_of_twins_is_that_of_their_smallest_laps_block_by_block() -> None:
    """One is 2 % slower in every block of every launch: ln 1.02, known exactly."""
    a = [[np.array([100.0, 130.0]), np.array([102.0, 120.0])] for _ in range(2)]
    b = [[block * 1.02 for block in launch] for launch in a]
    twin = truth.difference(b, a)
    assert twin.value == pytest.approx(np.log(1.02))
    assert twin.half_width == pytest.approx(0.0, abs=1e-12)
    assert twin.exceeds(0) is True


def test_intervals_of_simulated_twins_hold_zero_as_often_as_they_say() -> None:
    """400 pairs whose launches and rounds really differ at random, seed 1: 92 to 98 %."""
    random = np.random.default_rng(1)

    def twin() -> list[list[np.ndarray]]:
        launch = random.normal(0, 0.01, (4, 1))
        return [
            [np.array([value]) for value in row]
            for row in 100 * np.exp(launch + random.normal(0, 0.02, (4, 6)))
        ]

    held = sum(truth.difference(twin(), twin()).exceeds(0) is None for _ in range(400))
    assert 368 <= held <= 396  # 99.9 % of binomial draws at 95.5 %


def test_counts_must_equal_the_closed_form_everywhere() -> None:
    """One size that is off by one fails the check, and so does one that is missing."""
    assert truth.closed_form("FLOP", {"a": 10, "b": 20}, {"a": 10, "b": 20}).passed
    assert not truth.closed_form("FLOP", {"a": 10, "b": 21}, {"a": 10, "b": 20}).passed
    assert not truth.closed_form("FLOP", {"a": 10}, {"a": 10, "b": 20}).passed
    assert not truth.closed_form("FLOP", {}, {}).passed


def test_counts_must_be_the_same_in_all_repeats() -> None:
    """19 of 20 is a failure, whether one differs or is missing."""
    assert truth.same_every_time("counts", [7] * 20, 20).passed
    assert not truth.same_every_time("counts", [7] * 19 + [8], 20).passed
    assert truth.same_every_time("counts", [7] * 19, 20).figures == {"same": 19, "limit": 20}
    assert not truth.same_every_time("counts", [7] * 19, 20).passed


def test_a_clock_that_does_not_wait_for_the_device_fails() -> None:
    """Kernels of 20 ms that were enqueued in 0.1 ms, and a block whose wall time holds them."""
    assert truth.synchronised(20_000_000, 20_100_000).passed
    assert not truth.synchronised(20_000_000, 100_000).passed
    assert not truth.synchronised(20_000_000, 0).passed
    assert not truth.synchronised(10_000_000, 20_000_000).passed
