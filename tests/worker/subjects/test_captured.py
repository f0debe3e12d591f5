"""A step captured in a graph, on a runtime that records what runs and runs it again on the same memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from made_up_runs import CPU_CASE
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nncore.model import SimpleNN
from nncore.step import TrainStep
from nncore_bench.worker.blocks import run_block
from nncore_bench.worker.clock import HostClock
from nncore_bench.worker.subjects import subject as subjects
from nncore_bench.worker.subjects.cuda_graph import WARM_UP_STEPS, CapturedStep, CaptureError
from nncore_bench.worker.subjects.numerical_error import compared
from nncore_bench.worker.subjects.subject import Subject

CASE = replace(CPU_CASE, batch_size=4, hidden=8, variant="cudagraph")
CAPTURE_S = 7.0
Batch = tuple[Tensor, Tensor]


class Stream:
    """A stream that waits for nothing."""

    def wait_stream(self, _: "Stream") -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


class Graph(TorchDispatchMode):
    """Record operators with the tensors they read and wrote; a replay writes into these very tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401 - as torch has it
        """Run and record one operator."""
        written = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, written))
        return written

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, written in self.calls:
            again = func(*args, **kwargs)
            for target, source in zip(tree_leaves(written), tree_leaves(again), strict=True):
                if isinstance(target, Tensor) and target.data_ptr() != source.data_ptr():
                    target.copy_(source)


class Runtime:
    """Behave like torch.cuda as far as a capture asks; each capture takes some seconds of a made-up clock."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.captured_on: list[Stream] = []
        self.now_s = 0.0

    CUDAGraph = Graph

    def Stream(self) -> Stream:  # noqa: N802 - torch's name
        self.streams.append(Stream())
        return self.streams[-1]

    def current_stream(self) -> Stream:
        return Stream()

    def stream(self, side: Stream) -> Stream:
        return side

    @contextmanager
    def graph(self, graph: Graph, stream: Stream) -> Iterator[None]:
        self.captured_on.append(stream)
        self.now_s += CAPTURE_S
        with graph:
            try:
                yield
            except RuntimeError:
                # As the end of a capture does, which knows of no cause.
                raise RuntimeError("operation failed due to a previous error during capture") from None


class Stale(CapturedStep):
    """Replay on the batch of the capture, whatever the batch is."""

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        del inputs, targets
        return super().__call__(*self._static)


def steps() -> tuple[TrainStep, TrainStep, list[Batch]]:
    """Return two equal steps and three unlike batches."""
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        model = SimpleNN(6, 5, 3)
        made.append(TrainStep(model, torch_optimizer=torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)))
    return made[0], made[1], [(torch.randn(8, 6), torch.randint(3, (8,))) for _ in range(3)]


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """Return the runtime that subjects capture on, with its clock; to Adam the CPU is a device that can."""
    made = Runtime()
    monkeypatch.setattr(subjects, "CapturedStep", partial(CapturedStep, runtime=made))
    monkeypatch.setattr(subjects, "time", SimpleNamespace(perf_counter=lambda: made.now_s))
    adam = import_module("torch.optim.adam")
    monkeypatch.setattr(adam, "_get_capturable_supported_devices", lambda *_, **__: ["cpu"])
    return made


def test_a_captured_step_replays_on_the_batch_it_is_given() -> None:
    """The batch is copied to where the graph reads it, and the step itself is called no more."""
    calls: list[Tensor] = []

    class Counted(TrainStep):
        def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
            calls.append(inputs)
            return super().__call__(inputs, targets)

    first = (torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))
    step = Counted(SimpleNN(3, 4, 2), torch_optimizer=None)
    step.torch_optimizer = torch.optim.SGD(step.model.parameters(), lr=0.1)
    captured = CapturedStep(step, first, Runtime())
    assert len(calls) == WARM_UP_STEPS + 1
    captured(torch.ones(2, 3), torch.ones(2, dtype=torch.int64))
    assert len(calls) == WARM_UP_STEPS + 1
    assert calls[-1].tolist() == torch.ones(2, 3).tolist()
    assert first[0].tolist() == torch.zeros(2, 3).tolist()


@pytest.mark.parametrize(("kind", "right"), [(CapturedStep, True), (Stale, False)])
def test_the_replay_of_a_graph_is_what_is_compared_with_the_plain_step(
    kind: Callable[..., CapturedStep],
    right: bool,  # noqa: FBT001 - a parameter of a test
) -> None:
    """A graph that reads a stale batch trains, and on what nobody gave it."""
    step, plain, batches = steps()
    capture = partial(kind, step, batches[0], Runtime())
    found = compared(step, plain, batches, batches, "float32", capture)
    assert (max(found.values()) < 1e-6) == right
    assert found["gradient_error"] < 1e-6  # of the first batch, which is the one that was captured
    assert (found["loss_error"] > 0.01) != right


def test_a_graph_draws_no_masks_while_it_is_compared() -> None:
    """Dropout is a part of what is captured, so that it has to be off by then; afterwards it is back."""
    step, plain, batches = steps()
    for one in (step, plain):
        one.model = nn.Sequential(one.model, nn.Dropout(0.5))
    found = compared(
        step, plain, batches, batches, "float32", partial(CapturedStep, step, batches[0], Runtime())
    )
    assert max(found.values()) < 1e-6
    assert step.model[1].p == 0.5  # type: ignore[index, union-attr] # a Sequential


def test_the_check_of_a_captured_case_captures_compares_and_counts_the_capture(runtime: Runtime) -> None:
    """Adam, whose state the graph reads where it lies; the capture is a part of what is paid once."""
    subject = Subject(CASE)
    checks = subject.check()
    assert max(checks[name] for name in ("loss_error", "gradient_error", "parameter_error")) < 1e-5
    assert (checks["gradients"], checks["moved"]) == (1.0, 1.0)
    assert checks["first_step_s"] == CAPTURE_S
    assert len(runtime.streams) == 1
    assert set(runtime.captured_on) == set(runtime.streams)


def test_a_case_whose_graph_reads_a_stale_batch_is_off_by_more_than_its_tolerance(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that advice ranks it nowhere, however fast it is."""
    monkeypatch.setattr(subjects, "CapturedStep", partial(Stale, runtime=runtime))
    checks = Subject(CASE).check()
    assert checks["loss_error"] > checks["tolerance"]


def test_blocks_of_a_graph_start_from_the_state_that_was_saved(runtime: Runtime) -> None:
    """The same tensors with the same values: two blocks end alike, and the step moves."""
    del runtime
    subject = Subject(CASE)
    subject.check()
    subject.save()
    places, after = [tensor.data_ptr() for tensor in subject.state()], []
    for _ in range(2):
        run_block(subject, HostClock(), "plain", 4)
        after.append([tensor.detach().clone() for tensor in subject.state()])
    assert all(torch.equal(one, other) for one, other in zip(*after, strict=True))
    subject.restore()
    assert not all(torch.equal(one, other) for one, other in zip(after[0], subject.state(), strict=True))
    assert places == [tensor.data_ptr() for tensor in subject.state()]


def test_a_capture_that_fails_names_what_failed_first() -> None:
    """Not what the end of the capture makes of it, which is the same for all."""

    class Reading(TrainStep):
        calls = 0

        def optimizer(self) -> None:
            self.calls += 1
            try:
                {}["not cached"]
            except KeyError:  # which this handles, so that it is no reason
                if self.calls > WARM_UP_STEPS:
                    raise RuntimeError("operation not permitted when stream is capturing\nin C++")  # noqa: B904
            super().optimizer()

    step = Reading(SimpleNN(3, 4, 2))
    with pytest.raises(CaptureError) as failure:
        CapturedStep(step, (torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)), Runtime())
    assert str(failure.value) == (
        "cudagraph: the step cannot be captured: operation not permitted when stream is capturing (keep what"
        " waits for the device, such as .item(), out of the step, or leave out cudagraph)"
    )


def test_an_error_before_the_capture_is_no_failed_capture() -> None:
    """The stream is the usual one then, so that the process is sound."""
    step = TrainStep(SimpleNN(3, 4, 2))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as failure:
        CapturedStep(step, (torch.zeros(2, 5), torch.zeros(2, dtype=torch.int64)), Runtime())
    assert not isinstance(failure.value, CaptureError)
