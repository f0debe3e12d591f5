"""Subjects: a case made real, with its model, data and state, ready to run single iterations."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from torch import Tensor

from bench.cases import BlockKind, Case
from bench.measure.blocks import IncorrectError
from nncore.data import Dataset, endless_loader, load_dataset, resident_batches, to_device
from nncore.evaluate import evaluating
from nncore.model import SimpleNN
from nncore.step import TrainStep

Mark = Callable[[], None]
SEED = 0


class Subject:
    """Hold one case: its training step on batches resident on the device, and a loop that feeds it."""

    kinds: tuple[BlockKind, ...] = ("plain", "laps", "feed", "inference")

    def __init__(self, case: Case) -> None:
        torch.manual_seed(SEED)
        self.device = torch.device(case.device)
        resident = _dataset(case.dataset, case.device)
        source = _dataset(case.dataset, "cpu")
        inputs, targets = resident.train_inputs, resident.train_targets
        self.batches = _batches(case.dataset, case.device, case.batch_size)
        self.feed = endless_loader(source.train_inputs, source.train_targets, case.batch_size, seed=SEED)
        classes = int(targets.max()) + 1
        model = SimpleNN(inputs.shape[1], int(case.hidden), classes).to(self.device)
        self.step = TrainStep(model)
        self._saved: list[Tensor] = []

    def iteration(self, kind: BlockKind) -> Callable[[int, Mark], None]:
        """Return the function that runs one iteration of a kind."""
        iterations: dict[BlockKind, Callable[[int, Mark], None]] = {
            "laps": self._lapped,
            "plain": self._plain,
            "feed": self._fed,
            "inference": self._infer,
        }
        return iterations[kind]

    def mode(self, kind: BlockKind) -> AbstractContextManager[object]:
        """Return eval mode and no_grad for inference, and nothing special for the rest."""
        return evaluating(self.step.model) if kind == "inference" else nullcontext()

    def _lapped(self, number: int, mark: Mark) -> None:
        # The same calls as TrainStep.__call__, and like there its locals die as the function returns.
        inputs, targets = self.batches[number % len(self.batches)]
        step = self.step
        mark()
        step.zero_grad()
        mark()
        logits = step.forward(inputs)
        mark()
        loss = step.loss(logits, targets)
        mark()
        step.backward(loss)
        mark()
        step.optimizer()
        mark()

    def _plain(self, number: int, mark: Mark) -> None:
        inputs, targets = self.batches[number % len(self.batches)]
        mark()
        self.step(inputs, targets)

    def _fed(self, _number: int, mark: Mark) -> None:
        mark()
        inputs, targets = next(self.feed)
        mark()
        inputs, targets = inputs.to(self.device), targets.to(self.device)
        mark()
        self.step(inputs, targets)

    def _infer(self, number: int, mark: Mark) -> None:
        inputs, _targets = self.batches[number % len(self.batches)]
        mark()
        self.step.model(inputs)

    def state(self) -> list[Tensor]:
        """Return every tensor that a step changes: parameters, buffers and the optimizer's state."""
        model, optimizer = self.step.model, self.step.torch_optimizer
        kept = [value for state in optimizer.state.values() for value in state.values()]
        tensors = [value for value in kept if isinstance(value, Tensor)]
        return [*model.parameters(), *model.buffers(), *tensors]

    def save(self) -> None:
        """Remember the state that every block starts from."""
        self._saved = [tensor.detach().clone() for tensor in self.state()]

    def restore(self) -> None:
        """Put the remembered state back."""
        if self._saved:
            with torch.no_grad():
                for tensor, saved in zip(self.state(), self._saved, strict=True):
                    tensor.copy_(saved)

    def check(self) -> dict[str, float]:
        """Run one step and check it before any time is believed; raises IncorrectError.

        Returns the loss, the share of parameter tensors with a gradient, and the share that moved.
        """
        before = [parameter.detach().clone() for parameter in self.step.model.parameters()]
        loss = self.step(*self.batches[0])
        after = list(self.step.model.parameters())
        gradients = [p.grad is not None and bool(p.grad.isfinite().all()) for p in after]
        moved = [not torch.equal(old, new) for old, new in zip(before, after, strict=True)]
        checks = {
            "loss": float(loss.detach()),
            "gradients": sum(gradients) / len(gradients),
            "moved": sum(moved) / len(moved),
        }
        if not torch.isfinite(loss.detach()):
            raise IncorrectError(f"the loss of the first step is {checks['loss']}, so its times mean nothing")
        if checks["gradients"] < 1:
            raise IncorrectError(f"only {checks['gradients']:.0%} of the parameters got a finite gradient")
        if checks["moved"] < 1:
            raise IncorrectError(f"only {checks['moved']:.0%} of the parameters moved in the first step")
        return checks

    def denormals(self) -> int:
        """Count the values of the state that are denormal, which processors handle many times slower."""
        floats = [tensor for tensor in self.state() if tensor.is_floating_point()]
        return sum(int(((t != 0) & (t.abs() < torch.finfo(t.dtype).tiny)).sum()) for t in floats)


@cache
def _dataset(name: str, device: str) -> Dataset:
    dataset = load_dataset(name)
    return dataset if device == "cpu" else to_device(dataset, torch.device(device))


def release_batches() -> None:
    """Forget the batches that no case holds any more; those that one holds stay with it."""
    _batches.cache_clear()


@cache
def _batches(name: str, device: str, batch_size: int) -> list[tuple[Tensor, Tensor]]:
    """Return the batches that all cases of a size share: each copy of the data is 5 to 7 MB of digits."""
    data = _dataset(name, device)
    return resident_batches(data.train_inputs, data.train_targets, batch_size, seed=SEED)
