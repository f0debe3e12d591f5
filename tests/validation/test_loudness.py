"""The loudness of a core, from lap times whose states are known, and from this machine's own."""

import os
import subprocess
import sys
from itertools import chain

import loudness
import msgspec
import numpy as np
import pytest
from loudness import Floats, Loudness, Probe, Stretches, laps_of, loudness_of, loudness_table, sentence

FAST_S, SLOW_S = 1e-3, 1.4e-3
STRETCHES = ((30, FAST_S), (5, SLOW_S), (10, FAST_S), (15, SLOW_S), (20, FAST_S), (10, SLOW_S))
PROGRAM = str(loudness.__file__)
has_affinity = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores cannot be chosen here")


def laps(*stretches: tuple[int, float], jitter: float = 0.0) -> Floats:
    """Return the laps of stretches that follow each other, each with its number of laps and their time."""
    times = np.array(list(chain.from_iterable([took] * count for count, took in stretches)))
    return times * (1 + np.random.default_rng(0).uniform(-jitter, jitter, len(times)))


@pytest.mark.parametrize("jitter", [0.0, 0.05])
def test_what_was_planted_is_found(jitter: float) -> None:
    """Sixty laps of 1 ms and thirty of 1.4 ms, in stretches of 20, 10, 30 and 5, 10, 15 laps."""
    found = loudness_of(3, laps(*STRETCHES, jitter=jitter))
    assert found.core == 3
    assert found.slow_share == pytest.approx(42 / 102, rel=0.02)
    assert found.times_slower == pytest.approx(1.4, rel=0.03)
    assert found.fast_lap_s == pytest.approx(FAST_S, rel=0.05)
    assert found.slow is not None
    assert (found.slow.median_s, found.slow.longest_s) == pytest.approx((14e-3, 21e-3), rel=0.03)
    assert (found.fast.median_s, found.fast.longest_s) == pytest.approx((20e-3, 30e-3), rel=0.03)


def test_the_first_stretch_may_be_slow() -> None:
    """It counts as one of its own, and so does the last."""
    found = loudness_of(0, laps((10, SLOW_S), (10, FAST_S), (20, SLOW_S)))
    assert found.slow == Stretches(pytest.approx(21e-3), pytest.approx(28e-3))
    assert found.fast == Stretches(pytest.approx(10e-3), pytest.approx(10e-3))


def test_a_quiet_core_is_never_slow() -> None:
    """Laps that differ by 5 % are one fast stretch."""
    quiet = laps((500, FAST_S), jitter=0.05)
    found = loudness_of(0, quiet)
    assert (found.slow_share, found.times_slower, found.slow) == (0.0, None, None)
    assert found.fast == Stretches(pytest.approx(quiet.sum()), pytest.approx(quiet.sum()))
    assert "never slow" in sentence(found)


def test_a_core_that_is_always_slow_shows_in_its_fast_laps_alone() -> None:
    """Nothing in its laps tells it from a quiet one; nor does a twenty-fifth of them that is fast."""
    quiet = loudness_of(0, laps((500, FAST_S), jitter=0.05))
    always = loudness_of(0, laps((500, SLOW_S), jitter=0.05))
    nearly = loudness_of(0, laps((480, SLOW_S), (20, FAST_S)))
    assert always.slow_share == nearly.slow_share == 0.0
    assert always.fast_lap_s == pytest.approx(1.4 * quiet.fast_lap_s)
    assert nearly.fast_lap_s == SLOW_S
    assert loudness_of(0, laps((460, SLOW_S), (40, FAST_S))).slow_share == pytest.approx(644 / 684)


def probe(*shares: float | None) -> Probe:
    """Return what was found of cores that were slow for these shares of the time, or never."""
    cores = [
        Loudness(
            core, FAST_S, share or 0.0, share and 1.4, share and Stretches(2e-3, 0.5), Stretches(3e-3, 0.1)
        )  # type: ignore[arg-type]
        for core, share in enumerate(shares)
    ]
    return Probe("2025-01-01T00:00:00+00:00", tuple(cores))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_series_shows_median_and_range_over_its_slices() -> None:
    """Of each core; what was never slow has no factor."""
    title, _, head, _, first, second = loudness_table(
        [({"load": "none"}, [probe(0.2, None), probe(0.5, None), probe(0.3, None)])]
    ).splitlines()
    assert title == "How loud the machine was, median over the slices (least to most):"
    assert cells(head)[:5] == ["load", "core", "slices", "slow, % of the time", "times slower"]
    assert cells(first)[:5] == ["none", "0", "3", "30 (20 to 50)", "1.40 (1.40 to 1.40)"]
    assert cells(second)[:6] == ["none", "1", "3", "0 (0 to 0)", "-", "-"]


def test_a_series_that_was_not_probed_says_so() -> None:
    """In its line where another was, and else once."""
    assert loudness_table([({"load": "none"}, []), ({"load": "bursty"}, [])]) == (
        "How loud the machine was: not recorded"
    )
    lines = loudness_table([({"load": "none"}, []), ({"load": "bursty"}, [probe(0.2)])]).splitlines()
    assert set(cells(lines[4])) == {"none", "not recorded", "-"}
    assert cells(lines[5])[:2] == ["bursty", "0"]


@pytest.mark.machine
@has_affinity
def test_a_probe_takes_laps_and_leaves_its_process_where_it_may_run() -> None:
    """They fill the time that was asked for, but for what was under way at its end."""
    allowed = os.sched_getaffinity(0)
    times = laps_of(min(allowed), 0.05)
    assert os.sched_getaffinity(0) == allowed
    assert times.min() > 0
    assert times.sum() >= 0.04


@pytest.mark.machine
@has_affinity
def test_the_program_probes_every_core_that_it_may_use() -> None:
    """With a line for each, or as JSON."""
    command = [sys.executable, PROGRAM, "--seconds=0.02"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = subprocess.run([*command, "--json"], capture_output=True, check=True).stdout
    cores = sorted(os.sched_getaffinity(0))
    assert [line.partition(":")[0] for line in said.splitlines()] == [f"core {core}" for core in cores]
    assert [one.core for one in msgspec.json.decode(found, type=list[Loudness])] == cores


def test_no_time_is_refused() -> None:
    """With the option, the value and an example."""
    done = subprocess.run(
        [sys.executable, PROGRAM, "--seconds=0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--seconds: 0 gives no laps (example: 5)" in done.stderr
