"""Optimizers and losses of many kinds on one small network."""

import copy
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 3))


def made(model: nn.Module, optimizer: Any, loss: Any = functional.cross_entropy) -> SimpleNamespace:
    targets = torch.arange(8) % 3
    return SimpleNamespace(model=model, batch=(torch.randn(8, 12), targets), loss=loss, optimizer=optimizer)


def with_optimizer(make: Callable[[Iterable[Tensor]], Optimizer]) -> SimpleNamespace:
    model = network()
    return made(model, make(model.parameters()))


def adagrad() -> SimpleNamespace:
    return with_optimizer(lambda p: torch.optim.Adagrad(p, lr=0.1, initial_accumulator_value=0.5))


def rmsprop() -> SimpleNamespace:
    return with_optimizer(lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True))


def nesterov() -> SimpleNamespace:
    return with_optimizer(lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True))


def amsgrad() -> SimpleNamespace:
    return with_optimizer(lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True, maximize=False))


def rprop() -> SimpleNamespace:
    return with_optimizer(lambda p: torch.optim.Rprop(p, lr=0.01))


def averaged() -> SimpleNamespace:
    return with_optimizer(lambda p: torch.optim.ASGD(p, lr=0.01))


class Lion(Optimizer):
    """Sign of a moving average (Chen et al., Symbolic discovery of optimization algorithms, 2023)."""

    def __init__(self, params: Iterable[Tensor], lr: float = 1e-3, beta: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "beta": beta})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                kept = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
                kept.mul_(group["beta"]).add_(parameter.grad, alpha=1 - group["beta"])
                parameter.sub_(kept.sign(), alpha=group["lr"])


def lion() -> SimpleNamespace:
    return with_optimizer(Lion)


class Lookahead(Optimizer):
    """Wrap an optimizer and pull its weights back every few steps (Zhang et al., 2019)."""

    def __init__(self, inner: Optimizer, every: int = 3) -> None:
        super().__init__([p for group in inner.param_groups for p in group["params"]], dict(inner.defaults))
        self.inner, self.every, self.count = inner, every, 0
        self.slow = [p.detach().clone() for group in inner.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.inner.step()
        self.count += 1
        if self.count % self.every == 0:
            fast = [p for group in self.inner.param_groups for p in group["params"]]
            for slow, parameter in zip(self.slow, fast, strict=True):
                slow.lerp_(parameter, 0.5)
                parameter.copy_(slow)


def lookahead() -> SimpleNamespace:
    model = network()
    return made(model, Lookahead(torch.optim.SGD(model.parameters(), lr=0.1)))


class Accumulating(Optimizer):
    """Step only every fourth time, as gradient accumulation does."""

    def __init__(self, inner: Optimizer) -> None:
        super().__init__([p for group in inner.param_groups for p in group["params"]], dict(inner.defaults))
        self.inner, self.count = inner, 0

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: FBT001, FBT002 - torch's own
        if self.count % 4 == 0:
            self.inner.zero_grad(set_to_none=set_to_none)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.count += 1
        if self.count % 4 == 0:
            self.inner.step()


def accumulating() -> SimpleNamespace:
    model = network()
    return made(model, Accumulating(torch.optim.SGD(model.parameters(), lr=0.1)))


class Clipped(torch.optim.AdamW):
    """Clip gradients within the step."""

    def step(self, closure: Any = None) -> Any:
        nn.utils.clip_grad_norm_([p for group in self.param_groups for p in group["params"]], 1.0)
        return super().step(closure)


def clipped() -> SimpleNamespace:
    return with_optimizer(Clipped)


def a_tensor_as_rate() -> SimpleNamespace:
    return with_optimizer(lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01)))


def a_group_of_rate_zero() -> SimpleNamespace:
    model = network()
    groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters()}]
    return made(model, torch.optim.SGD(groups, lr=0.1))


def with_optimizer_hooks() -> SimpleNamespace:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    average = copy.deepcopy(model)

    @torch.no_grad()
    def update(*_: object) -> None:
        for kept, parameter in zip(average.parameters(), model.parameters(), strict=True):
            kept.lerp_(parameter, 0.1)

    optimizer.register_step_post_hook(update)
    return made(model, optimizer)


class Centres(nn.Module):
    """A loss with parameters of its own (Wen et al., centre loss, 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(3, 3))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.mse_loss(outputs, self.centres[targets])


def a_loss_with_parameters() -> SimpleNamespace:
    model, loss = network(), Centres()
    return made(model, torch.optim.Adam([*model.parameters(), *loss.parameters()], lr=0.01), loss)


def a_loss_that_penalises_the_network() -> SimpleNamespace:
    model = network()

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        penalty = sum((p.square().sum() for p in model.parameters()), torch.zeros(()))
        return functional.cross_entropy(outputs, targets) + 1e-3 * penalty

    return made(model, torch.optim.SGD(model.parameters(), lr=0.1), loss)


def a_loss_with_a_teacher() -> SimpleNamespace:
    model, teacher = network(), network().eval().requires_grad_(requires_grad=False)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        wanted = teacher(functional.one_hot(targets, 12).float()).softmax(1)
        return functional.kl_div(outputs.log_softmax(1), wanted, reduction="batchmean")

    return made(model, torch.optim.SGD(model.parameters(), lr=0.1), loss)


def a_weighted_loss() -> SimpleNamespace:
    model = network()
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5]), label_smoothing=0.1)
    return made(model, torch.optim.Adam(model.parameters()), loss)
