"""Warnings about the machine are data, each with a cause and a next step."""

from bench.measure.machine import machine_facts, notices


def test_a_quiet_machine_with_enough_cores_is_not_warned_of() -> None:
    """At a quarter of a busy core per core the notice begins."""
    assert notices({"load_before": 0.5, "cores_allowed": 2}, [1, 2]) == ()


def test_a_busy_machine_and_too_many_threads_are_two_notices() -> None:
    """Both name the figures."""
    busy, threads = notices({"load_before": 0.51, "cores_allowed": 2}, [1, 99, "-"])
    assert "0.51 on 2 cores" in busy.cause
    assert "99 threads were asked for on 2 cores" in threads.cause
    assert busy.next_step
    assert threads.next_step


def test_the_allocator_policy_of_the_workers_is_on_record() -> None:
    """And of the environment nothing else."""
    facts = machine_facts({"MALLOC_TOP_PAD_": "1", "HOME": "somewhere"})
    assert facts["allocator_policy"] == "MALLOC_TOP_PAD_=1"
    assert facts["cores_allowed"] >= 1
