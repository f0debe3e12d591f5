"""Training steps of people's own, small: objects with a `training_step`, as their scripts have them."""

import random
from collections import deque
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from nncore_bench import phase

FEATURES, CLASSES = 12, 3


def network(inputs: int = FEATURES, outputs: int = CLASSES) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, outputs))


def classes(number: int) -> Tensor:
    return torch.arange(number) % CLASSES


class Plain:
    """The loop of the tutorial."""

    batch: Any = (torch.randn(8, FEATURES), classes(8))

    def __init__(self) -> None:
        self.model = network()
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.criterion = nn.CrossEntropyLoss()

    def training_step(self, batch: Any) -> Any:
        inputs, targets = batch
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(inputs), targets)
        loss.backward()
        self.optimizer.step()
        return loss


class FromALoader(Plain):
    """A DataLoader of its own, shuffled, with a batch size of its own."""

    batch = None

    def loader(self, batch_size: int) -> DataLoader[Any]:
        data = TensorDataset(torch.randn(64, FEATURES), classes(64))
        return DataLoader(data, batch_size, shuffle=True, drop_last=True)


class ReturnsNothing(Plain):
    def training_step(self, batch: Any) -> None:
        super().training_step(batch)


class ReturnsANumber(Plain):
    """Reads its loss at each step, as loops with a progress bar do."""

    def training_step(self, batch: Any) -> float:
        return float(super().training_step(batch).item())


class AsInLightning(nn.Module):
    """A module that is its own loop, takes the number of a batch and returns a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()
        self.optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        self.batch = {"x": torch.randn(8, FEATURES), "y": classes(8)}
        self.seen = 0

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        loss = functional.cross_entropy(self.net(batch["x"]), batch["y"])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.seen += batch_idx
        return {"loss": loss, "accuracy": torch.tensor(0.5)}


class Accumulating(Plain):
    """Four calls move the parameters once; a scaler, clipping and a schedule."""

    def __init__(self) -> None:
        super().__init__()
        self.scaler = torch.amp.GradScaler("cpu")
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, 0.1, total_steps=100_000)
        self.micro = 0

    def training_step(self, batch: Any) -> Tensor:
        inputs, targets = batch
        with torch.autocast("cpu", torch.bfloat16):
            loss = self.criterion(self.model(inputs), targets) / 4
        self.scaler.scale(loss).backward()
        self.micro += 1
        if self.micro % 4 == 0:
            with phase("clip"):
                self.scaler.unscale_(self.optimizer)
                clip_grad_norm_(self.model.parameters(), 1.0)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.schedule.step()
            self.optimizer.zero_grad()
        return loss


class AccumulatingByNumber(Plain):
    """Moves its parameters in the first of three calls, by the number of the batch."""

    def training_step(self, batch: Any, number: int) -> Tensor:
        inputs, targets = batch
        loss = self.criterion(self.model(inputs), targets)
        loss.backward()
        if number % 3 == 0:
            self.optimizer.step()
            self.optimizer.zero_grad()
        return loss


class Gan:
    """Two networks and two optimizers, each with a phase of its own."""

    batch = torch.randn(8, 4)

    def __init__(self) -> None:
        self.models = nn.ModuleDict({"g": network(4, 4), "d": network(4, 1)})
        self.optimizers = {name: torch.optim.Adam(one.parameters()) for name, one in self.models.items()}

    def training_step(self, real: Tensor) -> dict[str, Any]:
        g, d, judge = self.models["g"], self.models["d"], functional.binary_cross_entropy_with_logits
        ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        with phase("discriminator"):
            fake = g(torch.randn(len(real), 4)).detach()
            loss = judge(d(real), ones) + judge(d(fake), zeros)
            self.optimizers["d"].zero_grad()
            loss.backward()
            self.optimizers["d"].step()
        with phase("generator"):
            fooled = judge(d(g(torch.randn(len(real), 4))), ones)
            self.optimizers["g"].zero_grad()
            fooled.backward()
            self.optimizers["g"].step()
        return {"loss": fooled.detach(), "other": loss.detach()}


class Lbfgs(Plain):
    """A closure that the optimizer calls as often as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.optimizer = torch.optim.LBFGS(
            self.model.parameters(), lr=0.1, max_iter=4, line_search_fn="strong_wolfe"
        )

    def training_step(self, batch: Any) -> Any:
        inputs, targets = batch

        def closure() -> float:
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(inputs), targets)
            loss.backward()
            return loss.item()

        return self.optimizer.step(closure)


class ClosureInStep(Plain):
    """Forward and backward within `optimizer.step`, as Lightning's automatic optimization."""

    def training_step(self, batch: Any) -> Any:
        return self.optimizer.step(partial(self._closure, batch))

    def _closure(self, batch: Any) -> Any:
        inputs, targets = batch
        loss = self.criterion(self.model(inputs), targets)
        self.optimizer.zero_grad()
        loss.backward()
        return loss


class GradientPenalty(Plain):
    """Gradients of the inputs within the loss."""

    def training_step(self, batch: Any) -> Tensor:
        inputs, targets = batch
        inputs = inputs.detach().requires_grad_()
        outputs = self.model(inputs)
        (slope,) = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)
        with phase("penalty"):
            penalty = (slope.norm(dim=1) - 1).square().mean()
        loss = self.criterion(outputs, targets) + penalty
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


class SharpnessAware(Plain):
    """Two passes a step, the second from shifted parameters."""

    def training_step(self, batch: Any) -> Tensor:
        inputs, targets = batch
        self.criterion(self.model(inputs), targets).backward()
        moved = [(p, 0.05 * p.grad.sign()) for p in self.model.parameters() if p.grad is not None]
        with torch.no_grad(), phase("ascend"):
            for parameter, shift in moved:
                parameter.add_(shift)
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(inputs), targets)
        loss.backward()
        with torch.no_grad(), phase("descend"):
            for parameter, shift in moved:
                parameter.sub_(shift)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss


class WithAnAverage(Plain):
    """Keeps a moving average of the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.average = AveragedModel(self.model)

    def training_step(self, batch: Any) -> Any:
        loss = super().training_step(batch)
        with phase("average"):
            self.average.update_parameters(self.model)
        return loss


class CopiesItselfAtFirst(Plain):
    """Makes its teacher in the first step, as some scripts do."""

    teacher: nn.Module | None = None

    def training_step(self, batch: Any) -> Tensor:
        inputs, targets = batch
        if self.teacher is None:
            self.teacher = deepcopy(self.model).requires_grad_(requires_grad=False)
        with torch.no_grad(), phase("teacher"):
            soft = self.teacher(inputs)
        loss = self.criterion(self.model(inputs), targets) + functional.mse_loss(self.model(inputs), soft)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


class WithoutAnOptimizer:
    """Updates its parameters itself."""

    def __init__(self) -> None:
        self.model = network()
        self.batch = torch.randn(8, FEATURES), classes(8)

    def training_step(self, batch: Any) -> Tensor:
        inputs, targets = batch
        loss = functional.cross_entropy(self.model(inputs), targets)
        self.model.zero_grad()
        loss.backward()
        with torch.no_grad(), phase("update"):
            for parameter in self.model.parameters():
                parameter -= 0.1 * parameter.grad  # type: ignore[operator] # it has one
        return loss


class Functional(Plain):
    """Gradients by torch.func, without backward."""

    def training_step(self, batch: Any) -> Tensor:
        inputs, targets = batch
        parameters = dict(self.model.named_parameters())

        def loss_of(values: dict[str, Tensor]) -> Tensor:
            outputs = torch.func.functional_call(self.model, values, (inputs,))
            return functional.cross_entropy(outputs, targets)

        with phase("gradients"):
            gradients, loss = torch.func.grad_and_value(loss_of)(parameters)
        for name, parameter in parameters.items():
            parameter.grad = gradients[name]
        self.optimizer.step()
        return loss


class Reinforced(Plain):
    """A replay memory, a target network and Python's own random numbers."""

    batch = torch.randn(8, FEATURES)

    def __init__(self) -> None:
        super().__init__()
        self.target = deepcopy(self.model)
        self.memory: deque[tuple[Tensor, int]] = deque(maxlen=256)
        self.steps = 0

    def training_step(self, states: Tensor) -> Tensor:
        with torch.no_grad(), phase("act"):
            actions = self.model(states).argmax(1).tolist()
        self.memory.extend((state, action) for state, action in zip(states, actions, strict=True))
        drawn = random.sample(list(self.memory), len(states))
        inputs = torch.stack([state for state, _ in drawn])
        chosen = torch.tensor([action for _, action in drawn])
        with torch.no_grad():
            wanted = 1.0 + 0.9 * self.target(inputs).amax(1)
        value = self.model(inputs).gather(1, chosen[:, None]).squeeze(1)
        loss = functional.smooth_l1_loss(value, wanted)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.steps += 1
        if self.steps % 5 == 0:
            self.target.load_state_dict(self.model.state_dict())
        return loss


class CarriesItsState(Plain):
    """A recurrent network that goes on from where the last batch ended."""

    batch = torch.randn(8, 5, FEATURES)

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.ModuleDict(
            {"rnn": nn.GRU(FEATURES, 16, batch_first=True), "head": nn.Linear(16, FEATURES)}
        )  # type: ignore[assignment]
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.hidden: Tensor | None = None

    def training_step(self, batch: Tensor) -> Tensor:
        if self.hidden is not None and self.hidden.shape[1] != len(batch):
            self.hidden = None
        outputs, hidden = self.model["rnn"](batch, self.hidden)  # type: ignore[index]
        self.hidden = hidden.detach()
        loss = functional.mse_loss(self.model["head"](outputs[:, :-1]), batch[:, 1:])  # type: ignore[index]
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


class WithNumpysNoise(Plain):
    """Augments with a numpy generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = np.random.default_rng(0)
        self.own = torch.Generator().manual_seed(1)
        self.history = np.zeros(4)

    def training_step(self, batch: Any) -> Any:
        inputs, targets = batch
        with phase("augment"):
            shift = self.noise.normal(size=tuple(inputs.shape)).astype(np.float32)
            inputs = inputs + torch.from_numpy(shift) + torch.randn(inputs.shape, generator=self.own)
        loss = super().training_step((inputs, targets))
        self.history[:] = [*self.history[1:], loss.item()]
        return loss


class Checkpointed(Plain):
    """Recomputes its forward in backward."""

    def training_step(self, batch: Any) -> Tensor:
        inputs, targets = batch
        outputs = checkpoint(self.model, inputs, use_reentrant=False)
        loss = self.criterion(outputs, targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


class HalfLoss(nn.Module):
    """A loss of one's own, told by its name."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets) / 2


class WithALossOfItsOwn(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.criterion = HalfLoss()  # type: ignore[assignment]


@dataclass
class Pair:
    inputs: Tensor
    targets: Tensor


class OnADataclass(Plain):
    batch = Pair(torch.randn(8, FEATURES), classes(8))

    def training_step(self, batch: Pair) -> Any:
        return super().training_step((batch.inputs, batch.targets))


class OnRaggedLists(Plain):
    """Sequences of different lengths, from a loader of its own: its steps vary."""

    batch = None

    def loader(self, batch_size: int) -> Iterator[list[Tensor]]:
        lengths = [1 + (at % 5) for at in range(8 * batch_size)]
        for start in range(0, len(lengths), batch_size):
            yield [torch.randn(length, FEATURES) for length in lengths[start : start + batch_size]]

    def training_step(self, batch: list[Tensor]) -> Any:
        return super().training_step((torch.cat(batch), classes(sum(map(len, batch)))))


class FiveCritics(Gan):
    """Trains its generator in every fifth step alone."""

    def __init__(self) -> None:
        super().__init__()
        self.done = 0

    def training_step(self, real: Tensor) -> dict[str, Any]:
        self.done += 1
        if self.done % 5 == 0:
            return super().training_step(real)
        d = self.models["d"]
        loss = d(real).mean() - d(torch.randn_like(real)).mean()
        self.optimizers["d"].zero_grad()
        loss.backward()
        self.optimizers["d"].step()
        return {"loss": loss.detach()}


class LogsEachFourth(Plain):
    """Reads the norms of all gradients in every fourth step."""

    def __init__(self) -> None:
        super().__init__()
        self.done, self.log = 0, []  # type: ignore[var-annotated]

    def training_step(self, batch: Any) -> Any:
        loss = super().training_step(batch)
        self.done += 1
        if self.done % 4 == 0:
            with phase("log"):
                self.log.append([float(p.grad.norm()) for p in self.model.parameters() if p.grad is not None])
        return loss


class WithASchedule(Plain):
    """A warm-up from rate 0, so that the first step moves nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: min(1.0, step / 10))

    def training_step(self, batch: Any) -> Any:
        loss = super().training_step(batch)
        self.schedule.step()
        return loss


class Decorated(Plain):
    """Names a part by a decorator."""

    @phase("augment")
    def _augmented(self, inputs: Tensor) -> Tensor:
        return inputs + torch.randn_like(inputs)

    def training_step(self, batch: Any) -> Any:
        inputs, targets = batch
        return super().training_step((self._augmented(inputs), targets))


class RecoversFromAnError(Plain):
    """Leaves a phase by an exception and goes on."""

    def training_step(self, batch: Any) -> Any:
        try:
            with phase("attempt"):
                self.model(torch.randn(1, 5))
        except RuntimeError:
            pass
        return super().training_step(batch)


class Lazy(Plain):
    """Its layers get their shapes in the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(CLASSES))
        self.model(self.batch[0])
        self.optimizer = torch.optim.Adam(self.model.parameters())


class HoldsAnIterator(Plain):
    """Draws from a stream that cannot be rewound."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = (torch.randn(FEATURES) for _ in count())

    def training_step(self, batch: Any) -> Any:
        inputs, targets = batch
        return super().training_step((inputs + next(self.stream), targets))


class NothingMoves(Plain):
    """Leaves backward to somebody else, as a LightningModule does."""

    def training_step(self, batch: Any) -> Tensor:
        inputs, targets = batch
        return self.criterion(self.model(inputs), targets)


class NoBatches:
    def __init__(self) -> None:
        self.model = network()

    def training_step(self, batch: Any) -> None:
        pass


class NothingToTrain:
    batch = torch.randn(8, FEATURES)

    def training_step(self, batch: Tensor) -> float:
        return float(batch.mean())


class NanInTheThirdBatch(FromALoader):
    def loader(self, batch_size: int) -> Iterator[Any]:  # type: ignore[override]
        for number in range(8):
            inputs = torch.randn(batch_size, FEATURES)
            yield inputs / 0 if number == 2 else inputs, classes(batch_size)


class AReservedName(Plain):
    def training_step(self, batch: Any) -> Any:
        with phase("step"):
            return super().training_step(batch)


class RaisesInItsStep(Plain):
    def training_step(self, batch: Any) -> Any:
        return super().training_step((batch[0][:, :5], batch[1]))


class TakesALoaderThatIsNone(Plain):
    batch = None
    loader = [1, 2, 3]  # noqa: RUF012 - as users write it
