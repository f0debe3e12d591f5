"""SimpleNN against a network written in plain numpy."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional

from nncore import SimpleNN

Array = npt.NDArray[np.float64]


def small_case() -> tuple[SimpleNN, torch.Tensor, torch.Tensor]:
    """Return a 6-5-3 network in float64 and a batch of 4 for it."""
    torch.manual_seed(0)
    model = SimpleNN(6, 5, 3).double()
    return model, torch.randn(4, 6, dtype=torch.float64), torch.tensor([0, 2, 1, 2])


def parameters(model: SimpleNN) -> dict[str, Array]:
    """Return copies of the model's parameters by name."""
    return {name: value.detach().numpy().copy() for name, value in model.named_parameters()}


def numpy_logits(p: dict[str, Array], inputs: Array) -> Array:
    """Return the logits by the textbook's formula."""
    hidden = np.maximum(inputs @ p["fc1.weight"].T + p["fc1.bias"], 0)
    return np.asarray(hidden @ p["fc2.weight"].T + p["fc2.bias"])


def numpy_loss(p: dict[str, Array], inputs: Array, targets: npt.NDArray[np.int64]) -> float:
    """Return the mean cross-entropy by the textbook's formula."""
    logits = numpy_logits(p, inputs)
    log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return float(-log_softmax[np.arange(len(targets)), targets].mean())


def test_forward_is_the_formula() -> None:
    """The logits are W2 relu(W1 x + b1) + b2."""
    model, inputs, _ = small_case()
    np.testing.assert_allclose(
        model(inputs).detach().numpy(), numpy_logits(parameters(model), inputs.numpy()), rtol=1e-13
    )


def test_gradients_are_finite_differences() -> None:
    """Every single gradient agrees with the central difference of the numpy loss."""
    model, inputs, targets = small_case()
    torch.autograd.backward(functional.cross_entropy(model(inputs), targets))
    p = parameters(model)

    def loss() -> float:
        return numpy_loss(p, inputs.numpy(), targets.numpy())

    for name, value in model.named_parameters():
        assert value.grad is not None
        np.testing.assert_allclose(
            value.grad.numpy(), central_differences(loss, p[name]), rtol=1e-6, atol=1e-9, err_msg=name
        )


def central_differences(loss: Callable[[], float], values: Array, h: float = 1e-6) -> Array:
    """Return the slope of `loss` in each element of `values`, which `loss` reads."""
    slopes = np.empty_like(values)
    for index in np.ndindex(values.shape):
        start = values[index]
        values[index] = start + h
        above = loss()
        values[index] = start - h
        slopes[index] = (above - loss()) / (2 * h)
        values[index] = start
    return slopes


@pytest.mark.parametrize("sizes", [(784, 128, 10), (3, 1, 2)])
def test_parameter_count_is_the_closed_form(sizes: tuple[int, int, int]) -> None:
    """There are i*h + h + h*o + o parameters, 101,770 with the default sizes."""
    i, h, o = sizes
    assert sum(p.numel() for p in SimpleNN(*sizes).parameters()) == i * h + h + h * o + o
    assert sum(p.numel() for p in SimpleNN().parameters()) == 101_770


@pytest.mark.parametrize("name", ["input_size", "hidden_size", "output_size"])
@pytest.mark.parametrize("size", [0, -3])
def test_sizes_below_one_are_refused(name: str, size: int) -> None:
    """The message names the size and its value."""
    with pytest.raises(ValueError, match=f"{name}: {size} "):
        SimpleNN(**{name: size})
