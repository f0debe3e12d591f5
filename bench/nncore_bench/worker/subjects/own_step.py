"""The user's own training step as a subject: whatever its object does, told apart by seams."""

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nncore.step import TrainStep
from nncore_bench.cases import OTHER, UNATTRIBUTED, BlockKind, Case
from nncore_bench.variants import EAGER, HALVES, WORDS
from nncore_bench.watch.seams import modules_called, phase_of, seams
from nncore_bench.worker.blocks import STEP_BEGINS, NamedLaps, SubjectError
from nncore_bench.worker.counters.operators import first_steps, graph_nodes
from nncore_bench.worker.counters.steps import SETTLING_STEPS, Switch, settle
from nncore_bench.worker.subjects.apply_variant import (
    casting,
    compiler_cache_of,
    in_channels_last,
    precision_set,
)
from nncore_bench.worker.subjects.batches import moved
from nncore_bench.worker.subjects.calls import learned, loss_of, takes_number
from nncore_bench.worker.subjects.complete import Loop
from nncore_bench.worker.subjects.factory import FactorySubject, made_by_factory
from nncore_bench.worker.subjects.numerical_error import STEPS, TOLERANCES, compared
from nncore_bench.worker.subjects.state import State
from nncore_bench.worker.subjects.subject import SEED, Mark, no_mark


class OwnStep(FactorySubject):
    """An object of the user's with a `training_step`, its models and optimizers found by what it refers to.

    One *step* is as many calls as parameters take to move, where that is regular. Its phases are those that
    its seams and `with phase(name)` show, and OTHER is the rest; seams are there in blocks with laps alone.
    """

    _split = staticmethod(lambda batch: (batch, None))
    kinds: tuple[BlockKind, ...] = ("plain", "laps", "feed")
    calls = 1

    def __init__(self, case: Case, made: Loop) -> None:
        self._loop_made = made
        self.laps = NamedLaps()
        super().__init__(case)

    def _made(self) -> Any:  # noqa: ANN401 - a Loop, where others have a network
        return self._loop_made

    def _formed(self, made: Any) -> State:  # noqa: ANN401 - the same
        self._refuse_what_rebuilds()
        self.loop, self._takes_number = made.loop, takes_number(made.loop.training_step)
        state = State(self.loop)
        for module in in_channels_last(_outermost(state), self.words):
            module.to(self.device)
        self._called = self._models_called(state)
        if mode := self.form.compile_mode:
            for module in self._called:
                if phase_of(module) == "forward":
                    module.compile(mode=mode, dynamic=False)
        return State(self.loop, gradients=True)

    def _refuse_what_rebuilds(self) -> None:
        rebuilding = [
            word
            for word in self.words
            if WORDS[word].kind in ("optimizer", "gradients", "inference") or WORDS[word].captures_step
        ]
        rebuilding += ["float16"] if self.precision == "float16" else []
        if rebuilding:
            raise SubjectError(
                f"{rebuilding[0]} would change the subject's own training_step (write it there, and compare"
                " the two versions)"
            )

    def _models_called(self, state: State) -> list[nn.Module]:
        """Run the first steps, and return the modules that they call themselves."""
        before = State(self.loop, gradients=True)
        before.save()
        with self.mode("plain"), modules_called(_outermost(state)) as called:
            for number in first_steps():
                self._call(number)
        before.restore()
        return called

    def _call(self, number: int) -> object:
        """Call the user's step on the batch of a number."""
        batch = self.batches[number % len(self.batches)][0]
        return self._run_on(batch, number)

    def _run_on(self, batch: Any, number: int) -> object:  # noqa: ANN401 - any structure
        return (
            self.loop.training_step(batch, number) if self._takes_number else self.loop.training_step(batch)
        )

    def train(self, number: int) -> object:
        """Run the step of a number: so many calls, on as many batches."""
        result: object = None
        for call in range(number * self.calls, (number + 1) * self.calls):
            result = self._call(call)
        return result

    def train_in_phases(self, number: int, switch: Switch) -> None:
        """Run the same step with seams; OTHER begins it."""
        with self._seams(switch):
            switch(OTHER)
            self.train(number)
            switch(UNATTRIBUTED)

    def _seams(self, switch: Switch) -> Any:  # noqa: ANN401 - a context
        return seams(self._called, self._steppers, switch)

    def iteration(self, kind: BlockKind) -> Callable[[int, Mark], None]:
        """Return the function that runs one iteration of a kind."""
        for _ in range(self.held_ready if kind == "feed" else 0):
            next(self.feed)
        return {"plain": self._plain, "laps": self._lapped, "feed": self._fed}[kind]

    @contextmanager
    def mode(self, kind: BlockKind) -> Iterator[None]:
        """Set the precision, and for laps also the seams."""
        if self.device.type == "cuda" and self.form.replays_kernels:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        with ExitStack() as contexts:
            contexts.enter_context(precision_set(self.precision))
            if self.precision in HALVES:
                contexts.enter_context(casting(self.precision, self.device.type))
            if kind == "laps":
                contexts.enter_context(self._seams(self.laps.mark))
            yield

    def _plain(self, number: int, mark: Mark) -> None:
        mark()
        self.train(number)

    def _lapped(self, number: int, _mark: Mark) -> None:
        self.laps.mark(STEP_BEGINS)
        self.train(number)
        self.laps.mark(UNATTRIBUTED)

    def _fed(self, number: int, mark: Mark) -> None:
        mark()
        batches = [next(self.feed)[0] for _ in range(self.calls)]
        mark()
        batches = moved(batches, self.device, non_blocking=True)
        mark()
        for call, batch in enumerate(batches, number * self.calls):
            self._run_on(batch, call)

    @property
    def parts(self) -> tuple[str, ...]:  # type: ignore[override] # known once it ran
        """The phases seen so far."""
        return self.laps.parts

    @property
    def models(self) -> Sequence[nn.Module]:
        """The networks that it calls, without losses."""
        return [module for module in self._called if phase_of(module) == "forward"]

    @property
    def roots(self) -> list[nn.Module]:
        """The modules that its object refers to and that are no parts of others."""
        return _outermost(self._state)

    @property
    def optimizers(self) -> Sequence[Optimizer]:
        """Its optimizers; of a wrapper and the wrapped, which share their state, the first."""
        found = [one for one in self._state.found if isinstance(one, Optimizer)]
        return list({id(one.state): one for one in found}.values())

    @property
    def _steppers(self) -> list[Any]:
        kinds = (Optimizer, torch.amp.GradScaler)
        return [one for one in self._state.found if isinstance(one, kinds)]

    def drop_gradients(self) -> None:
        """Drop all gradients."""
        for parameter in self._trained():
            parameter.grad = None

    def count_nodes(self) -> dict[str, int]:
        """Return the number of autograd nodes that backward runs, over all backward passes of a step."""
        settle(self)
        usual, nodes = torch.autograd.backward, 0

        def counting(tensors: Any, *arguments: Any, **keywords: Any) -> None:  # noqa: ANN401 - backward's own
            nonlocal nodes
            nodes += len(graph_nodes(tensors))
            usual(tensors, *arguments, **keywords)

        torch.autograd.backward = counting
        try:
            self.train(SETTLING_STEPS)
        finally:
            torch.autograd.backward = usual
        self.restore()
        return {"backward": nodes}

    def save(self) -> None:
        """Save the state that every block starts from, with what the steps before have added."""
        self._state = State(self.loop, gradients=True)
        self._state.save()

    def _trained(self) -> list[Tensor]:
        modules = (one for one in self._state.found if isinstance(one, nn.Module))
        own = [p for module in modules for p in module.parameters() if p.requires_grad]
        held = [p for one in self.optimizers for group in one.param_groups for p in group["params"]]
        return list({id(parameter): parameter for parameter in (*own, *held)}.values())

    def check(self) -> dict[str, float]:
        """Check its calls before any time is trusted; raises IncorrectError.

        Returns the loss if it returns one, the share of parameter tensors that moved, the seconds of the very
        first call, and the calls that make a step; a variant adds its errors against the plain step.
        """
        compared = self._compared()
        found = self.begin()
        with self.mode("plain"):
            self._check_restored()
        return {**found, **compared, **self._varying()}

    def begin(self) -> dict[str, float]:
        """Run the calls that make a step, which every process has to, every batch, and see the phases."""
        with self.mode("plain"), compiler_cache_of(self.words):
            found = self.learn_calls()
            self.save()
            self._check_every_batch()
        self.restore()
        self._see_phases()
        return found

    def _run(self, *batch: Any) -> Any:  # noqa: ANN401 - any structure
        """Call the step on one batch, and return its loss, or 0 if it returns none."""
        loss = loss_of(self._run_on(batch[0], 0))
        return torch.zeros(()) if loss is None else torch.as_tensor(loss)

    def learn_calls(self) -> dict[str, float]:
        """Run calls until parameters have moved several times; learn after how many they move."""
        found = learned(self._call, self._trained(), self.optimizers)
        self.calls = found.calls
        self.assumed += found.assumed
        return found.figures

    def _see_phases(self) -> None:
        """See the phases of the first steps of a block."""
        with self.mode("laps"):
            for number in first_steps():
                self._lapped(number, no_mark)
        self.restore()

    def _check_restored(self) -> None:
        """Run a step twice from the saved state, and note if it differs; leave the state restored."""
        outcomes = []
        for _ in range(2):
            self.restore()
            self.train(0)
            outcomes.append([parameter.detach().clone() for parameter in self._trained()])
        self.restore()
        held = self._state.not_restored()
        if held:
            self.assumed += (f"not put back between blocks: {', '.join(held)}",)
        elif self.device.type == "cpu" and not all(map(torch.equal, *outcomes)):
            self.assumed += ("the same step from the same state ends elsewhere: something is not put back",)

    def _compared(self) -> dict[str, float]:
        """Compare a variant with the plain step, and restore its initial state."""
        if not self.words and self.precision == "float32":
            return {}
        plain = own_subject(replace(self.case, variant=EAGER, precision="float32"))
        if not isinstance(plain, OwnStep):
            raise SubjectError("its factory returns an object with a training_step at some calls only")
        plain.save()
        with plain.mode("plain"):
            plain.learn_calls()
        plain.restore()
        self.calls = plain.calls
        self.save()
        with self.mode("plain"), compiler_cache_of(self.words):
            begin = time.perf_counter()
            self.train(0)
            first_s = time.perf_counter() - begin
        self.restore()
        errors = compared(_Whole(self), _Whole(plain), self.batches, plain.batches, self.precision)
        tolerance = max(TOLERANCES[self.precision], errors.pop("own_error"))
        return {"first_step_s": first_s, **errors, "tolerance": tolerance}


class _Whole(TrainStep):
    """An own step as what `compared` runs, some steps from the first on."""

    def __init__(self, own: OwnStep) -> None:
        self.own, self.done = own, 0
        self.model = nn.ModuleList(own.roots)
        self.criterion: Any = own.loop
        self.optimizers = own.optimizers

    def __call__(self, *_: object) -> Tensor:
        with self.own.mode("plain"):
            loss = loss_of(self.own.train(self.done % STEPS))
        self.done += 1
        return torch.zeros(()) if loss is None else torch.as_tensor(loss)


def own_subject(case: Case) -> FactorySubject:
    """Return the subject that a factory makes: a network, or an object with a step of its own."""
    torch.manual_seed(SEED)
    made = made_by_factory(case)
    if isinstance(made, Loop):
        _refuse_returned_again(made.loop)
        return OwnStep(case, made)
    return FactorySubject(case, made)


_given: dict[int, weakref.ref[Any]] = {}
"""The objects that factories returned in this process, by their ids."""


def _refuse_returned_again(loop: object) -> None:
    earlier = _given.get(id(loop))
    if earlier is not None and earlier() is loop:
        raise SubjectError(
            "its factory returns the same object at every call, which several cases would train (build it in"
            " the factory)"
        )
    with suppress(TypeError):  # an object with slots
        _given[id(loop)] = weakref.ref(loop)


def _outermost(state: State) -> list[nn.Module]:
    """Return the modules that are no parts of others."""
    modules = [one for one in state.found if isinstance(one, nn.Module)]
    inner = {id(part) for one in modules for part in one.modules() if part is not one}
    return [one for one in modules if id(one) not in inner]
