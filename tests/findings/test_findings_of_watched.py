"""What costs time in a watched run, from facts that are made up; the figures are worked out by hand."""

from typing import Any

import pytest

from nncore_bench.estimate.observed import observed
from nncore_bench.findings.checks_of_watched import findings_of_watched
from nncore_bench.findings.finding import Finding
from nncore_bench.findings.text import evidence, next_step, watched_finding_table
from nncore_bench.watch.fold import Watched
from nncore_bench.watch.phases import WAITING

MS = 1_000_000
HERE = "/home/somebody/project/train.py"


def of(
    facts: dict[str, Any], memory: list[tuple[int, int, int]] | None = None, **parts: int
) -> list[Finding]:
    """Return the findings in two windows of three steps, whose phases take so many ms."""
    window = {name.replace("_", " "): [ns * MS] * 3 for name, ns in parts.items()}
    watched = Watched([window, window], [], [], {}, [0, 30], [], memory or [])
    return findings_of_watched(observed(watched), watched, facts, 1_000)


def fetched(batches: int, whole: int, transform: int, collate: int) -> dict[str, int]:
    return {
        "batches": batches, "whole_ns": batches * whole * MS, "transform_ns": batches * transform * MS,
        "collate_ns": batches * collate * MS,
    }  # fmt: skip


NONE = fetched(0, 0, 0, 0)
QUICK = {"forward": 2, "backward": 4}


def test_a_run_in_which_nothing_is_wrong_has_no_findings() -> None:
    assert of({}, **QUICK, **{WAITING.replace(" ", "_"): 0}) == []
    assert watched_finding_table([]) is None


def test_a_loop_that_fetches_itself_says_with_what() -> None:
    examined = {"fetched": [fetched(20, 8, 5, 1)]}
    (one,) = of({"examined": examined}, **QUICK, waiting_for_data=8)
    assert (one.check, one.gain_s) == ("waiting-for-data", pytest.approx(8e-3))
    assert evidence(one) == (
        "waits 8.00 ms a step, 57 % of it: the loop itself takes 8.00 ms a batch"
        " (dataset 2.00 ms, transforms 5.00 ms, collating 1.00 ms)"
    )
    assert next_step(one).startswith("workers: nncore-bench loader")


def test_workers_that_are_too_slow_are_told_how_many_it_takes() -> None:
    """A step takes 6 ms without waiting, a batch 20 of a worker: four of them."""
    examined = {
        "fetched": [NONE, fetched(9, 20, 15, 1), fetched(11, 20, 15, 1)],
        "handed": {"ready": 4, "ready_ns": 2 * MS, "late": 16, "late_ns": 99 * MS},
    }
    (one,) = of({"examined": examined}, **QUICK, waiting_for_data=4)
    assert evidence(one) == (
        "waits 4.00 ms a step, 40 % of it: each of 2 workers takes 20.0 ms a batch"
        " (dataset 4.00 ms, transforms 15.0 ms, collating 1.00 ms), handing one over 500 µs"
    )
    assert next_step(one).startswith("4 workers would keep up")


def test_waiting_that_nobody_looked_into_is_told_as_it_is() -> None:
    (one,) = of({}, **QUICK, waiting_for_data=3)
    assert evidence(one) == "waits 3.00 ms a step for its DataLoader, 33 % of it"


def test_lines_that_wait_are_named_with_the_longest_first() -> None:
    """Of 10 steps: one line 1 ms a step, one 0.5, and one too short to matter in a step of 6 ms."""
    reads = [
        {"where": f"{HERE}:41", "call": "item", "device": "cuda", "calls": 10, "ns": 10 * MS},
        {"where": f"{HERE}:52", "call": "cpu", "device": "cuda", "calls": 10, "ns": 5 * MS},
        {"where": f"{HERE}:60", "call": "bool", "device": "cuda", "calls": 10, "ns": MS // 10},
    ]
    (one,) = of({"examined": {"reads": reads, "steps": 10}}, **QUICK)
    assert one.gain_s == pytest.approx(1.5e-3)
    assert evidence(one) == (
        "the host waits 1.50 ms a step: project/train.py:41 (item of a tensor on cuda) and 1 more lines"
    )


@pytest.mark.parametrize(
    ("fused", "tensors", "found"), [(False, 5, 1), (False, 4, 0), (True, 5, 0), (None, 5, 0)]
)
def test_an_optimizer_that_could_be_fused_is_found(fused: bool | None, tensors: int, found: int) -> None:  # noqa: FBT001
    forms = [{"name": "AdamW", "tensors": tensors, "fused": fused}]
    findings = of({"optimizer_forms": forms}, **QUICK, optimizer=2)
    assert len(findings) == found
    if found:
        assert evidence(findings[0]) == "AdamW goes through 5 tensors, 25 % of the step"
        assert next_step(findings[0]) == "fused=True"


def test_code_that_is_compiled_again_is_named_with_the_reason() -> None:
    """Two times of 1.5 s in 1,000 steps are 3 ms a step; the first compilation is no finding."""
    once = {"where": f"{HERE}:12", "function": "forward", "again": "", "took_s": 9.0, "before_step": 10}
    again = {**once, "again": "size mismatch at index 0. expected 32, actual 17", "took_s": 1.5}
    assert of({"compiled": [once, once]}, **QUICK) == []
    (one,) = of({"compiled": [once, {**once, "before_step": 30}]}, **QUICK)
    assert evidence(one).endswith("(forward): this torch does not say why")
    (one,) = of({"compiled": [once, again, again]}, **QUICK)
    assert one.gain_s == pytest.approx(3e-3)
    assert evidence(one) == (
        "compiled 2 times again while it ran, project/train.py:12 (forward):"
        " size mismatch at index 0. expected 32, actual 17"
    )


def test_graph_breaks_are_named_with_line_and_reason() -> None:
    breaks = [{"where": f"{HERE}:33", "line": "print(x.sum())", "why": "builtin print"}] * 2
    (one,) = of({"breaks": breaks}, **QUICK)
    assert evidence(one) == (
        "compiled code falls back to Python once: project/train.py:33: print(x.sum()) (builtin print)"
    )
    assert one.gain_s is None


def test_memory_that_grows_to_the_end_is_found_and_a_warm_up_is_not() -> None:
    """Of 40 readings at every 30th step, 10 kB a step, or all of it within the first ten readings."""
    grows = [(30 * n, 100_000 + 300 * n, 0) for n in range(40)]
    settles = [(30 * n, 100_000 + 300 * min(n, 10), 0) for n in range(40)]
    jumps = [(30 * n, 100_000 + 300 * (n % 2), 0) for n in range(40)]
    assert of({}, settles, **QUICK) == of({}, jumps, **QUICK) == []
    (one,) = of({}, grows, **QUICK)
    assert one.figures["kept_bytes"] == pytest.approx(10 * 1024)
    assert evidence(one) == "grows by 10 kB a step in RAM, 11,981 kB so far"
    on_device = [(after, 100_000, kb) for after, kb, _ in grows]
    (one,) = of({}, on_device, **QUICK)
    assert "on the device" in evidence(one)


def test_the_costliest_comes_first_and_unknown_ones_last() -> None:
    facts = {
        "optimizer_forms": [{"name": "Adam", "tensors": 9, "fused": False}],
        "breaks": [{"where": f"{HERE}:33", "line": "", "why": "print"}],
    }
    findings = of(facts, **QUICK, optimizer=2, waiting_for_data=5)
    assert [one.check for one in findings] == ["waiting-for-data", "optimizer-loop", "graph-breaks"]
    table = watched_finding_table(findings)
    assert table is not None
    assert [line["gain_s"] for line in table.records()] == [pytest.approx(5e-3), pytest.approx(2e-3), None]
