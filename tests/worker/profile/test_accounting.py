"""The account of the wall clock, on events with known overlaps."""

import gzip
import json
from pathlib import Path

import pytest

from nncore_bench.worker.profile.breakdown import account_of, activity_of, length, queue_depth, union, within
from nncore_bench.worker.profile.trace import Event, TraceError, nested, read_trace


def event(category: str, start: int, end: int, name: str = "x", **more: int) -> Event:
    return Event(name, category, "1", start, end, **more)


def test_each_moment_goes_to_the_first_of_the_order() -> None:
    """100 ns: a kernel for 30, a copy for 10 beside it, a call of the runtime under both, Python around."""
    events = [
        event("cpu_op", 10, 90),
        event("cuda_runtime", 20, 60),
        event("kernel", 30, 60),
        event("gpu_memcpy", 50, 70),
        event("gpu_memset", 65, 75),
    ]
    account = account_of("step", [(0, 100)], events)
    nano = {
        name: round(getattr(account, name) * 1e9) for name in account.__struct_fields__ if name != "phase"
    }
    assert nano == {
        "kernel_s": 30, "copy_s": 10, "memset_s": 5, "runtime_s": 10, "operator_s": 25, "python_s": 20,
    }  # fmt: skip
    assert account.whole_s == pytest.approx(100e-9)


def test_windows_cut_events_and_their_mean_is_told() -> None:
    """Two windows of 10 and 30 ns, of which an operator takes 5 and 15."""
    account = account_of("forward", [(0, 10), (100, 130)], [event("cpu_op", 5, 115)])
    assert account.operator_s == pytest.approx(10e-9)
    assert account.whole_s == pytest.approx(20e-9)


def test_intervals_join_and_are_cut() -> None:
    """What touches is one; what lies outside is gone."""
    assert union([(5, 7), (0, 2), (2, 4), (1, 3)]) == [(0, 4), (5, 7)]
    assert within([(1, 3), (6, 10)], [(0, 4), (5, 7), (9, 12)]) == [(1, 3), (6, 7), (9, 10)]
    assert length([(0, 4), (5, 7)]) == 6


def test_a_device_is_busy_idle_and_queued_as_planned() -> None:
    """Kernels of 10 ns with gaps of 5 and 15 in a window of 100 ns; the third waits behind the second."""
    events = [
        event("cuda_runtime", 0, 1, "cudaLaunchKernel", correlation=1),
        event("cuda_runtime", 2, 3, "cudaLaunchKernel", correlation=2),
        event("cuda_runtime", 4, 5, "cudaLaunchKernel", correlation=3),
        event("kernel", 10, 20, correlation=1),
        event("kernel", 25, 35, correlation=2),
        event("gpu_memcpy", 50, 60, correlation=9),
    ]
    activity = activity_of((0, 100), 2, events)
    assert activity is not None
    assert activity.busy_share == pytest.approx(0.30)
    assert activity.copy_share == pytest.approx(0.10)
    assert (activity.kernels, activity.gaps) == (1.0, 1.0)
    assert activity.gap_total_s == pytest.approx(10e-9)
    assert activity.gap_p50_s == pytest.approx(10e-9)
    assert activity_of((0, 100), 2, [event("cpu_op", 0, 10)]) is None


@pytest.mark.parametrize("launch", ["cudaGraphLaunch", "hipGraphLaunch"])
def test_kernels_of_a_graph_are_told_from_those_that_were_launched(launch: str) -> None:
    """Three of the four share the call that launched their graph."""
    events = [
        event("cuda_runtime", 0, 1, launch, correlation=1),
        event("cuda_runtime", 2, 3, "cudaLaunchKernel", correlation=2),
        *(event("kernel", 10 * n, 10 * n + 5, correlation=1) for n in (1, 2, 3)),
        event("kernel", 40, 45, correlation=2),
    ]
    activity = activity_of((0, 100), 2, events)
    assert activity is not None
    assert (activity.kernels, activity.graph_kernels) == (2.0, 1.5)


def test_the_queue_holds_what_was_enqueued_and_has_not_begun() -> None:
    """Three launches at once before the first begins: 0, 1 and 2 wait; launched one by one: none."""
    at_once = [event("cuda_runtime", n, n + 1, correlation=n) for n in range(3)]
    at_once += [event("kernel", 10 + 10 * n, 20 + 10 * n, correlation=n) for n in range(3)]
    assert queue_depth(at_once) == pytest.approx(1.0)
    apart = [event("cuda_runtime", 100 * n, 100 * n + 1, correlation=n) for n in range(3)]
    apart += [event("kernel", 100 * n + 2, 100 * n + 9, correlation=n) for n in range(3)]
    assert queue_depth(apart) == 0.0


def test_events_nest_by_time_within_their_thread() -> None:
    """An operator within another has it as its caller; one on another thread has not."""
    outer, inner, after = (
        event("cpu_op", 0, 10, "a"),
        event("cpu_op", 2, 5, "b"),
        event("cpu_op", 10, 12, "c"),
    )
    other = Event("d", "cpu_op", "2", 3, 4)
    nodes = {node.event.name: node for node in nested([inner, other, after, outer])}
    assert nodes["b"].parent is nodes["a"]
    assert nodes["c"].parent is None
    assert nodes["d"].parent is None


def saved(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


TRACE = {
    "traceEvents": [
        {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "tid": 7, "ts": 1.5, "dur": 2.25,
         "args": {"Sequence number": 4, "Fwd thread id": 1}},
        {"ph": "X", "cat": "kernel", "name": "gemm", "tid": "stream 7", "ts": 3, "dur": 1,
         "args": {"correlation": 9}},
        {"ph": "M", "name": "process_name", "args": {"name": "python"}},
        {"ph": "X", "cat": "python_function", "name": "f", "tid": 7, "ts": 0, "dur": 9},
    ]
}  # fmt: skip


def test_a_trace_is_read_as_kineto_writes_it(tmp_path: Path) -> None:
    """Microseconds become nanoseconds, sequence numbers and correlations stay, the rest is left out."""
    content = json.dumps(TRACE).encode()
    plain = read_trace(saved(tmp_path / "a.json", content))
    assert plain == read_trace(saved(tmp_path / "a.json.gz", gzip.compress(content)))
    assert plain == [
        Event("aten::mm", "cpu_op", "7", 1500, 3750, sequence=4, forward_thread=1),
        Event("gemm", "kernel", "stream 7", 3000, 4000, correlation=9),
    ]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.json", b'{"traceEvents": [', "is not a complete trace"),
        ("a.json.gz", gzip.compress(b'{"traceEvents": []}' * 99)[:-9], "is not a complete trace"),
        ("a.json.gz", b"plain", "cannot be read"),
        ("a.json", b"{}", "is not a complete trace"),
    ],
    ids=["cut off", "cut off within the compression", "not compressed", "no events"],
)
def test_a_broken_trace_is_one_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    """That names the file."""
    with pytest.raises(TraceError, match=sentence) as caught:
        read_trace(saved(tmp_path / name, content))
    assert name in str(caught.value)
