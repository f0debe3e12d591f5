"""Subjects: a case's model, data and state, ready to run single iterations."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nncore.data import Dataset as Images
from nncore.data import endless_loader, load_dataset, resident_batches, to_device
from nncore.evaluate import evaluating
from nncore.model import SimpleNN
from nncore.step import TrainStep
from nncore_bench.cases import STEP_PHASES, UNATTRIBUTED, BlockKind, Case
from nncore_bench.variants import EAGER, Form, form_of, words_of
from nncore_bench.worker.counters.operators import graph_nodes
from nncore_bench.worker.counters.steps import INFERENCE, SETTLING_STEPS, Switch, settle
from nncore_bench.worker.subjects.apply_variant import (
    casting,
    compiler_cache_of,
    formed_inputs,
    formed_model,
    formed_step,
    inference_mode,
    plain_tf32,
    precision_set,
)
from nncore_bench.worker.subjects.batches import Structure, leaves, moved
from nncore_bench.worker.subjects.complete import Made
from nncore_bench.worker.subjects.cuda_graph import CapturedStep
from nncore_bench.worker.subjects.first_step import FirstStep
from nncore_bench.worker.subjects.numerical_error import TOLERANCES, Whole, compared
from nncore_bench.worker.subjects.optimizers import formed_optimizer, optimizer_code
from nncore_bench.worker.subjects.state import State

Mark = Callable[[], None]
Batches = list[tuple[Structure, Any]]
SEED = 0
PREFETCHED = 2
"""Batches prefetched by each worker process of a DataLoader (torch's default)."""


class Subject:
    """One case with nncore's SimpleNN: a training step, batches resident on the device, and a loader.

    `FactorySubject` is the same for any other network.
    """

    _run: Whole
    kinds: tuple[BlockKind, ...] = ("plain", "laps", "feed", INFERENCE)
    parts: tuple[str, ...] = STEP_PHASES
    precision = "float32"
    words: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    optimizer_code = ""
    _infers_with_gradients = False
    _needed: Sequence[bool] = ()
    """Which tensors of its inputs need gradients, in order."""

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
        self._state = self._formed(made)
        if self.replays:
            self.kinds = ("plain",)

    def _formed(self, made: Made) -> State:
        """Form the step for the variant and the precision, and return everything that it changes."""
        # `to` moves parameters in place, so the optimizer still holds the right ones.
        model = formed_model(made.model.to(self.device), self.words)
        self.optimizer_code = optimizer_code(made.optimizer, self.words, made.model)
        optimizer = formed_optimizer(made.optimizer, self.words)
        loss = made.loss.to(self.device) if isinstance(made.loss, nn.Module) else made.loss
        self._needed = [leaf.requires_grad for leaf in leaves(made.inputs)]
        self.step = formed_step(
            model, loss, optimizer, self.words, self.precision, self.batches[0][0],
            whole=made.whole, needed=self._needed,
        )  # fmt: skip
        return State(model, loss, optimizer, getattr(self.step, "scaler", None))

    def _made(self) -> Made:
        data = _dataset(self.case.dataset, self.case.device)
        classes = int(data.train_targets.max()) + 1
        # Loss and optimizer come from nncore's own step: they belong to the measured code.
        step = TrainStep(SimpleNN(data.train_inputs.shape[1], int(self.case.hidden), classes).to(self.device))
        return Made(
            model=step.model,
            inputs=data.train_inputs,
            targets=data.train_targets,
            loss=step.criterion,
            optimizer=step.torch_optimizer,
        )

    def _batches(self, _: Made) -> Batches:
        return _batches(self.case.dataset, self.case.device, self.case.batch_size)

    def _loader(self, _: Made) -> Iterator[tuple[Structure, Any]]:
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
        plain = all(isinstance(part, Tensor) for part in self.batches[0]) and not self.form.pinned
        plain = plain and not any(self._needed)
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
            gradients = torch.enable_grad() if self._infers_with_gradients else inference_mode(self.words)
            with evaluating(self.step.model), gradients, casts:
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
        inputs, targets = moved(batch, self.device, non_blocking=True)
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

    def train(self, number: int) -> object:
        """Run the step of a number on its batch; batches repeat in a cycle."""
        return self.step(*self.batches[number % len(self.batches)])

    def train_in_phases(self, number: int, switch: Switch) -> None:
        """Run the step with the calls and lifetimes of TrainStep.__call__; tell `switch` of each phase."""
        inputs, targets = self.batches[number % len(self.batches)]
        step = self.step
        switch("zero_grad")
        step.zero_grad()
        switch("forward")
        logits = step.forward(inputs)
        switch("loss")
        loss = step.loss(logits, targets)
        switch("backward")
        step.backward(loss)
        switch("optimizer")
        step.optimizer()
        switch(UNATTRIBUTED)

    def infer(self, number: int, switch: Switch) -> None:
        """Run inference on a batch as in the blocks that are timed; the output is freed within the phase."""
        run = self.iteration(INFERENCE)
        with self.mode(INFERENCE):
            switch(INFERENCE)
            run(number, no_mark)
            switch(UNATTRIBUTED)

    def count_nodes(self) -> dict[str, int]:
        """Return the number of autograd nodes that forward and loss add, and that backward runs."""
        settle(self)
        inputs, targets = self.batches[SETTLING_STEPS % len(self.batches)]
        self.drop_gradients()
        logits = self.step.forward(inputs)
        of_forward = graph_nodes(logits)
        loss = self.step.loss(logits, targets)
        of_loss = graph_nodes(loss)
        # CUDA graphs of torch.compile start a new step only after the backward pass of the last one.
        self.step.backward(loss)
        self.drop_gradients()
        self.restore()
        added = {"forward": len(of_forward), "loss": len(of_loss - of_forward), "backward": len(of_loss)}
        return {"zero_grad": 0, **added, "optimizer": 0, INFERENCE: 0}

    def drop_gradients(self) -> None:
        """Drop all gradients."""
        self.step.zero_grad()

    @property
    def models(self) -> Sequence[nn.Module]:
        """The network, alone."""
        return [self.step.model]

    @property
    def optimizers(self) -> Sequence[Optimizer]:
        """The optimizer, alone."""
        return [self.step.torch_optimizer]

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
        return self._state.tensors()

    def save(self) -> None:
        """Save the state that every block starts from."""
        self._state.save()

    def restore(self) -> None:
        """Restore the saved state."""
        self._state.restore()

    def check(self) -> dict[str, float]:
        """Check the first step before any time is trusted; raises IncorrectError.

        Returns the figures of `FirstStep`. A variant adds its errors against the plain step; `plain_tf32` is
        1 if this case is float32 but a plain script here would use TF32.
        """
        said = {"plain_tf32": 1.0} if self._is_tf32_elsewhere() else {}
        compared = self._compared()
        return {**self.begin(), **compared, **said}

    def begin(self) -> dict[str, float]:
        """Run the first step, which every process has to; return the figures of `FirstStep`."""
        with self.mode("plain"), compiler_cache_of(self.words):
            self._run = self._whole()
            found, unusual = FirstStep(self.step, self._run, self.batches, self.least_trained).checked()
        self.assumed += unusual
        return found

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
        self.save()
        with self.mode("plain"), compiler_cache_of(self.words):
            begin = time.perf_counter()
            self._whole()(*self.batches[0])
            first_s = time.perf_counter() - begin
        self.restore()
        capture = self._whole if self.replays else None
        errors = compared(self.step, plain.step, self.batches, plain.batches, self.precision, capture)
        tolerance = max(TOLERANCES[self.precision], errors.pop("own_error"))
        return {"first_step_s": first_s, **errors, "tolerance": tolerance}

    def denormals(self) -> int:
        """Count the denormal values in the state, which processors handle many times slower."""
        floats = [tensor for tensor in self.state() if tensor.is_floating_point()]
        return sum(int(((t != 0) & (t.abs() < torch.finfo(t.dtype).tiny)).sum()) for t in floats)


def no_mark() -> None:
    """Read no clock."""


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
