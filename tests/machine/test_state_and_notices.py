"""Warnings about the machine are data, each with its figures and a next step."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from nncore_bench.machine.fingerprint import INDECISIVE
from nncore_bench.machine.notices import notices_after, notices_before
from nncore_bench.machine.state import State, cpu_throttles, meanwhile, state_now, tree_s

QUIET = {"load_before": 0.0, "cores_allowed": 2}
BEFORE = State(
    wall_s=1000.0,
    load=0.1,
    busy_s=500.0,
    stolen_s=1.0,
    own_s=3.0,
    cpu_throttles=7,
    swapped_in_bytes=2**30,
    gpu={"sm_mhz": 300, "throttles": "idle", "power_held_s": 1.0, "thermal_held_s": 2.0},
)
AFTER = replace(BEFORE, wall_s=1100.0, busy_s=600.0, own_s=103.0)
"""A hundred seconds in which this run used one core, and nobody else any."""


def test_a_quiet_machine_with_enough_cores_is_not_warned_of() -> None:
    """At a quarter of a busy core per core the notice begins."""
    assert notices_before({"load_before": 0.5, "cores_allowed": 2}, [1, 2]) == ()


def test_a_busy_machine_and_too_many_threads_are_two_notices() -> None:
    """Both name the figures."""
    busy, threads = notices_before({"load_before": 0.51, "cores_allowed": 2}, [1, 99, "-"])
    assert "0.51 on 2 cores" in busy.cause
    assert "99 threads were asked for on 2 cores" in threads.cause
    assert busy.next_step
    assert threads.next_step


def test_threads_and_load_may_be_too_much_together() -> None:
    """A load of 0.6 is little on 16 cores, unless all of them were asked for."""
    facts = {"load_before": 0.6, "cores_allowed": 16}
    assert notices_before(facts, [15]) == ()
    (notice,) = notices_before(facts, [16])
    assert "16 threads beside a load average of 0.6 need more than 16 cores" in notice.cause


@pytest.mark.parametrize(
    ("facts", "cause", "step"),
    [
        ({"cgroup_cpus": 1.5}, "allows 1.5 cores' worth of time, and 2 threads", "--step-threads at most 1"),
        ({"cgroup_cpus": 0.5}, "allows 0.5 cores' worth", "raise the quota"),
        ({"cpu_governor": "performance powersave"}, "governor is powersave", "performance"),
        ({"power_supply": "battery"}, "battery", "plug"),
        ({"torch_debug_build": True}, "debug build", "release build"),
    ],
)
def test_a_setting_that_slows_steps_down_is_a_notice(facts: dict[str, Any], cause: str, step: str) -> None:
    """One each."""
    (notice,) = notices_before(QUIET | facts, [2])
    assert cause in notice.cause
    assert step in notice.next_step


@pytest.mark.parametrize("word", ["unknown", None, "no limit", "performance", "mains", False])
def test_what_is_fine_or_not_known_is_not_warned_of(word: object) -> None:
    """Nor does it fail."""
    names = ("load_before", "cgroup_cpus", "cpu_governor", "power_supply", "torch_debug_build")
    facts = QUIET | dict.fromkeys([*names, "gpu_throttle_before"], word)
    assert notices_before(facts, [2], {"cuda"}) == ()
    assert notices_before({}, [1]) == ()


def test_a_gpu_held_down_is_told_of_only_where_it_is_measured() -> None:
    """Being idle before a run is no reason."""
    facts = QUIET | {"gpu_throttle_before": "idle, hardware thermal slowdown"}
    assert notices_before(facts, ["-"], {"cpu"}) == ()
    (notice,) = notices_before(facts, ["-"], {"cuda"})
    assert "(hardware thermal slowdown)" in notice.cause
    assert notices_before(QUIET | {"gpu_throttle_before": "idle, application clocks"}, ["-"], {"cuda"}) == ()


def test_a_run_that_had_the_machine_to_itself_is_not_warned_of() -> None:
    """Its own seconds are not those of others."""
    assert notices_after(BEFORE, AFTER) == ()
    assert meanwhile(BEFORE, AFTER)["others_cores_during"] == 0


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"busy_s": 625.0}, "other programs kept 0.25 cores busy"),
        ({"stolen_s": 6.0}, "gave 4.8 % of the processor time"),  # 5 of the 105 seconds that were wanted
        ({"cpu_throttles": 10}, "went up by 3"),
        ({"swapped_in_bytes": 2**30 + 50 * 2**20}, "50 MiB were read back from swap"),
        ({"gpu": {"power_held_s": 21.0, "thermal_held_s": 2.5}}, "of its time 20 % for power reasons"),
        ({"gpu": {"throttles": "idle, power brake"}}, "when the run ended (power brake)"),
    ],
)
def test_what_happened_during_a_run_is_a_notice_with_its_figure(changes: dict[str, Any], cause: str) -> None:
    """One each, over the same hundred seconds."""
    (notice,) = notices_after(BEFORE, replace(AFTER, **changes))
    assert cause in notice.cause
    assert notice.next_step


@pytest.mark.parametrize(
    "changes",
    [
        {"busy_s": 609.0},
        {"stolen_s": 3.0},
        {"swapped_in_bytes": 2**30 + 2**19},
        {"cpu_throttles": 3},  # set back in between
        {"gpu": {"throttles": "unknown", "power_held_s": "unknown", "sm_mhz": "unknown"}},
    ],
)
def test_a_little_of_it_is_not_worth_a_notice(changes: dict[str, Any]) -> None:
    """Below the thresholds, or not known."""
    assert notices_after(BEFORE, replace(AFTER, **changes)) == ()


def test_states_of_which_nothing_is_known_tell_nothing() -> None:
    """Nor do two that were read at once."""
    assert meanwhile(State(1.0), State(2.0)) == {}
    assert notices_after(State(1.0), State(2.0)) == ()
    assert notices_after(BEFORE, BEFORE) == ()


def test_what_happened_during_a_run_never_decides_whether_it_may_be_compared() -> None:
    """All of it is volatile."""
    assert meanwhile(BEFORE, AFTER).keys() <= INDECISIVE


@pytest.mark.machine
def test_the_state_of_this_machine_can_be_read() -> None:
    """Every processor second of this process is one of the machine's."""
    before = state_now()
    used, _ = os.times()[:2]
    while os.times()[0] - used < 0.2:
        pass
    after = state_now(with_gpu=True)
    assert before.own_s is not None
    assert after.own_s is not None
    assert after.own_s - before.own_s >= 0.15
    assert meanwhile(before, after).keys() <= INDECISIVE


@pytest.mark.machine
def test_children_that_have_ended_are_counted_with_their_parent() -> None:
    """Else their seconds would be taken for those of other programs."""
    own = psutil.Process()
    before = tree_s(own)
    subprocess.run(
        [sys.executable, "-c", "import os\nwhile os.times()[0] < 0.3: pass"], check=True, timeout=60
    )
    assert tree_s(own) - before >= 0.25


def test_a_child_that_vanishes_while_it_is_asked_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the list of children and the question."""
    own = psutil.Process()
    gone = psutil.Process()

    def vanish() -> None:
        raise psutil.NoSuchProcess(1)

    monkeypatch.setattr(gone, "cpu_times", vanish)
    monkeypatch.setattr(own, "children", lambda **_: [gone])
    assert tree_s(own) > 0


def test_throttle_counters_are_added_up_where_there_are_any(tmp_path: Path) -> None:
    """None is not nought."""
    assert cpu_throttles(tmp_path) is None
    for cpu, count in enumerate(["3", "4", "garbage"]):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/thermal_throttle"
        folder.mkdir(parents=True)
        (folder / "core_throttle_count").write_text(f"{count}\n")
    assert cpu_throttles(tmp_path) == 7
