"""TrainStep against its own phases and against Adam written in numpy."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nncore import SimpleNN, TrainStep


def batch(seed: int = 0, samples: int = 8) -> tuple[Tensor, Tensor]:
    """Return random inputs [samples, 784] and targets."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, 784, generator=generator), torch.randint(10, (samples,), generator=generator)


def same_models() -> tuple[SimpleNN, SimpleNN]:
    """Return two networks with equal parameters."""
    torch.manual_seed(0)
    model = SimpleNN()
    return model, copy.deepcopy(model)


def state(model: torch.nn.Module) -> list[Tensor]:
    """Return the values of all parameters."""
    return [p.detach().clone() for p in model.parameters()]


def test_whole_step_is_its_phases_bit_for_bit() -> None:
    """Calling the step equals calling zero_grad, forward, loss, backward and optimizer."""
    one, other = same_models()
    whole, phases = TrainStep(one), TrainStep(other)
    for seed in range(3):
        inputs, targets = batch(seed)
        loss = whole(inputs, targets)
        phases.zero_grad()
        logits = phases.forward(inputs)
        expected = phases.loss(logits, targets)
        phases.backward(expected)
        phases.optimizer()
        assert torch.equal(loss, expected)
        assert all(map(torch.equal, state(one), state(other)))


def test_default_optimizer_is_adam_of_the_paper() -> None:
    """Three steps move the parameters as Kingma and Ba's algorithm 1 does, with lr 0.001."""
    model = SimpleNN(6, 5, 3).double()
    step = TrainStep(model)
    values = [p.detach().numpy().copy() for p in model.parameters()]
    means, squares = [np.zeros_like(v) for v in values], [np.zeros_like(v) for v in values]
    inputs, targets = torch.randn(4, 6, dtype=torch.float64), torch.tensor([0, 2, 1, 2])
    for t in range(1, 4):
        step(inputs, targets)
        for i, parameter in enumerate(model.parameters()):
            assert parameter.grad is not None
            gradient = parameter.grad.numpy()
            means[i] = 0.9 * means[i] + 0.1 * gradient
            squares[i] = 0.999 * squares[i] + 0.001 * gradient**2
            unbiased = means[i] / (1 - 0.9**t), squares[i] / (1 - 0.999**t)
            values[i] -= 0.001 * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
            np.testing.assert_allclose(parameter.detach().numpy(), values[i], rtol=1e-9, atol=1e-14)


def test_gradients_do_not_add_up_over_steps() -> None:
    """The gradient after a second step is that of the second batch alone."""
    model, twin = same_models()
    step = TrainStep(model, torch_optimizer=torch.optim.SGD(model.parameters(), lr=0.0))
    step(*batch(0))
    step(*batch(1))
    inputs, targets = batch(1)
    torch.autograd.backward(functional.cross_entropy(twin(inputs), targets))
    assert torch.equal(model.fc1.weight.grad, twin.fc1.weight.grad)  # type: ignore[arg-type]


def test_given_criterion_and_optimizer_are_used() -> None:
    """Plain gradient descent on a criterion of one's own does what the formula says."""
    model, twin = same_models()
    step = TrainStep(model, torch.nn.MultiMarginLoss(), torch.optim.SGD(model.parameters(), lr=0.5))
    inputs, targets = batch()
    step(inputs, targets)
    torch.autograd.backward(functional.multi_margin_loss(twin(inputs), targets))
    for moved, before in zip(model.parameters(), twin.parameters(), strict=True):
        assert before.grad is not None
        torch.testing.assert_close(moved.detach(), before.detach() - 0.5 * before.grad)


@pytest.mark.parametrize("lr", [0.0, -0.1, float("nan"), float("inf")])
def test_bad_learning_rate_is_refused(lr: float) -> None:
    """The message names the value."""
    with pytest.raises(ValueError, match=f"lr: {lr} "):
        TrainStep(SimpleNN(2, 2, 2), lr=lr)
