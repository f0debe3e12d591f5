"""The gate on a device whose clock ticks coarsely: pairs are made up, all else is the real gate."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from made_up_runs import CUDA_CASE

from nncore_bench.cases import BLOCK_LAPS, STEP_PHASES
from nncore_bench.gate.decide import Verdict
from nncore_bench.gate.outcome import Outcome
from nncore_bench.gate.pairs import (
    BASE,
    CANDIDATE,
    FEWEST_TICKS,
    TICK_NS,
    Pairing,
    Sample,
    device_sample_of,
    judgeable,
    ratios_of,
)
from nncore_bench.gate.ratios import STEP
from nncore_bench.gate.rule import Rule
from nncore_bench.gate.sides import Sides
from nncore_bench.gate.stages import Gate
from nncore_bench.worker import messages

MEASURED = (STEP, *STEP_PHASES)

SPANS_NS = dict(zip(BLOCK_LAPS["laps"], (600, 60_000, 25_000, 90_000, 60_000, 400), strict=True))
STEP_NS = sum(SPANS_NS.values())
CASES = (CUDA_CASE, replace(CUDA_CASE, batch_size=1024))
COARSE_NS = 1_000
GATES = 200


class Device:
    """Answer like a worker whose spans are ticks; noise is 0.3 % between launches, 1 % between blocks."""

    def __init__(self, noise: np.random.Generator, factor: float) -> None:
        self.noise, self.factor = noise, factor * noise.normal(1, 0.003)

    def ask(self, request: messages.Request) -> messages.Reply:
        if isinstance(request, messages.Prepare):
            return messages.Prepared(dict.fromkeys(request.kinds, STEP_NS * 1e-9), steady=True, correct={})
        if isinstance(request, messages.SpinUp):
            return messages.Done()
        if not isinstance(request, messages.Measure):
            return messages.Refused("it counts and explains nothing")
        factor = self.factor * self.noise.normal(1, 0.01)
        iterations = request.iterations + 1
        if request.kind == "plain":
            wall_ns = factor * STEP_NS * request.iterations
            host = np.full(iterations, wall_ns / iterations)
            return messages.Measured(host.astype(np.int64).tobytes(), None, int(wall_ns))
        laps = factor * np.tile(np.array(list(SPANS_NS.values())), (iterations, 1))
        passed = np.cumsum(laps.ravel() * self.noise.normal(1, 0.05, laps.size)) + self.noise.uniform(
            0, COARSE_NS
        )
        ticks = np.diff(passed // COARSE_NS, prepend=0) * COARSE_NS
        spans = ticks.astype(np.int64).tobytes()
        return messages.Measured(spans, spans, int(passed[-1]))

    def close(self) -> None:
        pass


class Devices:
    """Start workers of both sides, the candidate's slower by a factor."""

    def __init__(self, seed: int, slower: float) -> None:
        self.noise, self.slower = np.random.default_rng(seed), slower

    def launch(self, side: int, _device: str, _path: Path, _cores: Sequence[int]) -> Device:
        return Device(self.noise, self.slower if side == CANDIDATE else 1.0)

    def paths(self, *, swapped: bool) -> tuple[Path, Path]:
        return (Path("q"), Path("p")) if swapped else (Path("p"), Path("q"))

    def close(self) -> None:
        pass


def gated(seed: int, slower: float = 1.0) -> Outcome:
    """Return the outcome of one gate."""
    coins, devices = random.Random(seed), cast("Any", Devices(seed, slower))  # noqa: S311 - coins, and no secret
    sides = Sides(CASES, devices, devices, lambda *_: None, coins)
    return Gate(("base", "candidate"), CASES, Rule(), 1e9, lambda *_: None, coins, sides).run()


def test_equal_code_is_never_slower_on_a_coarse_clock() -> None:
    """In 200 gates, and nearly all end after the screening: no column of ticks keeps them open."""
    outcomes = [gated(seed) for seed in range(GATES)]
    assert [one.name for outcome in outcomes for one in outcome.of(Verdict.SLOWER)] == []
    assert sum(outcome.pairs == (8, 0) for outcome in outcomes) >= 0.95 * GATES
    columns = {name for outcome in outcomes for name in outcome.decisions}
    assert columns == {case.key for case in CASES} | {"suite", *STEP_PHASES} - {"zero_grad"}


def test_five_per_cent_more_is_found_on_a_coarse_clock() -> None:
    """In each of ten gates, in every case."""
    for seed in range(10):
        decisions = gated(seed, 1.05).decisions
        assert {decisions[case.key].verdict for case in CASES} == {Verdict.SLOWER}


def sample_with(spans_ns: Mapping[str, float], wall_ns: int, host_ns: int = 0, waited_ns: int = 0) -> Sample:
    """Return the sample of ten steps on a device."""
    laps = np.tile([spans_ns[name] for name in BLOCK_LAPS["laps"]], (11, 1)).astype(np.int64).tobytes()
    host = np.full(11, host_ns, np.int64).tobytes()
    return device_sample_of(
        messages.Measured(host, None, wall_ns, waited_ns), messages.Measured(laps, laps, 10 * STEP_NS)
    )


def test_a_span_of_nothing_counts_as_a_tick() -> None:
    """Its ratio to another is a number; no traceback ends a gate whose pairs are all measured."""
    zero = SPANS_NS | {"zero_grad": 0}
    sample = sample_with(zero, 10 * STEP_NS)
    assert sample.low[MEASURED.index("zero_grad")] == TICK_NS
    ratios = ratios_of([(sample, sample)] * 8)
    assert np.isfinite(list(ratios.low.values())).all()
    assert "zero_grad" not in judgeable(CUDA_CASE, [ratios] * 8)
    assert "zero_grad" in judgeable(replace(CUDA_CASE, device="cpu"), [ratios] * 8)


def test_a_phase_that_grew_from_nothing_is_judged() -> None:
    """Of which side it is slow in has no part in it: half a microsecond against a millisecond either way."""
    for side in (BASE, CANDIDATE):
        low = np.full((2, len(MEASURED)), 50_000.0)
        low[:, 1] = TICK_NS
        low[side, 1] = 1_000_000
        base, candidate = (Sample(one, one, one[0]) for one in low)
        ratios = ratios_of([(base, candidate)] * 8)
        assert "zero_grad" in judgeable(CUDA_CASE, [ratios])
    assert (TICK_NS * 1_000_000) ** 0.5 > FEWEST_TICKS * TICK_NS


@pytest.mark.parametrize(("host_share", "taken_off"), [(0.95, 1), (0.5, 0)])
def test_waiting_for_a_core_is_taken_off_where_the_host_sets_the_pace(
    host_share: float, taken_off: int
) -> None:
    """A device that works on meanwhile loses nothing."""
    low, _, clock_mean = sample_with(SPANS_NS, 10 * STEP_NS, int(host_share * STEP_NS), waited_ns=STEP_NS)
    assert low[0] == pytest.approx(STEP_NS * (1 - 0.1 * taken_off))
    assert clock_mean == STEP_NS


def test_the_step_is_the_plain_block_and_the_phases_are_the_laps() -> None:
    """Events that double the time of a block leave the step as it is."""
    low, mean, _ = sample_with({name: 2.0 * span for name, span in SPANS_NS.items()}, 10 * STEP_NS)
    assert low[0] == mean[0] == STEP_NS
    assert low[MEASURED.index("forward")] == 2 * SPANS_NS["forward"]


def test_plain_blocks_set_the_length_of_a_sample() -> None:
    """8 ms of steps, as on the CPU, though a device is asked for two blocks."""
    devices = Devices(0, 1.0)
    pairing = Pairing(CASES, devices.launch, [0, 1], random.Random(0))  # noqa: S311 - coins, and no secret
    measured = pairing.measure(devices.paths(swapped=False), [0, 1])
    assert pairing.steps == dict.fromkeys((0, 1), round(0.008 / (STEP_NS * 1e-9)))
    assert {len(pair.low_ns) for pair in measured.values()} == {8}
