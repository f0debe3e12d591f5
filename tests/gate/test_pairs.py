"""Pairs of arms that answer at once, with times that are known."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import CPU_CASE

from bench.measure import messages
from bench.measure.pairs import BASE, CANDIDATE, MEASURED, ArmError, Pairing, ratios_of
from bench.measure.workers import WorkerError

LAPS = [20, 130, 30, 190, 280, 10]


class Arm:
    """Answer with known laps; the candidate's forward takes 10 % longer, and one lap in each is absurd."""

    def __init__(self, path: Path, events: list[str]) -> None:
        self.name = path.name
        self.events = events

    def ask(self, request: messages.Request, timeout: float = 0.0) -> messages.Reply:
        assert timeout > 0
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


class Dying(Arm):
    """Be gone when it is asked."""

    def ask(self, request: messages.Request, timeout: float = 0.0) -> messages.Reply:
        raise WorkerError(f"was killed {request} {timeout}")


PATHS = (Path("base"), Path("candidate"))


def pairing(events: list[str], seed: int = 0, cases: int = 2, kind: type[Arm] = Arm) -> Pairing:
    coins = random.Random(seed)  # noqa: S311 - coins, and no secret
    return Pairing([CPU_CASE] * cases, lambda path, _: kind(path, events), [0, 1], coins, samples=4)


def test_a_slower_phase_comes_out_as_its_logarithm() -> None:
    """Forward 130 to 143, the step of 660 by 13 more; the others are the same."""
    samples = pairing([]).measure(PATHS, [0, 1])
    assert samples.keys() == {0, 1}
    found = ratios_of(samples)[0]
    expected = dict.fromkeys(MEASURED, 0.0) | {"forward": np.log(1.1), "step": np.log(673 / 660)}
    assert dict(zip(MEASURED, found.low, strict=True)) == pytest.approx(expected)
    assert dict(zip(MEASURED, found.mean, strict=True)) == pytest.approx(expected)
    assert found.base_s[0] == pytest.approx(660e-6)


def test_coins_decide_everything_that_has_an_order() -> None:
    """Launch, set-up and samples: each arm goes first about half of the time, over many seeds."""
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


def test_one_block_of_each_arm_makes_a_sample() -> None:
    """Arms are alike in what is asked of them, sample by sample."""
    events: list[str] = []
    pairing(events, cases=1).measure(PATHS, [0])
    measured = [event for event in events if event.startswith("Measure")]
    assert all(
        set(pair) == {"Measure base", "Measure candidate"}
        for pair in zip(measured[::2], measured[1::2], strict=True)
    )
    assert [event for event in events if event.startswith("close")] == ["close base", "close candidate"]


def test_an_arm_that_dies_is_named_with_its_case() -> None:
    """So that the pair is void, whichever arm it was."""
    events: list[str] = []
    with pytest.raises(ArmError, match="was killed") as caught:
        pairing(events, kind=Dying).measure(PATHS, [0])
    assert caught.value.arm in (BASE, CANDIDATE)
    assert caught.value.case == CPU_CASE
    assert sorted(events) == ["close base", "close candidate"]


def test_blocks_are_of_one_length_for_both_arms_and_all_pairs() -> None:
    """Settled once, by the first pair: 8 ms are 12 steps of 660 µs."""
    asked: list[int] = []

    class Counting(Arm):
        def ask(self, request: messages.Request, timeout: float = 0.0) -> messages.Reply:
            if isinstance(request, messages.Measure):
                asked.append(request.iterations)
            return super().ask(request, timeout)

    pairs = pairing([], kind=Counting)
    for _ in range(2):
        pairs.measure(PATHS, [0])
    assert set(asked) == {12}
