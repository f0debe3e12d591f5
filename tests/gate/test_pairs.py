"""Pairs of sides that answer at once, with times that are known."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import CPU_CASE

from nncore_bench.campaign.launcher import WorkerError
from nncore_bench.cases import STEP_PHASES
from nncore_bench.gate.pairs import (
    BASE,
    CANDIDATE,
    Pairing,
    Sample,
    SideError,
    Times,
    ratios_of,
    sample_of,
    without_waiting,
)
from nncore_bench.gate.ratios import STEP
from nncore_bench.runs import Block
from nncore_bench.worker import messages

MEASURED = (STEP, *STEP_PHASES)

LAPS = [20, 130, 30, 190, 280, 10]


class Side:
    """Answer with known laps; the candidate's forward takes 10 % longer, and one lap in each is absurd."""

    def __init__(self, path: Path, events: list[str]) -> None:
        self.name = path.name
        self.events = events

    def ask(self, request: messages.Request) -> messages.Reply:
        self.events.append(f"{type(request).__name__} {self.name}")
        if isinstance(request, messages.Prepare):
            return messages.Prepared({"plain": 660e-6, "laps": 660e-6}, steady=True, correct={})
        assert isinstance(request, messages.Measure)
        laps = np.tile(np.array(LAPS) * 1000, (request.iterations + 1, 1))
        if self.name == "candidate":
            laps[:, 1] = 143_000
        laps[0] *= 100  # the leading iteration
        laps[-1] *= 3
        return messages.Measured(laps.astype(np.int64).tobytes(), None, 1)

    def close(self) -> None:
        self.events.append(f"close {self.name}")


class Dying(Side):
    """Be gone when it is asked."""

    def ask(self, request: messages.Request) -> messages.Reply:
        raise WorkerError(f"was killed {request}")


PATHS = (Path("base"), Path("candidate"))


def pairing(events: list[str], seed: int = 0, cases: int = 2, kind: type[Side] = Side) -> Pairing:
    coins = random.Random(seed)  # noqa: S311 - coins, and no secret
    return Pairing(
        [CPU_CASE] * cases, lambda _arm, _device, path, _core: kind(path, events), [0, 1], coins, samples=4
    )


def test_a_slower_phase_comes_out_as_its_logarithm() -> None:
    """Forward 130 to 143, the step of 660 by 13 more; the others are the same."""
    measured = pairing([]).measure(PATHS, [0, 1])
    assert measured.keys() == {0, 1}
    found = measured[0]
    expected = dict.fromkeys(MEASURED, 0.0) | {"forward": np.log(1.1), "step": np.log(673 / 660)}
    assert found.low == pytest.approx(expected)
    assert found.mean == pytest.approx(expected)
    assert found.base_s["step"] == pytest.approx(660e-6)


def test_coins_decide_everything_that_has_an_order() -> None:
    """Launch, set-up and samples: each side goes first about half of the time, over many seeds."""
    firsts: Counter[str] = Counter()
    for seed in range(60):
        events: list[str] = []
        pairing(events, seed, cases=1).measure(PATHS, [0])
        prepared = [event for event in events if event.startswith("Prepare")]
        measured = [event for event in events if event.startswith("Measure")]
        firsts[prepared[0]] += 1
        firsts.update(measured[::2])
    assert 15 <= firsts["Prepare base"] <= 45
    assert 90 <= firsts["Measure base"] <= 150  # of 240


def test_one_block_of_each_side_makes_a_sample() -> None:
    """Sides are alike in what is asked of them, sample by sample."""
    events: list[str] = []
    pairing(events, cases=1).measure(PATHS, [0])
    measured = [event for event in events if event.startswith("Measure")]
    assert all(
        set(pair) == {"Measure base", "Measure candidate"}
        for pair in zip(measured[::2], measured[1::2], strict=True)
    )
    assert [event for event in events if event.startswith("close")] == ["close base", "close candidate"]


def test_a_side_that_dies_is_named_with_its_case() -> None:
    """So that the pair is discarded, whichever side it was."""
    events: list[str] = []
    with pytest.raises(SideError, match="was killed") as caught:
        pairing(events, kind=Dying).measure(PATHS, [0])
    assert caught.value.side in (BASE, CANDIDATE)
    assert caught.value.case == CPU_CASE
    assert sorted(events) == ["close base", "close candidate"]


def test_blocks_are_of_one_length_for_both_sides_and_of_many_over_the_samples() -> None:
    """Settled once, by the first pair: 8 ms are 12 steps of 660 µs, and up to a third more, by a coin."""
    asked: list[int] = []

    class Counting(Side):
        def ask(self, request: messages.Request) -> messages.Reply:
            if isinstance(request, messages.Measure):
                asked.append(request.iterations)
            return super().ask(request)

    pairs = pairing([], kind=Counting)
    for _ in range(2):
        pairs.measure(PATHS, [0])
    assert asked[::2] == asked[1::2]
    assert set(asked) <= set(range(12, 17))
    assert len(set(asked)) > 1


@pytest.mark.parametrize(("step_s", "steps"), [(0.7, {4, 5}), (1.0, {3, 4}), (2.5, {1})])
def test_blocks_of_a_long_step_have_few_iterations_and_no_fewer_samples(
    step_s: float, steps: set[int]
) -> None:
    """Four up to 0.8 s, and up to a third more; one of 2 s and more."""
    asked: list[int] = []

    class Long(Side):
        def ask(self, request: messages.Request) -> messages.Reply:
            if isinstance(request, messages.Prepare):
                return messages.Prepared({"laps": step_s}, steady=True, correct={})
            asked.append(request.iterations)  # type: ignore[union-attr]
            return super().ask(request)

    for seed in range(8):
        pairs = pairing([], seed, cases=1, kind=Long)
        found = pairs.measure(PATHS, [0])[0]
        assert found.low["step"] == pytest.approx(np.log(673 / 660))
    assert set(asked) == steps
    assert len(asked) == 8 * 4 * 2


SLOW_BLOCK = 7


class Seldom(Side):
    """Be ten times slower in a single step of the seventh block of the candidate."""

    def ask(self, request: messages.Request) -> messages.Reply:
        reply = super().ask(request)
        blocks = sum(event == "Measure candidate" for event in self.events)
        if not isinstance(reply, messages.Measured) or self.name != "candidate" or blocks != SLOW_BLOCK:
            return reply
        laps = np.frombuffer(reply.host, np.int64).reshape(-1, len(LAPS)).copy()
        laps[3] *= 10
        return messages.Measured(laps.tobytes(), None, 1)


def test_one_slow_call_in_one_block_of_many_is_in_the_block_mean_and_not_in_the_low_estimate() -> None:
    """A median over the samples would hide it."""
    pairs = pairing([], kind=Seldom, cases=1)
    pairs.samples = 8
    found = pairs.measure(PATHS, [0])[0]
    plain = pairing([], cases=1).measure(PATHS, [0])[0]
    assert found.low == pytest.approx(plain.low)
    steps = 8 * 14.5  # about
    assert found.mean["step"] - plain.mean["step"] == pytest.approx(9 / steps, rel=0.2)


def test_the_time_that_others_had_the_core_is_taken_from_where_it_went() -> None:
    """4 ms in one lap of the second iteration, 3 ms in another: 7 ms waited leave the laps as they were."""
    laps = np.tile(np.array(LAPS, float) * 1000, (12, 1))
    disturbed = laps.copy()
    disturbed[1, 3] += 4e6
    disturbed[7, 0] += 3e6
    assert without_waiting(disturbed, 7e6) == pytest.approx(laps)
    assert without_waiting(disturbed, 0) == pytest.approx(disturbed)
    partly = without_waiting(disturbed, 5e6)
    assert partly[1, 3] == pytest.approx(laps[1, 3])
    assert partly.sum() == pytest.approx(disturbed.sum() - 5e6)


def test_most_laps_of_a_long_step_may_have_waited() -> None:
    """Turns of 4 ms in three of four steps of 11 ms."""
    laps = np.tile(np.array(LAPS, float) * 17_000, (4, 1))
    disturbed = laps.copy()
    disturbed[[0, 1, 3], [3, 4, 1]] += 4e6
    assert without_waiting(disturbed, 12e6) == pytest.approx(laps)


def test_nothing_is_taken_from_laps_that_stand_out_by_nothing() -> None:
    """What waited longer than laps differ was not in them."""
    laps = np.tile(np.array(LAPS, float) * 1000, (12, 1))
    assert without_waiting(laps, 7e6) == pytest.approx(laps)


def test_what_a_call_takes_by_itself_stays_in_the_mean() -> None:
    """A worker says how long others had its core; the rest of a long call is its own."""
    laps = np.tile(np.array(LAPS) * 1000, (13, 1))
    laps[5, 2] += 5_000_000
    own = sample_of(Block("laps", laps.astype(np.int64), None, 1, waited_ns=0))
    others = sample_of(Block("laps", laps.astype(np.int64), None, 1, waited_ns=5_000_000))
    assert own.mean[0] == pytest.approx(660_000 + 5_000_000 / 12)
    assert others.mean[0] == pytest.approx(660_000)
    assert own.clock_mean == others.clock_mean == pytest.approx(660_000 + 5_000_000 / 12)


def test_low_estimates_are_the_median_over_the_samples_and_swapped_sides_turn_the_sign() -> None:
    """One disturbed sample of five does not move it; it moves the ratio of the sums."""
    base, candidate = np.array([1.0, 2.0, 4.0, 1.0, 1.0]), np.array([1.1, 2.2, 4.4, 9.0, 1.05])

    def found(*sides: Times) -> tuple[float, float]:
        samples = [
            [Sample(np.full(len(MEASURED), ns), np.full(len(MEASURED), ns), ns) for ns in side]
            for side in sides
        ]
        ratios = ratios_of(list(zip(*samples, strict=True)))
        return ratios.low["step"], ratios.mean["step"]

    assert found(base, candidate) == pytest.approx((np.log(1.1), np.log(17.75 / 9)))
    assert found(candidate, base) == pytest.approx((-np.log(1.1), -np.log(17.75 / 9)))
