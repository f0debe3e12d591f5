"""Subjects: a case's model, data and state, ready to run single iterations."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cache
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import DataLoader, Dataset, RandomSampler

from nncore.data import Dataset as Images
from nncore.data import endless_loader, load_dataset, resident_batches, to_device
from nncore.evaluate import evaluating
from nncore.model import SimpleNN
from nncore.step import TrainStep
from nncore_bench.cases import BlockKind, Case
from nncore_bench.variants import EAGER, Form, form_of, words_of
from nncore_bench.worker.blocks import IncorrectError
from nncore_bench.worker.subjects.apply_variant import (
    ScaledStep,
    casting,
    compiler_cache_of,
    formed_inputs,
    formed_model,
    formed_step,
    inference_mode,
    plain_tf32,
    precision_set,
)
from nncore_bench.worker.subjects.cuda_graph import CapturedStep
from nncore_bench.worker.subjects.load import Inputs, Made, make, repeated
from nncore_bench.worker.subjects.numerical_error import TOLERANCES, Whole, compared
from nncore_bench.worker.subjects.optimizers import carry_over, formed_optimizer, optimizer_code

Mark = Callable[[], None]
Batches = list[tuple[Inputs, Tensor]]
SEED = 0
PREFETCHED = 2
"""Batches prefetched by each worker process of a DataLoader (torch's default)."""

MOST_BATCHES, MOST_BYTES = 8, 64 * 2**20
"""Limits on the batches made by repeating the example batch: their number, and their bytes in all."""


class Subject:
    """One case with nncore's SimpleNN: a training step, batches resident on the device, and a loader.

    `FactorySubject` is the same for any other network.
    """

    _run: Whole
    kinds: tuple[BlockKind, ...] = ("plain", "laps", "feed", "inference")
    precision = "float32"
    words: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    optimizer_code = ""
    least_trained = 1.0
    """Share of the parameters that must get a gradient and change."""

    def __init__(self, case: Case) -> None:
        torch.manual_seed(SEED)
        self.case = case
        self.device = torch.device(case.device)
        self.words, self.precision = words_of(case.variant), case.precision
        made = self._made()
        self.assumed = tuple(made.assumed)
        self.batches = [
            (formed_inputs(inputs, self.words), targets) for inputs, targets in self._batches(made)
        ]
        self.feed = cycle(self.batches) if self.form.resident else self._loader(made)
        self.held_ready = PREFETCHED * self.form.fetchers
        # `to` moves parameters in place, so the optimizer still holds the right ones.
        model = formed_model(made.model.to(self.device), self.words)
        self.optimizer_code = optimizer_code(made.optimizer, self.words, made.model)
        optimizer = formed_optimizer(made.optimizer, self.words)
        loss = made.loss.to(self.device) if isinstance(made.loss, nn.Module) else made.loss
        inputs = self.batches[0][0]
        self.step = formed_step(model, loss, optimizer, self.words, self.precision, inputs)
        self._saved: list[Tensor] = []
        if self.replays:
            self.kinds = ("plain",)

    def _made(self) -> Made:
        data = _dataset(self.case.dataset, self.case.device)
        classes = int(data.train_targets.max()) + 1
        # Loss and optimizer come from nncore's own step: they belong to the measured code.
        step = TrainStep(SimpleNN(data.train_inputs.shape[1], int(self.case.hidden), classes).to(self.device))
        return Made(step.model, data.train_inputs, data.train_targets, step.criterion, step.torch_optimizer)

    def _batches(self, _: Made) -> Batches:
        return _batches(self.case.dataset, self.case.device, self.case.batch_size)

    def _loader(self, _: Made) -> Iterator[tuple[Inputs, Tensor]]:
        data = _dataset(self.case.dataset, "cpu")
        return endless_loader(
            data.train_inputs,
            data.train_targets,
            self.case.batch_size,
            seed=SEED,
            num_workers=self.form.fetchers,
            pin_memory=self.form.pinned,
        )

    def iteration(self, kind: BlockKind) -> Callable[[int, Mark], None]:
        """Return the function that runs one iteration of a kind.

        Batches that a loader has prefetched are taken first, so that a block does not count batches that were
        loaded before it began.
        """
        for _ in range(self.held_ready if kind == "feed" else 0):
            next(self.feed)
        plain = isinstance(self.batches[0][0], Tensor) and not self.form.pinned
        iterations: dict[BlockKind, Callable[[int, Mark], None]] = {
            "laps": self._lapped,
            "plain": self._replayed if self.replays else self._plain,
            "feed": self._fed if plain else self._fed_otherwise,
            "inference": self._infer if plain else self._infer_otherwise,
        }
        return iterations[kind]

    @contextmanager
    def mode(self, kind: BlockKind) -> Iterator[None]:
        """Set the precision, and for inference also eval mode without gradients."""
        if self.device.type == "cuda" and self.form.replays_kernels:
            # A forward without its backward would prevent the next one from being replayed.
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        with precision_set(self.precision):
            if kind != "inference":
                yield
                return
            casts = casting(self.precision, self.device.type)
            with evaluating(self.step.model), inference_mode(self.words), casts:
                yield

    def _lapped(self, number: int, mark: Mark) -> None:
        # The same calls as TrainStep.__call__; there, too, the locals die when the function returns.
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

    def _fed_otherwise(self, _number: int, mark: Mark) -> None:
        mark()
        batch = next(self.feed)
        mark()
        inputs, targets = tree_map(lambda tensor: tensor.to(self.device, non_blocking=True), batch)
        mark()
        self.step(inputs, targets)

    def _infer_otherwise(self, number: int, mark: Mark) -> None:
        inputs, _targets = self.batches[number % len(self.batches)]
        mark()
        self.step.forward(inputs)

    def _replayed(self, number: int, mark: Mark) -> None:
        batch = self.batches[number % len(self.batches)]
        mark()
        self._run(*batch)

    @property
    def form(self) -> Form:
        """Return the facts of its words."""
        return form_of(self.words)

    @property
    def replays(self) -> bool:
        """Whether the step is captured and replayed as a whole, without phases."""
        return self.form.captures_step

    def state(self) -> list[Tensor]:
        """Return every tensor that a step changes: parameters, buffers and the optimizer's state."""
        model, optimizer = self.step.model, self.step.torch_optimizer
        kept = [value for state in optimizer.state.values() for value in state.values()]
        tensors = [value for value in kept if isinstance(value, Tensor)]
        scaling = self.step.scaling() if isinstance(self.step, ScaledStep) else []
        return [*model.parameters(), *model.buffers(), *tensors, *scaling]

    def save(self) -> None:
        """Save the state that every block starts from."""
        self._saved = [tensor.detach().clone() for tensor in self.state()]

    def restore(self) -> None:
        """Restore the saved state."""
        if self._saved:
            with torch.no_grad():
                for tensor, saved in zip(self.state(), self._saved, strict=True):
                    tensor.copy_(saved)

    def check(self) -> dict[str, float]:
        """Check the first step before any time is trusted; raises IncorrectError.

        Returns the loss, the shares of parameter tensors that got a gradient and that changed, and the
        seconds of the very first step, including compilation or capture. A variant adds its errors against
        the plain step; `plain_tf32` is 1 if this case is float32 but a plain script here would use TF32.
        """
        said = {"plain_tf32": 1.0} if self._is_tf32_elsewhere() else {}
        compared = self._compared()
        with self.mode("plain"):
            self._run = self._whole()
            return {**self._checked(), **compared, **said}

    def _is_tf32_elsewhere(self) -> bool:
        return self.device.type == "cuda" and self.precision == "float32" and plain_tf32(self.step.model)

    def _whole(self) -> Whole:
        """Return the callable that runs a whole step: the step itself, or a CUDA graph captured now."""
        return CapturedStep(self.step, self.batches[0]) if self.replays else self.step

    def _compared(self) -> dict[str, float]:
        """Compare a variant with the plain step, and restore its initial state."""
        if not self.words and self.precision == "float32":
            return {}
        plain = type(self)(replace(self.case, variant=EAGER, precision="float32"))
        with self.mode("plain"), compiler_cache_of(self.words):
            begin = time.perf_counter()
            self._whole()(*self.batches[0])
            first_s = time.perf_counter() - begin
        capture = self._whole if self.replays else None
        errors = compared(self.step, plain.step, self.batches, plain.batches, self.precision, capture)
        return {"first_step_s": first_s, **errors, "tolerance": TOLERANCES[self.precision]}

    def _checked(self) -> dict[str, float]:
        trained = [p for p in self.step.model.parameters() if p.requires_grad or self.least_trained]
        before = [parameter.detach().clone() for parameter in trained]
        begin = time.perf_counter()
        loss = self._run(*self.batches[0])
        first_s = time.perf_counter() - begin
        gradients = [p.grad is not None and bool(p.grad.isfinite().all()) for p in trained]
        moved = [not torch.equal(old, new) for old, new in zip(before, trained, strict=True)]
        checks = {
            "loss": float(loss.detach()),
            "gradients": sum(gradients) / len(gradients),
            "moved": sum(moved) / len(moved),
            "first_step_s": first_s,
        }
        if not torch.isfinite(loss.detach()):
            raise IncorrectError(f"the loss of the first step is {checks['loss']}, so its times mean nothing")
        if checks["gradients"] < self.least_trained or not checks["gradients"]:
            raise IncorrectError(f"only {checks['gradients']:.0%} of the parameters got a finite gradient")
        if checks["moved"] < self.least_trained or not checks["moved"]:
            raise IncorrectError(f"only {checks['moved']:.0%} of the parameters moved in the first step")
        return checks

    def denormals(self) -> int:
        """Count the denormal values in the state, which processors handle many times slower."""
        floats = [tensor for tensor in self.state() if tensor.is_floating_point()]
        return sum(int(((t != 0) & (t.abs() < torch.finfo(t.dtype).tiny)).sum()) for t in floats)


@cache
def _dataset(name: str, device: str) -> Images:
    dataset = load_dataset(name)
    return dataset if device == "cpu" else to_device(dataset, torch.device(device))


def release_batches() -> None:
    """Free the cached batches that no case uses any more."""
    _batches.cache_clear()


@cache
def _batches(name: str, device: str, batch_size: int) -> list[tuple[Tensor, Tensor]]:
    """Return the batches shared by all cases of this size: a copy of the digits takes 5 to 7 MB."""
    data = _dataset(name, device)
    return resident_batches(data.train_inputs, data.train_targets, batch_size, seed=SEED)


class FactorySubject(Subject):
    """The user's or torchvision's network, on its example batch cut or repeated to the batch size."""

    least_trained = 0.0  # some parts may be reached by other inputs only

    def _made(self) -> Made:
        made = make(self.case.subject)
        memo: dict[int, Any] = {}
        copied = deepcopy(made, memo)  # the factory may return the same network every time
        carry_over(made.optimizer, copied.optimizer, memo)
        return copied

    def _batches(self, made: Made) -> Batches:
        size = self.case.batch_size
        sample_bytes = sum(leaf[0].nbytes for leaf in tree_leaves(made.inputs))
        count = max(1, min(MOST_BATCHES, MOST_BYTES // max(1, size * sample_bytes)))
        whole = repeated((made.inputs, made.targets), count * size)
        parts = [repeated(whole, size, start) for start in range(0, count * size, size)]
        return [tree_map(lambda tensor: tensor.to(self.device), part) for part in parts]

    def _loader(self, made: Made) -> Iterator[tuple[Inputs, Tensor]]:
        samples = _Samples(made)
        generator = torch.Generator().manual_seed(SEED)
        loader = DataLoader(
            samples,
            self.case.batch_size,
            sampler=RandomSampler(samples, replacement=True, num_samples=2**40, generator=generator),
            generator=generator,
            num_workers=self.form.fetchers,
            pin_memory=self.form.pinned,
        )
        return iter(loader)


class _Samples(Dataset[Any]):
    """The samples of an example batch, one by one."""

    def __init__(self, made: Made) -> None:
        self.batch = made.inputs, made.targets

    def __len__(self) -> int:
        return len(self.batch[1])

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401 - any structure of tensors
        return tree_map(lambda tensor: tensor[index], self.batch)
