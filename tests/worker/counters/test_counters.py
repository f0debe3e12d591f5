"""Counters against closed forms: what a step computes, allocates and leaves behind."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
import torch
from countable import bench, simple
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.flop_counter import FlopCounterMode

from nncore.model import SimpleNN
from nncore_bench.cases import STEP_PHASES, Case
from nncore_bench.records import CaseCounters, PhaseCounters
from nncore_bench.worker import messages
from nncore_bench.worker.counters.count import count_case, whole_step
from nncore_bench.worker.counters.memory import LEAK_STEPS
from nncore_bench.worker.counters.operators import OperatorCounter
from nncore_bench.worker.counters.steps import SETTLING_STEPS
from nncore_bench.worker.server import Worker
from nncore_bench.worker.subjects.subject import Subject

FLOAT = 4
SIZES = [(784, 128, 10, 64), (64, 16, 10, 32), (7, 5, 3, 2)]


@pytest.fixture(scope="module")
def counted() -> dict[tuple[int, ...], CaseCounters]:
    """Return the counters of each size."""
    return {sizes: count_case(simple(*sizes)) for sizes in SIZES}


@pytest.mark.parametrize("sizes", SIZES)
def test_flop_are_those_of_the_closed_form(
    counted: dict[tuple[int, ...], CaseCounters], sizes: tuple[int, int, int, int]
) -> None:
    """2 B (I H + H O) forward; backward twice that, less the input gradient that nobody needs."""
    inputs, hidden, outputs, batch = sizes
    phases = counted[sizes].phases
    forward = 2 * batch * (inputs * hidden + hidden * outputs)
    backward = 2 * batch * (inputs * hidden + 2 * hidden * outputs)
    assert (phases["forward"].flop, phases["inference"].flop) == (forward, forward)
    assert phases["backward"].flop == backward
    assert phases["step"].flop == forward + backward


NETWORKS = [
    (SimpleNN(7, 5, 3), (2, 7)),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), (2, 3, 8, 8)),
    (nn.TransformerEncoderLayer(16, 2, dropout=0.0), (2, 3, 16)),
]


@pytest.mark.parametrize(("model", "shape"), NETWORKS)
@pytest.mark.parametrize("gradients", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_flop_are_those_that_torch_counts(
    model: nn.Module, shape: tuple[int, ...], gradients: Callable[[], AbstractContextManager[None]]
) -> None:
    """Products, convolutions and attention, also where inference mode dispatches what only calls others."""
    mode, ours = FlopCounterMode(display=False), OperatorCounter()
    for counter in (mode, ours):
        with counter, gradients():
            model(torch.zeros(shape))
    assert ours.work.flop == mode.get_total_flops() > 0


def test_flop_of_the_network_of_old_are_the_published_ones(
    counted: dict[tuple[int, ...], CaseCounters],
) -> None:
    """784-128-10 at batch 64, worked out with pencil and paper."""
    phases = counted[SIZES[0]].phases
    assert phases["forward"].flop == 13_008_896
    assert phases["backward"].flop == 13_172_736


def test_flop_without_a_formula_are_unknown_and_flop_of_nothing_are_none(
    counted: dict[tuple[int, ...], CaseCounters],
) -> None:
    """Adam and the softmax compute, but torch has no formula for them; zero_grad runs no operator."""
    phases = counted[SIZES[0]].phases
    assert phases["optimizer"].flop is None
    assert phases["loss"].flop is None
    assert (phases["zero_grad"].flop, phases["zero_grad"].operators) == (0, 0)


def test_parameters_gradients_and_adams_state_have_their_sizes(
    counted: dict[tuple[int, ...], CaseCounters],
) -> None:
    """Adam keeps two values per parameter, and per tensor of parameters a step counter of 4 bytes."""
    counters = counted[SIZES[0]]
    assert counters.parameters == 101_770
    assert counters.parameter_bytes == counters.gradient_bytes == 4 * 101_770
    assert counters.state_bytes == 2 * 4 * 101_770 + 4 * 4
    assert counters.leaked_bytes == 0


def test_the_graph_has_the_nodes_that_one_draws_by_hand(
    counted: dict[tuple[int, ...], CaseCounters],
) -> None:
    """Per layer addmm, transpose and two AccumulateGrad, between them relu; then log_softmax and nll_loss."""
    phases = counted[SIZES[0]].phases
    nodes = {phase: phases[phase].autograd_nodes for phase in (*STEP_PHASES, "inference")}
    assert nodes == {
        "zero_grad": 0,
        "forward": 4 + 1 + 4,
        "loss": 2,
        "backward": 11,
        "optimizer": 0,
        "inference": 0,
    }


def test_operators_are_those_that_reach_the_kernels(
    counted: dict[tuple[int, ...], CaseCounters],
) -> None:
    """Transpose and addmm per layer, relu between them; not autograd's own copy of it."""
    phases = counted[SIZES[0]].phases
    assert phases["inference"].operators == 5
    assert phases["forward"].operators == 5


def test_adam_moves_every_parameter_18_times(counted: dict[tuple[int, ...], CaseCounters]) -> None:
    """Operator by operator: lerp_ 3, mul_ 2, addcmul_ 3, sqrt 2, div 2, add_ 2, addcdiv_ 4.

    Besides, each of four tensors has a step counter: add_ reads and writes it, item reads it.
    """
    moved = counted[SIZES[0]].phases["optimizer"].moved_bytes
    assert moved == 18 * 101_770 * FLOAT + 4 * 3 * FLOAT


def test_one_layer_allocates_what_one_writes_down_by_hand() -> None:
    """A linear layer without bias, B=6, I=5, O=4, plain SGD: every tensor of the step is known."""
    batch, inputs, outputs = 6, 5, 4
    work = bench(nn.Linear(inputs, outputs, bias=False), (batch, inputs), partial(SGD, lr=0.1))
    phases = count_case(work).phases
    logits, gradient = batch * outputs * FLOAT, inputs * outputs * FLOAT
    forward, loss, backward = (phases[phase] for phase in ("forward", "loss", "backward"))
    assert (forward.allocations, forward.allocated_bytes, forward.peak_bytes) == (1, logits, logits)
    # log_softmax, the loss and the total weight
    assert (loss.allocations, loss.allocated_bytes) == (3, logits + 2 * FLOAT)
    assert loss.peak_bytes == 2 * logits + 2 * FLOAT
    # d loss, d log_softmax, d logits, d weight
    assert (backward.allocations, backward.allocated_bytes) == (4, FLOAT + 2 * logits + gradient)
    # Largest with logits, log_softmax and the gradients of both alive, beside loss, its gradient and weight.
    assert backward.peak_bytes == 4 * logits + 2 * FLOAT
    assert (phases["zero_grad"].allocations, phases["zero_grad"].peak_bytes) == (0, gradient)
    assert (phases["optimizer"].allocations, phases["optimizer"].allocated_bytes) == (0, 0)
    assert phases["optimizer"].peak_bytes == logits + FLOAT + gradient
    assert phases["inference"].peak_bytes == logits


def test_a_step_allocates_the_sum_of_its_phases_and_peaks_at_their_maximum(
    counted: dict[tuple[int, ...], CaseCounters],
) -> None:
    """Bytes add up over the phases; moments do not."""
    phases = counted[SIZES[0]].phases
    parts = [phases[phase] for phase in STEP_PHASES]
    for name in ("operators", "allocations", "allocated_bytes", "moved_bytes"):
        assert getattr(phases["step"], name) == sum(getattr(part, name) for part in parts)
    assert phases["step"].peak_bytes == max(part.peak_bytes or 0 for part in parts)
    # Backward runs every node that forward and loss have added, and no node counts twice.
    assert phases["step"].autograd_nodes == phases["backward"].autograd_nodes
    added = [phases[phase].autograd_nodes or 0 for phase in ("forward", "loss")]
    assert phases["step"].autograd_nodes == sum(added)


def test_what_is_unknown_of_a_phase_is_unknown_of_the_step_except_for_flop() -> None:
    """A sum with a gap would look like a count."""
    step = whole_step([PhaseCounters(flop=None, operators=3), PhaseCounters(flop=5, operators=2, copies=1)])
    assert (step.flop, step.operators, step.copies, step.peak_bytes) == (5, 5, None, None)
    gaps = [PhaseCounters(flop=0, operators=0), PhaseCounters(flop=None, operators=2)]
    assert whole_step(gaps).flop is None
    assert whole_step(gaps[:1]).flop == 0


def test_what_only_a_device_has_does_not_apply_to_the_cpu(
    counted: dict[tuple[int, ...], CaseCounters],
) -> None:
    """Zero would say that somebody had looked."""
    for phase in counted[SIZES[0]].phases.values():
        assert (phase.copies, phase.synchronisations, phase.kernel_launches) == (None, None, None)


class Leaking(nn.Module):
    """Keep every output in a list, as one does who logs losses without `.item()`."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.kept: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.layer(inputs)
        self.kept.append(logits.detach())
        return logits


def test_a_module_that_keeps_its_outputs_leaks_exactly_their_bytes() -> None:
    """Five rows of two floats for each step after the first counted one."""
    assert count_case(bench(Leaking(), (5, 3))).leaked_bytes == LEAK_STEPS * 5 * 2 * FLOAT


class Cyclic(nn.Linear):
    """Leave each output in a cycle, which only the garbage collector takes apart."""

    def forward(self, inputs: Tensor) -> Tensor:
        logits = super().forward(inputs)
        cycle: list[Any] = [logits.detach()]
        cycle.append(cycle)
        return logits


def test_what_the_garbage_collector_takes_is_no_leak() -> None:
    """It takes it at a time of its own, and the count must not depend on when."""
    assert count_case(bench(Cyclic(3, 2), (5, 3))).leaked_bytes == 0


def test_counters_are_the_same_in_20_of_20_repeats() -> None:
    """Counts are no estimates; and each starts from the same state."""
    subject = Subject(Case("simplenn", "digits", "cpu", 1, "float32", "eager", 32, 16))
    subject.check()
    subject.save()
    assert len({msgspec.json.encode(count_case(subject)) for _ in range(20)}) == 1


def test_counting_leaves_the_state_as_it_was() -> None:
    """What comes after a count trains on from the same parameters."""
    subject = Subject(Case("simplenn", "digits", "cpu", 1, "float32", "eager", 32, 16))
    subject.check()
    subject.save()
    before = [tensor.detach().clone() for tensor in subject.state()]
    count_case(subject)
    assert all(torch.equal(a, b) for a, b in zip(before, subject.state(), strict=True))
    assert subject.step.model.training


def test_a_forward_whose_nodes_are_counted_is_followed_by_its_backward() -> None:
    """CUDA graphs of torch.compile begin no step before that; gradients and state are put back."""
    subject = Subject(Case("simplenn", "digits", "cpu", 1, "float32", "eager", 4, 8))
    subject.check()
    subject.save()
    before = [tensor.detach().clone() for tensor in subject.state()]
    step, calls = subject.step, Mock()
    calls.attach_mock(Mock(wraps=step.forward), "forward")
    calls.attach_mock(Mock(wraps=step.backward), "backward")
    step.forward, step.backward = calls.forward, calls.backward  # type: ignore[method-assign]
    assert subject.count_nodes()["backward"] == 11
    assert [name for name, *_ in calls.mock_calls] == ["forward", "backward"] * (SETTLING_STEPS + 1)
    assert all(parameter.grad is None for parameter in step.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, subject.state(), strict=True))


def test_a_worker_counts_a_case_and_sends_what_can_be_read_back() -> None:
    """The digits have 64 pixels: 64*16 + 16 + 16*10 + 10 parameters."""
    worker = Worker()
    case = Case("simplenn", "digits", "cpu", torch.get_num_threads(), "float32", "eager", 32, 16)
    pixels = Subject(case).batches[0][0].shape[1]
    worker.answer(messages.Prepare(3, case, warm_up=False))
    reply = worker.answer(messages.Count(3))
    assert isinstance(reply, messages.Counted)
    assert reply.counters.parameters == pixels * 16 + 16 + 16 * 10 + 10
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(reply), type=messages.Reply) == reply
    assert set(reply.counters.phases) == {*STEP_PHASES, "step", "inference"}
