"""What a step changes is found from the step alone, and every block starts from the same state."""

import random
from collections import deque
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nncore_bench.worker.subjects.state import State, reached


class Everything(nn.Module):
    """A network that keeps state in every place that a step could."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.register_buffer("shaped", torch.tensor([]))
        self.hidden: Tensor | None = None
        self.calls = 0
        self.history: list[float] = []
        self.recent: deque[float] = deque(maxlen=3)
        self.table = {"sum": torch.zeros(4)}

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.net(x) + (0 if self.hidden is None else self.hidden)
        self.shaped = outputs.detach().amax(0) if not self.shaped.numel() else self.shaped + 1
        self.hidden, self.calls = outputs.detach().mean(0), self.calls + 1
        self.history.append(random.random() + float(np.random.rand()))  # noqa: NPY002, S311 - the global ones
        self.recent.append(self.calls)
        self.table["sum"] += self.hidden
        self.late = self.calls
        return outputs


def trained(steps: int, model: Everything, optimizer: torch.optim.Optimizer, scheduler: Any) -> list[float]:  # noqa: ANN401 - torch's own
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(torch.ones(6, 4)).square().sum()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(
            (float(loss.detach()), optimizer.param_groups[0]["lr"], *model.history[-1:], model.calls)
        )
    return losses


def test_100_blocks_start_from_one_state_bit_for_bit() -> None:
    """Parameters, buffers, attributes, the optimizer, its schedule, and four random generators."""
    torch.manual_seed(0)
    model = Everything()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    trained(2, model, optimizer, scheduler)
    state = State(model, optimizer, scheduler)
    state.save()
    first = trained(3, model, optimizer, scheduler)
    for _ in range(100):
        state.restore()
        assert trained(3, model, optimizer, scheduler) == first
    assert first[0] != first[1]


def test_a_state_saved_before_the_first_step_takes_back_what_that_step_made() -> None:
    """The optimizer's state, a buffer that gets its shape, an attribute that did not exist."""
    torch.manual_seed(0)
    model = Everything()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    state = State(model, optimizer, scheduler)
    state.save()
    places = [parameter.data_ptr() for parameter in model.parameters()]
    first = trained(3, model, optimizer, scheduler)
    state.restore()
    assert not optimizer.state
    assert model.shaped.numel() == 0
    assert model.hidden is None
    assert not hasattr(model, "late")
    assert trained(3, model, optimizer, scheduler) == first
    assert [parameter.data_ptr() for parameter in model.parameters()] == places


def test_what_a_step_refers_to_is_reached_through_closures_hooks_and_attributes() -> None:
    """An inner optimizer in a hook on a parameter, a teacher in a closure, a scaler in a loss object."""
    model, teacher = nn.Linear(2, 2), nn.Linear(2, 2)
    inner = torch.optim.SGD([model.weight], lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    model.weight.register_post_accumulate_grad_hook(lambda _: inner.step())

    class Scaled:
        def __init__(self) -> None:
            self.scaler, self.calls = scaler, 0

        def __call__(self, outputs: Tensor) -> Tensor:
            return self.scaler.scale(teacher(outputs).sum())

    loss = Scaled()
    found = list(reached((model, loss)))
    assert {id(one) for one in (model, inner, scaler, loss)} <= {id(one) for one in found}
    assert any(one is teacher for one in reached(lambda outputs: teacher(outputs).sum()))


def test_the_attributes_of_a_users_own_object_are_restored() -> None:
    """Such as the count of a loss that warms up."""

    class Warming:
        def __init__(self) -> None:
            self.calls, self.seen = 0, [1.0]

    loss = Warming()
    state = State(loss)
    state.save()
    loss.calls += 3
    loss.seen.append(2.0)
    state.restore()
    assert (loss.calls, loss.seen) == (0, [1.0])
