"""Training steps written with packages that people train with, each as its documentation writes it."""

from collections.abc import Iterator
from typing import Any

import torch
from subjects import faster_rcnn, gpt2
from torch import Tensor, nn

from nncore_bench import phase


class WithAccelerate:
    """accelerate: prepared model and optimizer, accumulation by its context, clipping."""

    def __init__(self) -> None:
        from accelerate import Accelerator  # noqa: PLC0415 - one package a test

        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
        made = gpt2()
        schedule = torch.optim.lr_scheduler.LinearLR(made.optimizer)
        self.batch = made.batch
        self.model, self.optimizer, self.schedule = self.accelerator.prepare(
            made.model, made.optimizer, schedule
        )

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        with self.accelerator.accumulate(self.model):
            loss = self.model(**batch).loss
            self.accelerator.backward(loss)
            if self.accelerator.sync_gradients:
                with phase("clip"):
                    self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad()
        return loss


class OfLightning:
    """A LightningModule through its own step, which logs without a trainer."""

    def __init__(self) -> None:
        from lightning import LightningModule  # noqa: PLC0415 - one package a test

        class Module(LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3))

            def training_step(self, batch: tuple[Tensor, Tensor], _number: int) -> Tensor:
                inputs, targets = batch
                loss = nn.functional.cross_entropy(self.net(inputs), targets)
                self.log("loss", loss)
                return loss

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return torch.optim.Adam(self.parameters())

        self.module = Module()
        self.optimizer = self.module.configure_optimizers()
        self.batch = torch.randn(8, 12), torch.arange(8) % 3

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        loss = self.module.training_step(batch, number)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


class Detecting:
    """torchvision's reference loop: a mapping of losses, summed."""

    def __init__(self) -> None:
        made = faster_rcnn()
        self.model, self.optimizer, self.loader = made.model, made.optimizer, made.loader

    def training_step(self, batch: Any) -> dict[str, Tensor]:  # noqa: ANN401 - lists of images and of mappings
        (images, targets), _ = batch
        losses = self.model(images, targets)
        total = sum(losses.values())
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        return {"loss": total} | losses


class AveragedByTimm:
    """timm: a network with its moving average and its loss."""

    def __init__(self) -> None:
        import timm  # noqa: PLC0415 - one package a test
        from timm.loss import LabelSmoothingCrossEntropy  # noqa: PLC0415 - the same
        from timm.optim import create_optimizer_v2  # noqa: PLC0415 - the same
        from timm.utils import ModelEmaV3  # noqa: PLC0415 - the same

        self.model = timm.create_model("test_resnet", pretrained=False, num_classes=3)
        self.ema = ModelEmaV3(self.model)
        self.loss = LabelSmoothingCrossEntropy()
        self.optimizer = create_optimizer_v2(self.model, opt="lookahead_adamw", lr=1e-3)
        self.batch = torch.randn(4, 3, 96, 96), torch.arange(4) % 3

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, targets = batch
        loss = self.loss(self.model(inputs), targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with phase("average"):
            self.ema.update(self.model)
        return loss


class Compiled:
    """The network compiled by its user."""

    def __init__(self) -> None:
        self.model = torch.compile(nn.Sequential(nn.Linear(12, 64), nn.Tanh(), nn.Linear(64, 3)))
        self.optimizer = torch.optim.Adam(self.model.parameters())

    def loader(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(4):
            yield torch.randn(batch_size, 12), torch.arange(batch_size) % 3

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, targets = batch
        loss = nn.functional.cross_entropy(self.model(inputs), targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


class CompiledAsAWhole(Compiled):
    """Forward and loss compiled as one function, as small training scripts do."""

    def __init__(self) -> None:
        super().__init__()
        model: nn.Module = self.model._orig_mod
        self.model = model
        self.loss_of = torch.compile(lambda x, y: nn.functional.cross_entropy(model(x), y))

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        loss = self.loss_of(*batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss
