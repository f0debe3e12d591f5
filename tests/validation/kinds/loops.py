"""Training loops of people's own, at a size that matters, for `own_loops.py`.

Each has a twin that spends 300 µs more in a part of its own, `planted`.
"""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from nncore_bench import phase

PLANTED_NS = 300_000
SLOWER = float(os.environ.get("OWN_LOOPS_SLOWER", "0"))
"""Share of the time of its step that `Slowed` spends beyond it, for the gate."""


def spin(nanoseconds: float) -> None:
    """Spend a time, by a clock that the laps do not read."""
    end = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW) + nanoseconds
    while time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW) < end:
        pass


def perceptron(inputs: int = 64, hidden: int = 256, outputs: int = 10) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(0.1), nn.Linear(hidden, outputs))


class Plain:
    """The loop of the tutorial, with Adam."""

    def __init__(self) -> None:
        self.model: nn.Module = perceptron()
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(self.model.parameters())
        self.criterion = nn.CrossEntropyLoss()

    def loader(self, batch_size: int) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(8):
            yield torch.randn(batch_size, 64, generator=generator), torch.arange(batch_size) % 10

    def training_step(self, batch: Any) -> Any:  # noqa: ANN401 - as users write it
        inputs, targets = batch
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(inputs), targets)
        loss.backward()
        self.optimizer.step()
        return loss


class Accumulation(Plain):
    """Four calls a step, a scaler, clipping and a schedule."""

    def __init__(self) -> None:
        super().__init__()
        self.scaler = torch.amp.GradScaler("cpu")
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 100)
        self.calls = 0

    def training_step(self, batch: Any) -> Tensor:  # noqa: ANN401 - the same
        inputs, targets = batch
        loss = self.criterion(self.model(inputs), targets) / 4
        self.scaler.scale(loss).backward()
        self.calls += 1
        if self.calls % 4 == 0:
            with phase("clip"):
                self.scaler.unscale_(self.optimizer)
                clip_grad_norm_(self.model.parameters(), 1.0)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.schedule.step()
            self.optimizer.zero_grad()
        return loss


class Gan:
    """Two networks, two optimizers, two phases of its own."""

    def __init__(self) -> None:
        self.batch = torch.randn(64, 16)
        self.generator, self.critic = perceptron(16, 128, 16), perceptron(16, 128, 1)
        self.of_generator = torch.optim.Adam(self.generator.parameters())
        self.of_critic = torch.optim.Adam(self.critic.parameters())

    def training_step(self, real: Tensor) -> Tensor:
        judge, ones = functional.binary_cross_entropy_with_logits, torch.ones(len(real), 1)
        with phase("discriminator"):
            fake = self.generator(torch.randn_like(real)).detach()
            loss = judge(self.critic(real), ones) + judge(self.critic(fake), 1 - ones)
            self.of_critic.zero_grad()
            loss.backward()
            self.of_critic.step()
        with phase("generator"):
            loss = judge(self.critic(self.generator(torch.randn_like(real))), ones)
            self.of_generator.zero_grad()
            loss.backward()
            self.of_generator.step()
        return loss


class Lbfgs(Plain):
    """A closure, called as often as the optimizer likes."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 10))
        self.optimizer = torch.optim.LBFGS(self.model.parameters(), lr=0.1, max_iter=4)

    def training_step(self, batch: Any) -> Any:  # noqa: ANN401 - the same
        inputs, targets = batch

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss: Tensor = self.criterion(self.model(inputs), targets)
            loss.backward()
            return loss

        return self.optimizer.step(closure)


class Penalty(Plain):
    """A gradient penalty."""

    def training_step(self, batch: Any) -> Tensor:  # noqa: ANN401 - the same
        inputs, targets = batch
        inputs = inputs.detach().requires_grad_()
        outputs = self.model(inputs)
        (slope,) = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)
        with phase("penalty"):
            penalty = (slope.norm(dim=1) - 1).square().mean()
        loss: Tensor = self.criterion(outputs, targets) + penalty
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


class Transformer:
    """A GPT-2 of two layers that returns its loss."""

    def __init__(self) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415 - takes seconds

        config = GPT2Config(
            vocab_size=200, n_positions=32, n_embd=64, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
        )
        self.model = GPT2LMHeadModel(config)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), fused=True)
        tokens = torch.randint(200, (8, 32))
        self.batch = {"input_ids": tokens, "labels": tokens}

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        loss: Tensor = self.model(**batch).loss
        loss.backward()
        with phase("clip"):
            clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss


class Detection:
    """A Faster R-CNN on small images of two sizes."""

    def __init__(self) -> None:
        from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn  # noqa: PLC0415 - the same

        self.model = fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=64
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)

    def loader(self, batch_size: int) -> Iterator[Any]:
        for number in range(4):
            images = [torch.rand(3, 64, 48 + 8 * ((number + at) % 3)) for at in range(batch_size)]
            target = {"boxes": torch.tensor([[8.0, 8.0, 30.0, 34.0]]), "labels": torch.tensor([1])}
            yield images, [target] * batch_size

    def training_step(self, batch: Any) -> Tensor:  # noqa: ANN401 - the same
        images, targets = batch
        with phase("losses"):
            loss: Tensor = sum(self.model(images, targets).values())  # type: ignore[assignment]
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


class Compiled(Plain):
    """A network that its user compiled."""

    def __init__(self) -> None:
        super().__init__()
        network = nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 10))
        self.model = torch.compile(network)
        self.optimizer = torch.optim.Adam(network.parameters())


LOOPS = {
    "plain": (Plain, 64), "accumulation": (Accumulation, 64), "gan": (Gan, 64), "lbfgs": (Lbfgs, 64),
    "penalty": (Penalty, 64), "transformer": (Transformer, 8), "detection": (Detection, 2),
    "compiled": (Compiled, 64),
}  # fmt: skip
"""The loops, each with a batch size."""


def slowed(kind: type[Any], nanoseconds: float) -> Callable[[], Any]:
    """Return a factory of a loop that spends more time, in a part of its own."""

    class Slowed(kind):  # type: ignore[misc] # any of them
        def training_step(self, batch: Any) -> Any:  # noqa: ANN401 - the same
            with phase("planted"):
                spin(nanoseconds)
            return super().training_step(batch)

    return Slowed


for _name, (_kind, _) in LOOPS.items():
    globals()[_name] = _kind
    globals()[f"{_name}_planted"] = slowed(_kind, PLANTED_NS)
