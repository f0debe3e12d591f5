"""Numerical error of a variant: how far it is off the plain float32 step after a few steps."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nncore.step import TrainStep
from nncore_bench.worker.subjects.apply_variant import ScaledStep, precision_set
from nncore_bench.worker.subjects.state import State

STEPS = 3
SMALLEST = 1e-30
"""Lower bound for denominators."""

ROUNDINGS = 16
UNITS = {"tf32": 2**-10, "bfloat16": 2**-7, "float16": 2**-10}
"""The unit of rounding of each precision: float16 and TF32 keep ten bits of mantissa, bfloat16 seven."""

TOLERANCES = {"float32": 1e-3} | {name: ROUNDINGS * unit for name, unit in UNITS.items()}
"""Largest relative error at which a variant still counts as the same step: 16 roundings of its precision."""

Batches = Sequence[tuple[Any, Tensor]]
Whole = Callable[[Any, Tensor], Tensor]
"""Runs a whole step on inputs and targets, and returns its loss."""

Values = tuple[list[Tensor], list[dict[str, Any]]]
"""Parameters and buffers, and the optimizer's state of each parameter it updates."""


def compared(  # noqa: PLR0913, PLR0917 - two steps with their batches, and how to run the one
    step: TrainStep,
    plain: TrainStep,
    batches: Batches,
    plain_batches: Batches,
    precision: str,
    capture: Callable[[], Whole] | None = None,
) -> dict[str, float]:
    """Run both steps from the plain one's state and return the variant's relative errors, as shares.

    `loss_error` is |a - b| / |b| of the last loss; `gradient_error` is the Euclidean norm of the difference
    of all first-step gradients over the norm of the plain ones; `parameter_error` is the same for the
    parameters after the last step. Both draw the same random numbers, and dropout is off meanwhile, since
    implementations draw different masks. `own_error` is the largest such difference between the plain step
    and itself under another seed, 0 if it draws nothing at random.
    Afterwards the step is back in the plain one's initial state, with a fresh optimizer.

    If `capture` is given, what it returns is run instead of the step. A graph needs existing optimizer state:
    it starts from, and is left in, the plain step's state after one step.
    """
    start = _state(plain)
    own, of_plain = (State(one.model, one.criterion, *_optimizers(one)) for one in (step, plain))
    with _without_dropout(step.model), _without_dropout(plain.model):
        own.save()
        of_plain.save()
        with precision_set(precision):
            if isinstance(step, ScaledStep):
                step.settle(batches[:STEPS])
            whole = capture() if capture else step
            own.save() if capture else own.restore()
        with precision_set("float32"):
            if capture:
                plain(*plain_batches[0])
                start = _state(plain)
            of_plain.save()
            expected, is_random = _run(plain, plain, plain_batches)
            other = None
            if is_random:
                of_plain.restore()
                other, _ = _run(plain, plain, plain_batches, seed=1)
        with precision_set(precision):
            own.restore()
            _put_back(step, start)
            found, _ = _run(step, whole, batches)
        own.restore()
        of_plain.restore()
        _put_back(step, start)
    own_error = 0.0 if other is None else max(_errors(other, expected).values())
    return {**_errors(found, expected), "own_error": own_error}


@dataclass(frozen=True)
class Outcome:
    """The last loss, and the gradients of the first step and the parameters after the last, flat."""

    loss: float
    gradients: Tensor
    parameters: Tensor


def _errors(found: Outcome, expected: Outcome) -> dict[str, float]:
    return {
        "loss_error": abs(found.loss - expected.loss) / max(abs(expected.loss), SMALLEST),
        "gradient_error": _distance(found.gradients, expected.gradients),
        "parameter_error": _distance(found.parameters, expected.parameters),
    }


def _tensors(step: TrainStep) -> list[Tensor]:
    return [*step.model.parameters(), *step.model.buffers()]


def _moved(step: TrainStep) -> list[Tensor]:
    """Return the parameters that the optimizer updates; the gradients of any others may still be scaled."""
    held = [p for one in _optimizers(step) for group in one.param_groups for p in group["params"]]
    return held or list(step.model.parameters())


def _optimizers(step: TrainStep) -> Sequence[Optimizer]:
    """Return the optimizers of a step: an own one may have several, or none."""
    own: Sequence[Optimizer] | None = getattr(step, "optimizers", None)
    return [step.torch_optimizer] if own is None else own


def _own(step: TrainStep, parameter: Tensor) -> Any:  # noqa: ANN401 - what an optimizer keeps
    """Return the state that the optimizers keep of a parameter."""
    return next((one.state[parameter] for one in _optimizers(step) if parameter in one.state), {})


def _state(step: TrainStep) -> Values:
    kept = [_own(step, parameter) for parameter in _moved(step)]
    return deepcopy(([tensor.detach() for tensor in _tensors(step)], kept))


def _put_back(step: TrainStep, state: Values) -> None:
    """Copy a state into the step's existing tensors, the only ones that a graph knows."""
    tensors, kept = state
    with torch.no_grad():
        for tensor, value in zip(_tensors(step), tensors, strict=True):
            tensor.copy_(value)
        for parameter, values in zip(_moved(step), kept, strict=True):
            own = _own(step, parameter)
            for name in list(own):
                if name not in values:
                    del own[name]  # the optimizer creates it again at its first step
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


def _run(step: TrainStep, whole: Whole, batches: Batches, seed: int = 0) -> tuple[Outcome, bool]:
    """Return the outcome of a few steps, with zeros for missing gradients, and whether they drew at random.

    An optimizer may change gradients in place (SGD with nesterov and foreach does), so they are read before
    its update; with a graph or a scaled loss they are available only after the step.
    """
    gradients: list[Tensor] = []
    loss = torch.empty(0)
    torch.manual_seed(seed)
    drawn = _generators(step)

    def read(*_: object) -> None:
        gradients[:] = [_flat([torch.zeros_like(p) if p.grad is None else p.grad for p in _moved(step)])]

    eager = whole is step and not isinstance(step, ScaledStep)
    first = next(iter(_optimizers(step)), None)
    hook = first.register_step_pre_hook(read) if eager and first is not None else None
    for number in range(STEPS):
        inputs, targets = batches[number % len(batches)]
        loss = whole(inputs, targets)
        if hook:
            hook.remove()
        if not gradients:
            read()
    is_random = any(not torch.equal(one, other) for one, other in zip(drawn, _generators(step), strict=True))
    return Outcome(float(loss.detach()), gradients[0], _flat(list(step.model.parameters()))), is_random


def _generators(step: TrainStep) -> list[Tensor]:
    on_cuda = next(step.model.parameters()).is_cuda
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if on_cuda else [])]


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    dense = [tensor.detach().to_dense() for tensor in tensors]
    real = [torch.view_as_real(tensor) if tensor.is_complex() else tensor for tensor in dense]
    return torch.cat([tensor.double().reshape(-1).cpu() for tensor in real])


def _distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp_min(SMALLEST))
