"""Comparing a variant with the plain step in float32: how far its numbers are off, after some steps."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from nncore.step import TrainStep
from nncore_bench.worker.subjects.apply_variant import ScaledStep, precision_set

STEPS = 3
SMALLEST = 1e-30
"""What is divided by at least."""

TOLERANCES = {"float32": 1e-3, "tf32": 1e-2, "bfloat16": 0.1, "float16": 1e-2}
"""How far the numbers of a precision may be off before a variant is no variant of the same step.

float16 keeps ten bits of the mantissa, as TF32 does, and bfloat16 seven.
"""


Batches = Sequence[tuple[Any, Tensor]]
Whole = Callable[[Any, Tensor], Tensor]
"""Run a whole step on inputs and targets, and return its loss."""

State = tuple[list[Tensor], list[dict[str, Any]]]
"""Parameters and buffers, and what the optimizer keeps of each parameter that it moves."""


def compared(  # noqa: PLR0913, PLR0917 - of each step the batches, and of the one how it is run
    step: TrainStep,
    plain: TrainStep,
    batches: Batches,
    plain_batches: Batches,
    precision: str,
    capture: Callable[[], Whole] | None = None,
) -> dict[str, float]:
    """Run some steps of both from where the plain one starts, and return how far the other is off, as shares.

    `loss_error` is |a - b| / |b| of the last loss, `gradient_error` the Euclidean norm of the difference of
    all gradients of the first step over that of the plain ones, and `parameter_error` the same of the
    parameters after the last. Dropout is off meanwhile: no two ways to draw its masks are alike. At the end
    the step is where the plain one started, with an optimizer that has seen nothing.

    Where `capture` is given, it is what this returns that is run in the place of the step. A graph reads the
    state of the optimizer, which must be there: it starts, and is in the end, where the plain step is after
    one step.
    """
    start = _state(plain)
    with _without_dropout(step.model), _without_dropout(plain.model):
        with precision_set(precision):
            if isinstance(step, ScaledStep):
                step.settle(batches[:STEPS])
            whole = capture() if capture else step
        with precision_set("float32"):
            if capture:
                plain(*plain_batches[0])
                start = _state(plain)
            plain_loss, plain_gradients = _run(plain, plain, plain_batches)
        with precision_set(precision):
            _put_back(step, start)
            loss, gradients = _run(step, whole, batches)
    parameters, plain_parameters = (_flat(list(one.model.parameters())) for one in (step, plain))
    _put_back(step, start)
    return {
        "loss_error": abs(loss - plain_loss) / max(abs(plain_loss), SMALLEST),
        "gradient_error": _distance(gradients, plain_gradients),
        "parameter_error": _distance(parameters, plain_parameters),
    }


def _tensors(step: TrainStep) -> list[Tensor]:
    return [*step.model.parameters(), *step.model.buffers()]


def _moved(step: TrainStep) -> list[Tensor]:
    """Return the parameters that the optimizer moves; a scaled loss leaves the gradients of others scaled."""
    return [parameter for group in step.torch_optimizer.param_groups for parameter in group["params"]]


def _state(step: TrainStep) -> State:
    kept = [step.torch_optimizer.state.get(parameter, {}) for parameter in _moved(step)]
    return deepcopy(([tensor.detach() for tensor in _tensors(step)], kept))


def _put_back(step: TrainStep, state: State) -> None:
    """Give a step this state, in the tensors that it has: a graph knows no others."""
    tensors, kept = state
    with torch.no_grad():
        for tensor, value in zip(_tensors(step), tensors, strict=True):
            tensor.copy_(value)
        for parameter, values in zip(_moved(step), kept, strict=True):
            own = step.torch_optimizer.state[parameter]
            for name in list(own):
                if name not in values:
                    del own[name]  # an optimizer makes at its first step what it does not have
                elif isinstance(own[name], Tensor):
                    own[name].copy_(values[name])
                else:
                    own[name] = deepcopy(values[name])


@contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    layers = [layer for layer in model.modules() if isinstance(layer, nn.modules.dropout._DropoutNd)]  # noqa: SLF001
    shares = [layer.p for layer in layers]
    for layer in layers:
        layer.p = 0.0
    try:
        yield
    finally:
        for layer, share in zip(layers, shares, strict=True):
            layer.p = share


def _run(step: TrainStep, whole: Whole, batches: Batches) -> tuple[float, Tensor]:
    """Return the last loss and the gradients of the first step, zero where there is none.

    An optimizer may change gradients in place (SGD with nesterov and foreach does), so they are read before
    it moves anything; where there is a graph or a scale, they are there only when the step is over.
    """
    gradients: list[Tensor] = []
    loss = torch.empty(0)

    def read(*_: object) -> None:
        gradients[:] = [_flat([torch.zeros_like(p) if p.grad is None else p.grad for p in _moved(step)])]

    eager = whole is step and not isinstance(step, ScaledStep)
    hook = step.torch_optimizer.register_step_pre_hook(read) if eager else None
    for number in range(STEPS):
        inputs, targets = batches[number % len(batches)]
        loss = whole(inputs, targets)
        if hook:
            hook.remove()
        if not gradients:
            read()
    return float(loss.detach()), gradients[0]


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().double().reshape(-1).cpu() for tensor in tensors])


def _distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp_min(SMALLEST))
