"""The profiler pass: real steps, attributed to phases, modules and forward operators, and made-up traces."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nncore_bench.cases import STEP_PHASES, BlockKind, Case
from nncore_bench.records import OUTSIDE, CaseProfile, ProfiledOperator
from nncore_bench.worker.counters.count import count_case
from nncore_bench.worker.counters.operators import Call
from nncore_bench.worker.profile.attribution import Windows
from nncore_bench.worker.profile.profile import profile_case, read_profile
from nncore_bench.worker.profile.trace import Event
from nncore_bench.worker.subjects.subject import Subject

STEPS = 6


def case_of(batch: int, hidden: int) -> Case:
    return Case("simplenn", "digits", "cpu", 1, "float32", "eager", batch, hidden)


@pytest.fixture(scope="module", params=[(1, 32), (32, 128), (128, 512)], ids=["small", "middle", "large"])
def profiled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Subject, CaseProfile]:
    case = case_of(*request.param)
    subject = Subject(case)
    subject.check()
    subject.save()
    return subject, profile_case(subject, case, STEPS, tmp_path_factory.mktemp("traces") / "trace.json.gz")


def of(profile: CaseProfile, phase: str) -> list[ProfiledOperator]:
    return [operator for operator in profile.operators if operator.phase == phase]


def test_the_profiler_sees_exactly_the_operators_that_are_counted(
    profiled: tuple[Subject, CaseProfile],
) -> None:
    """Phase by phase and name by name, by two mechanisms that know nothing of each other."""
    subject, profile = profiled
    assert profile.disagreement == ""
    counters = count_case(subject)
    for phase in STEP_PHASES:
        counted: Counter[str] = Counter()
        for operator in counters.inventory:
            counted[operator.operator] += operator.calls * (operator.phase == phase)
        seen: Counter[str] = Counter()
        for row in of(profile, phase):
            seen[row.operator] += round(row.calls) * row.dispatched
        assert +seen == +counted
        assert sum(seen.values()) == counters.phases[phase].operators


@pytest.mark.machine
def test_the_account_adds_up_to_the_step_by_another_clock(profiled: tuple[Subject, CaseProfile]) -> None:
    """The trace's times against the worker's, and phases within the step."""
    _, profile = profiled
    step = profile.account("step")
    assert step is not None
    assert step.whole_s == pytest.approx(profile.step_s, rel=0.01)
    parts = [profile.account(phase) for phase in STEP_PHASES]
    assert 0.5 * step.whole_s < sum(part.whole_s for part in parts if part) < step.whole_s


def test_the_operators_of_a_phase_add_up_to_the_phase(profiled: tuple[Subject, CaseProfile]) -> None:
    """Python and waiting have a line of their own."""
    _, profile = profiled
    for phase in STEP_PHASES:
        account = profile.account(phase)
        assert account is not None
        assert sum(row.host_s for row in of(profile, phase)) == pytest.approx(account.whole_s, rel=1e-6)
        assert sum(row.share for row in of(profile, phase)) == pytest.approx(1.0)
        (outside,) = [row for row in of(profile, phase) if row.operator == OUTSIDE]
        assert outside.host_s == pytest.approx(account.python_s, rel=0.02)


def test_matrix_products_are_read_as_fc1_and_fc2(profiled: tuple[Subject, CaseProfile]) -> None:
    """Forward by the module that ran, backward by the sequence number of the forward operator."""
    _, profile = profiled
    forward = {row.module: row for row in of(profile, "forward") if row.operator == "aten::addmm"}
    assert forward.keys() == {"fc1", "fc2"}
    backward = [row for row in of(profile, "backward") if row.operator == "aten::mm"]
    assert {(row.module, row.made_by) for row in backward} == {("fc1", "aten::addmm"), ("fc2", "aten::addmm")}
    calls = Counter({row.module: 0 for row in backward})
    for row in backward:
        calls[row.module] += round(row.calls)
    assert calls == {"fc1": 1, "fc2": 2}  # the first layer's inputs need no gradient
    (relu,) = [row for row in of(profile, "backward") if row.operator == "aten::threshold_backward"]
    assert (relu.module, relu.made_by) == ("relu", "aten::relu")


def test_an_operator_has_its_shapes_bytes_and_flop(profiled: tuple[Subject, CaseProfile]) -> None:
    """fc1: [N, 784] x [784, H], 2·N·784·H FLOP; bias, inputs and weights are read, the output written."""
    _, profile = profiled
    batch, hidden = profile.case.batch_size, int(profile.case.hidden)
    (fc1,) = [row for row in of(profile, "forward") if row.module == "fc1" and row.operator == "aten::addmm"]
    inputs = 784
    assert fc1.shapes == f"{hidden}, {batch}x{inputs}, {inputs}x{hidden}"
    assert fc1.dtypes == "float32"
    assert fc1.flop == 2 * batch * inputs * hidden
    assert fc1.moved_bytes == 4 * (hidden + batch * inputs + inputs * hidden + batch * hidden)


def test_a_case_that_is_not_fed_has_a_profile_of_its_step_alone(tmp_path: Path) -> None:
    """With all of its operators."""
    case = case_of(32, 128)
    subject = Subject(case)
    subject.check()
    subject.save()
    subject.feed = iter(())
    profile = profile_case(subject, case, STEPS, tmp_path / "trace.json.gz", fed=False)
    assert {account.phase for account in profile.accounts} == {*STEP_PHASES, "step"}
    assert profile.disagreement == ""
    assert sum(round(row.calls) * row.dispatched for row in profile.operators) == sum(
        count_case(subject).phases[phase].operators or 0 for phase in STEP_PHASES
    )


def test_the_state_is_as_before(profiled: tuple[Subject, CaseProfile]) -> None:
    """The profiled steps trained the network, and are undone."""
    subject, profile = profiled
    fresh = Subject(profile.case)
    fresh.check()
    for parameter, other in zip(subject.step.model.parameters(), fresh.step.model.parameters(), strict=True):
        assert torch.equal(parameter, other)


def test_a_case_that_is_read_between_the_steps_disagrees_loudly() -> None:
    """Two clones where one was counted: the first difference is said in words."""
    labels = [event("user_annotation", 100 * n, 100 * n + 90, phase) for n, phase in enumerate(STEP_PHASES)]
    labels.append(event("user_annotation", 0, 490, "step"))
    events = [*labels, event("cpu_op", 110, 120, "aten::clone"), event("cpu_op", 130, 140, "aten::clone")]
    calls = {phase: [] for phase in STEP_PHASES} | {
        "forward": [Call("aten::clone", "4", "float32", 32, None)]
    }
    profile = read_profile(case_of(1, 1), events, [(0, 490)], calls, set())
    assert profile.disagreement == "forward: the profiler saw aten::clone 2 times, counted 1"


def event(category: str, start: int, end: int, name: str, thread: str = "1", **more: int) -> Event:
    return Event(name, category, thread, start, end, **more)


def test_a_device_step_is_told_by_kernels_of_the_operators_that_launched_them() -> None:
    """A kernel that runs long after its phase belongs to the operator whose launch it was."""
    labels = [
        event("user_annotation", 1000 * n, 1000 * n + 900, phase) for n, phase in enumerate(STEP_PHASES)
    ]
    labels.append(event("user_annotation", 0, 4900, "step"))
    device = [
        event("cpu_op", 1100, 1300, "aten::mm"),
        event("cuda_runtime", 1150, 1200, "cudaLaunchKernel", correlation=5),
        event("kernel", 4000, 7000, "gemm", thread="stream 7", correlation=5),
        event("cuda_runtime", 5000, 8000, "cudaDeviceSynchronize"),
    ]
    calls = {phase: [] for phase in STEP_PHASES} | {
        "forward": [Call("aten::mm", "4x4, 4x4", "float32", 192, 128)]
    }
    case = Case("simplenn", "digits", "cuda", "-", "float32", "eager", 4, 4)
    profile = read_profile(case, [*labels, *device], [(0, 8000)], calls, set())
    (mm,) = [row for row in profile.operators if row.operator == "aten::mm"]
    assert mm.device_s == pytest.approx(3000e-9)
    assert mm.host_s == pytest.approx(200e-9)
    (account,) = profile.accounts
    assert account.phase == "step"
    assert account.kernel_s == pytest.approx(3000e-9)
    assert account.runtime_s == pytest.approx(1050e-9)  # the launch, and the wait after the kernel's end
    assert account.whole_s == pytest.approx(8000e-9)
    assert profile.device is not None
    assert profile.device.busy_share == pytest.approx(3 / 8)


def test_a_trace_without_a_whole_step_is_refused() -> None:
    """Rather than told as a step of no time."""
    with pytest.raises(ValueError, match="no complete step"):
        read_profile(case_of(1, 1), [], [], {}, set())


def test_a_step_that_either_clock_saw_disturbed_is_left_out() -> None:
    """A hold-up between the reading and the label is in one step by the one, in the next by the other."""
    by_label, by_reading = (990, 800, 820, 999, 1000, 9), (991, 820, 800, 999, 1000, 9)
    steps = tuple({"step": [interval]} for interval in one_after_the_other(by_label))
    quiet = Windows(steps, ()).quiet_half(one_after_the_other(by_reading))
    assert quiet.steps == (steps[0], steps[3], steps[4])


def test_clocks_that_never_agree_are_not_made_to() -> None:
    """The account shall miss the step where a clock is wrong."""
    steps = tuple({"step": [interval]} for interval in one_after_the_other((300, 100, 200, 50)))
    quiet = Windows(steps, ()).quiet_half(one_after_the_other((330, 110, 220, 55)))
    assert quiet.steps == (steps[1], steps[2])


def one_after_the_other(lengths: Sequence[int]) -> list[tuple[int, int]]:
    return list(pairwise(accumulate(lengths, initial=0)))


def test_modules_of_a_nested_network_are_named_in_full(tmp_path: Path) -> None:
    """As named_modules names them; the innermost has the operator."""
    subject = Subject(case_of(4, 8))
    subject.step.model = nn.Sequential(nn.Sequential(nn.Linear(784, 8), nn.Tanh()), nn.Linear(8, 10))
    subject.step.torch_optimizer = torch.optim.SGD(subject.step.model.parameters(), lr=0.1)
    subject.save()
    profile = profile_case(subject, case_of(4, 8), 2, tmp_path / "trace.json.gz")
    named = {row.operator: row.module for row in of(profile, "forward") if row.module == "0.1"}
    assert named == {"aten::tanh": "0.1"}
    assert {row.module for row in of(profile, "forward") if row.operator == "aten::addmm"} == {"0.0", "1"}


class ModeSeen(Subject):
    """Know in which mode its steps ran, by a flag that the mode sets as a precision is set."""

    entered = ""

    @contextmanager
    def mode(self, kind: BlockKind) -> Iterator[None]:
        before, self.entered = self.entered, kind
        with super().mode(kind):
            yield
        self.entered = before

    def watched(self) -> list[str]:
        """Return where each forward from now on will be noted with the mode that it ran in."""
        seen, usual = [], self.step.forward

        def forward(inputs: Tensor) -> Tensor:
            seen.append(self.entered)
            return usual(inputs)

        self.step.forward = forward  # type: ignore[method-assign]
        return seen


def test_the_profiled_and_counted_steps_run_in_the_mode_of_the_timed_ones(tmp_path: Path) -> None:
    """The mode sets the precision: without it a step of tf32 would be profiled as one of float32."""
    subject = ModeSeen(case_of(4, 8))
    subject.check()
    subject.save()
    seen = subject.watched()
    profile_case(subject, case_of(4, 8), 2, tmp_path / "trace.json.gz")
    assert set(seen) == {"plain"}
    del seen[:]
    count_case(subject)
    assert set(seen) == {"plain"}


class Replayed:
    """Stand for a captured step: a replay is one product of matrices, on the host."""

    def __init__(self) -> None:
        self.batches: list[object] = []

    def __call__(self, *batch: Tensor) -> Tensor:
        self.batches.append(batch)
        return torch.mm(torch.ones(64, 64), torch.ones(64, 64))


def graph_subject() -> tuple[Subject, Replayed, list[str]]:
    """Return a subject with a captured step that stands in for a graph, and the eager steps seen of it."""
    subject, captured = ModeSeen(case_of(4, 8)), Replayed()
    subject.check()
    subject.save()
    subject.words, subject._run = ("cudagraph",), captured
    return subject, captured, subject.watched()


def test_the_profile_of_a_graph_is_of_its_replay(tmp_path: Path) -> None:
    """Its steps are whole; no operator and no phase of the eager step stands under its name."""
    subject, captured, eager = graph_subject()
    profile = profile_case(subject, case_of(4, 8), STEPS, tmp_path / "trace.json.gz")
    assert eager == []
    assert len(captured.batches) == 3 + STEPS  # three warm the session up
    step = profile.account("step")
    assert step is not None
    assert 0 < step.operator_s < step.whole_s
    assert not {row.phase for row in profile.operators} & set(STEP_PHASES)
    assert {account.phase for account in profile.accounts} & {"step", *STEP_PHASES} == {"step"}
    assert profile.disagreement == ""


def test_the_kernels_of_a_replayed_step_are_told_without_operators() -> None:
    """Two replays of two kernels of 200 ns each, 1000 ns apart, and a copy that is fed after them."""
    events = [
        event("user_annotation", 0, 100, "step"),
        event("user_annotation", 1000, 1100, "step"),
        event("user_annotation", 3000, 3100, "data"),
        event("user_annotation", 3100, 3200, "copy"),
        *(event("cuda_runtime", at, at + 50, "cudaGraphLaunch", correlation=at) for at in (10, 1010)),
        *(
            event("kernel", at + after, at + after + 200, "gemm", thread="stream 7", correlation=at)
            for at in (10, 1010)
            for after in (90, 490)
        ),
    ]
    case = Case("simplenn", "digits", "cuda", "-", "float32", "cudagraph", 4, 4)
    profile = read_profile(case, events, [(0, 1000), (1000, 2000)], {}, set())
    assert profile.device is not None
    assert (profile.steps, profile.device.kernels, profile.device.graph_kernels) == (2, 2.0, 2.0)
    assert profile.device.busy_share == pytest.approx(800 / 1700)  # until the last kernel ends
    (account,) = profile.accounts
    assert account.device_s == pytest.approx(400e-9)
    assert {row.phase for row in profile.operators} == {"data", "copy"}


def test_counters_of_a_graph_hold_what_its_replay_does_and_no_more() -> None:
    """The work was captured with it; operators, launches and allocations are of the eager step, not of it."""
    subject, _, _ = graph_subject()
    plain = Subject(case_of(4, 8))
    plain.check()
    plain.save()
    counted, eager = count_case(subject), count_case(plain)
    for phase in (*STEP_PHASES, "step"):
        own, theirs = counted.phases[phase], eager.phases[phase]
        assert (own.flop, own.moved_bytes) == (theirs.flop, theirs.moved_bytes)
        assert {
            getattr(own, name) for name in own.__struct_fields__ if name not in ("flop", "moved_bytes")
        } == {None}
    assert (counted.inventory, counted.leaked_bytes, counted.waits) == ((), None, {})
    assert counted.parameter_bytes == eager.parameter_bytes
