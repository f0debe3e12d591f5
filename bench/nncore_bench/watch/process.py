"""Watching a whole process: what it trains is found, and its seams come and go without its knowing.

Nothing here may change what the user's script computes, prints or how it ends: whatever goes wrong in here
removes the seams, and is told at the end.
"""

import gc
import os
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from threading import get_ident
from time import perf_counter_ns
from types import ModuleType
from typing import Any
from weakref import ref

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import clip_grad
from torch.optim import Optimizer
from torch.optim import optimizer as of_torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, dataloader

from nncore_bench.errors import UserError
from nncore_bench.watch.device import DeviceMarks
from nncore_bench.watch.examine import Examination
from nncore_bench.watch.marks import (
    ALLOCATED,
    COUNTED,
    DEVICE_FILE,
    RESIDENT,
    STEPPED,
    Facts,
    Marks,
    Names,
    make_room,
    window_mark,
)
from nncore_bench.watch.phases import (
    CHECKPOINT,
    CLIP,
    COPY,
    DATA,
    EVALUATION,
    Phases,
    watched,
)
from nncore_bench.watch.seams import (
    Place,
    called_from_outside,
    is_compiled,
    one_thread,
    parts_not_compiled,
    phase_of,
    put_seams,
    replace_in,
)
from nncore_bench.watch.surroundings import (
    allocated_kb,
    compilations,
    graph_breaks,
    graphs_compiled,
    resident_kb,
)
from nncore_bench.watch.windows import BARE, EXAMINED, IDLE, LEADING, PAUSED, WATCHED, Plan

LOSSES = (
    *("cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div"),
    *("binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "ctc_loss"),
    *("gaussian_nll_loss", "hinge_embedding_loss", "margin_ranking_loss", "multi_margin_loss"),
    *("poisson_nll_loss", "soft_margin_loss", "triplet_margin_loss", "multilabel_margin_loss"),
)
MOST_BREAKS = 100
PATIENCE = 20
"""After so many times the skipped steps of one optimizer, others that step less often are not waited for."""


@dataclass(slots=True)
class Turn:
    """How the steps of a window are counted: the usual ones are those of one optimizer, by its id.

    `left` are to come in the window, `steps` were so far; each leaves a `mark`, or none; `timed` says that
    counting it is.
    """

    usual: int = 0
    left: int = 0
    steps: int = 0
    mark: int = 0
    thread: int = 0
    timed: bool = False


class Watcher:
    """The watching of the optimizer steps of this process, from `begin` on."""

    def __init__(self, marks: Marks, facts: Facts, plan: Plan, trained: Sequence[object] = ()) -> None:
        self.marks, self.facts, self.plan = marks, facts, plan
        self._given = [one for one in trained if isinstance(one, nn.Module)]
        self._of_interest = {id(getattr(one, "optimizer", one)) for one in trained if one not in self._given}
        self._names, self._windows = Names(facts), plan.windows()
        self._kind, self._turn = PAUSED, Turn()
        self._optimizers: list[ref[Optimizer]] = []
        self._numbers: dict[int, int] = {}
        self._seen: Counter[int] = Counter()
        self._leader: int | None = None
        self._others = self._others_at = 0
        """Steps of other optimizers since the leader's last, and how many that had been."""

        self._seams, self._noting = ExitStack(), ExitStack()
        self._called: list[ref[nn.Module]] = []
        self._known = False
        self._compiled_before = self._compiled = 0
        self._examination = Examination(self.give_up)
        self._examined = 0
        self._device: DeviceMarks | None = None
        self._over = False
        self._places: list[Place] = []
        self._loaders: dict[int, str] = {}
        self._batches: dict[str, int | None] = {}

    def begin(self) -> None:
        """Count the steps of all optimizers from now on."""
        self.facts.learn(torch=torch.__version__)
        self._compiled_before = graphs_compiled()
        self._hook = register_optimizer_step_post_hook(self._hooked())
        alive = ref(self)
        os.register_at_fork(after_in_child=lambda: forked(alive()))

    def end(self) -> None:
        """Remove whatever is there of ours.

        Torch may be going through its hooks, and would fail if one went. If ours is the only one, the next
        steps go through others, of which there are none; else it stays and does nothing.
        """
        self._over = True
        hooks = self._hook.hooks_dict_ref()
        current = of_torch._global_optimizer_post_hooks  # noqa: SLF001 - there is no public place
        if hooks is current and [*hooks] == [self._hook.id]:
            of_torch._global_optimizer_post_hooks = OrderedDict()  # noqa: SLF001 - the same
        elif hooks is not None and self._hook.id in hooks:
            hooks[self._hook.id] = _nothing
        for there in (self._seams, self._noting):
            with suppress(Exception):  # the others are removed all the same
                there.close()

    def leave(self) -> None:
        """Remove whatever is there of ours, the hook as well: no optimizer is within its step now."""
        self.end()
        self._hook.remove()

    def forked(self) -> None:
        """Leave a process alone that was forked from the watched one, but for what it fetches, if it does."""
        if not self._over:
            self.marks.close()
            self.end()
            self._examination.fetching.in_worker()

    def give_up(self, error: BaseException) -> None:
        """End watching because of an error of ours, whatever else goes wrong."""
        self.marks.close()
        with suppress(Exception):
            self.end()
        with suppress(Exception):
            self.facts.learn(error=f"{type(error).__name__}: {error}")

    def _hooked(self) -> Callable[..., None]:
        """Return what runs after each step of any optimizer.

        A usual step, the leader's within a window, takes as little as can be.
        """
        turn, marks, now = self._turn, self.marks, perf_counter_ns

        def after_step(optimizer: Optimizer, *_: object) -> None:
            begun = now()
            try:
                if id(optimizer) == turn.usual and turn.left > 1 and get_ident() == turn.thread:
                    turn.left -= 1
                    turn.steps += 1
                    marks.count(turn.steps, turn.mark)
                else:
                    self._stepped(optimizer)
                if turn.timed:
                    marks.mark(COUNTED | now() - begun)
            except Exception as error:  # noqa: BLE001 - the training job goes on, whatever it is
                self.give_up(error)

        return after_step

    def _stepped(self, optimizer: Optimizer) -> None:
        if self._of_interest and id(optimizer) not in self._of_interest:
            return
        turn, number = self._turn, self._numbers.get(id(optimizer))
        if number is None or self._optimizers[number]() is not optimizer:
            number = self._new(optimizer)
        if get_ident() != turn.thread:
            return
        if self._kind != PAUSED:
            self.marks.mark(STEPPED | number)
            if self._kind == WATCHED and self._device is not None:
                self._device.stepped(number)
        if self._leader is None:
            self._find_leader(number)
        if number != self._leader:
            self._others = self._others + 1 if self._others_at == turn.steps else 1
            self._others_at = turn.steps
            if self._others > PATIENCE * max(self.plan.skip, 1):
                self._led_no_more()
        else:
            turn.steps += 1
            turn.left -= 1
            self.marks.count(turn.steps)
            if turn.left <= 0:
                self._next()
        self._make_usual()

    def _make_usual(self) -> None:
        """Let the steps of the leader to the end of this window be usual ones."""
        leader = None if self._leader is None else self._optimizers[self._leader]()
        on_device = self._kind == WATCHED and self._device is not None
        self._turn.usual = 0 if leader is None or on_device else id(leader)
        self._turn.mark = 0 if self._kind == PAUSED else STEPPED | (self._leader or 0)
        self._turn.timed = self._kind == BARE

    def _new(self, optimizer: Optimizer) -> int:
        self._turn.thread = self._turn.thread or get_ident()
        number = self._numbers[id(optimizer)] = len(self._optimizers)
        self._optimizers.append(ref(optimizer))
        self._known = False  # another model may be trained now
        return number

    def _led_no_more(self) -> None:
        """Look for another leader, such as after one training another begins."""
        self._seams.close()
        self._noting.close()
        self._kind, self._leader, self._others = PAUSED, None, 0
        self._seen.clear()

    def _find_leader(self, number: int) -> None:
        """Find the optimizer with whose step a step ends: of those that step least often, the last."""
        self._seen[number] += 1
        enough = max(self.plan.skip, 1)
        most, least = max(self._seen.values()), min(self._seen.values())
        if least >= enough or most >= PATIENCE * enough:
            self._leader = max(one for one in self._seen if self._seen[one] == least)
            self._turn.steps += self._seen[self._leader] - (number == self._leader)
            self._turn.left = 0
            names = [type(one).__name__ for one in self._alive()]
            self.facts.learn(optimizers=names, optimizer_forms=list(map(_form, self._alive())))

    def _next(self) -> None:
        """Go on to the next window."""
        self._seams.close()
        self._noting.close()
        if self._kind == EXAMINED:
            self._examined += self.plan.length + LEADING
            self.facts.learn(examined=self._examination.seen(self._examined))
        if not self._known:
            self._kind, self._turn.left = PAUSED, 1
            self._find_models()
            return
        kind, self._turn.left = next(self._windows, (None, 0))
        if kind is None or self.marks.room <= 0:
            self.end()
            self._kind = PAUSED
            return
        self._kind, mark = kind, window_mark(kind, self._leader or 0, self._turn.steps)
        self.marks.mark(mark)
        self._look_around()
        if self._device is not None:
            self._device.collect()
        if kind == WATCHED:
            self._put_seams(self._marking(mark))
        elif kind == IDLE:
            self._put_seams(_idle)
        elif kind == EXAMINED:
            self._examination.put(self._seams)

    def _look_around(self) -> None:
        """Note the memory of this process, and what was compiled since the last time."""
        self.marks.mark(RESIDENT | resident_kb())
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            self.marks.mark(ALLOCATED | allocated_kb(torch.cuda))
        compiled = graphs_compiled()
        if compiled != self._compiled:
            new = [{**one, "before_step": self._turn.steps} for one in compilations()]
            known = self.facts.get("compiled", [])
            self.facts.learn(
                compiled=[*known, *new[-(compiled - self._compiled) :]],
                breaks=[*graph_breaks()][-MOST_BREAKS:],
            )
            self._compiled = compiled

    def _marking(self, mark: int) -> Callable[[str], None]:
        """Return the switch that marks phases, on the device as well where parameters are there."""
        switch = self.marks.marking(self._names, self.give_up)
        if self._device is None and any(map(_on_cuda, self._alive())):
            make_room(self.facts.folder / DEVICE_FILE)
            self._device = DeviceMarks(Marks(self.facts.folder, DEVICE_FILE), torch.cuda)
        if self._device is None:
            return switch
        self._device.window(mark, perf_counter_ns())
        return self._device.beside(switch, self._names.__getitem__, self.give_up)

    def _find_models(self) -> None:
        """See in the next step which modules are called from outside of any."""
        self._known = True
        modules = self._given or [
            one
            for one in gc.get_objects()
            if issubclass(type(one), nn.Module) and "_parameters" in vars(one)  # which torch has initialised
        ]
        trained = {id(p) for one in self._alive() for group in one.param_groups for p in group["params"]}
        owners = [one for one in modules if any(id(p) in trained for p in one.parameters())]
        losses = [one for one in modules if phase_of(one) == "loss"]
        compiled = graphs_compiled() > self._compiled_before
        hidden = compiled and not any(map(is_compiled, owners))
        outermost = [] if hidden else _outermost(owners)
        parts = {id(part): part for one in (*outermost, *losses) for part in parts_not_compiled(one)}
        places = list(places_of(functions_of_steps(compiled=compiled)))
        found = self._noting.enter_context(called_from_outside(parts.values(), places))
        self._noting.callback(lambda: self._know(found, places, hidden=hidden))

    def _know(self, found: Sequence[Any], places: Sequence[Place], *, hidden: bool) -> None:
        """Remember which modules and losses were called; other functions may yet be."""
        modules = [one for one in found if isinstance(one, nn.Module)]
        self._called = [ref(one) for one in modules]
        self._places = [one for one in places if one[2] != "loss" or any(one is other for other in found)]
        self.facts.learn(
            models=list(dict.fromkeys(type(one).__name__ for one in modules if phase_of(one) != "loss")),
            hidden=hidden,
            threads=torch.get_num_threads(),
        )

    def _alive(self) -> list[Optimizer]:
        return [one for one in (known() for known in self._optimizers) if one is not None]

    def _put_seams(self, switch: Callable[[str], None]) -> None:
        """Put seams on everything found, until `_seams` is closed."""
        undo = self._seams
        phases: Phases = undo.enter_context(watched(switch, alone=one_thread()))
        modules = [one for one in (known() for known in self._called) if one is not None]
        put_seams(undo, modules, self._alive(), phases, forward=_forward)
        for owner, name, phase in self._places:
            replace_in(undo, owner, name, phases.timed(phase, getattr(owner, name)))
        for owner, name in ((dataloader._BaseDataLoaderIter, "__next__"), (DataLoader, "__iter__")):  # noqa: SLF001
            replace_in(undo, owner, name, phases.timed(self._loader, getattr(owner, name)))

    def _loader(self, one: Any) -> str:  # noqa: ANN401 - a DataLoader, or its iterator
        """Return the phase of waiting for a DataLoader: DATA, with the number of its dataset."""
        name = self._loaders.get(id(getattr(one, "_dataset", None)))
        if name is not None:
            return name
        try:
            return self._numbered(one)
        except Exception as error:  # noqa: BLE001 - the training job goes on, whatever it is
            self.give_up(error)
            return DATA

    def _numbered(self, one: Any) -> str:  # noqa: ANN401 - the same
        dataset = one.dataset if isinstance(one, DataLoader) else one._dataset  # noqa: SLF001
        name = self._loaders.get(id(dataset))
        if name is None:
            name = self._loaders[id(dataset)] = f"{DATA}{len(self._loaders)}"
            sampler = one.batch_sampler if isinstance(one, DataLoader) else one._index_sampler  # noqa: SLF001
            self._batches[name] = getattr(sampler, "batch_size", None)
            self.facts.learn(batches=self._batches)
        return name


def refuse_others(trained: Sequence[object]) -> None:
    """Raise UserError for what is neither a model nor an optimizer, or wraps one."""
    for one in trained:
        if not isinstance(one, nn.Module) and not isinstance(getattr(one, "optimizer", one), Optimizer):
            raise UserError(f"Watch: {one!r:.60} is neither a model nor an optimizer of torch")


def _nothing(*_: object) -> None:
    """Do nothing, as a hook."""


def _idle(_name: str) -> None:
    """Do nothing, as the switch of idle seams."""


def _outermost(modules: Sequence[nn.Module]) -> list[nn.Module]:
    """Return the modules that are no parts of others."""
    parts = {id(part) for one in modules for part in one.modules() if part is not one}
    return [one for one in modules if id(one) not in parts]


def _forward(*_: object) -> str:
    return "forward" if torch.is_grad_enabled() else EVALUATION


def _form(optimizer: Optimizer) -> dict[str, Any]:
    """Return an optimizer's name, its tensors, and whether it is fused; None if it has no such form."""
    fused = [group["fused"] for group in optimizer.param_groups if "fused" in group]
    tensors = sum(len(group["params"]) for group in optimizer.param_groups)
    return {
        "name": type(optimizer).__name__,
        "tensors": tensors,
        "fused": any(fused) if fused else None,
    }


def _on_cuda(optimizer: Optimizer) -> bool:
    return any(one.is_cuda for group in optimizer.param_groups for one in group["params"])


def forked(watcher: Watcher | None) -> None:
    """Leave a forked process alone, whatever goes wrong."""
    if watcher is not None:
        with suppress(Exception):
            watcher.forked()


def functions_of_steps(*, compiled: bool) -> dict[Callable[..., Any], str]:
    """Return the functions of torch that steps call, with their phases.

    Losses only where nothing was compiled: compiled code would be compiled anew with them.
    """
    found: dict[Callable[..., Any], str] = {
        clip_grad.clip_grad_norm_: CLIP,
        clip_grad.clip_grad_value_: CLIP,
        torch.save: CHECKPOINT,
    }
    if not compiled:
        found |= {getattr(functional, name): "loss" for name in LOSSES}
    return found


def places_of(functions: dict[Callable[..., Any], str]) -> Iterator[Place]:
    """Yield the modules and names by which some functions are called, with their phases; and classes' own."""
    phases = {id(function): phase for function, phase in functions.items()}
    homes = {"torch", "torch.nn.functional", "torch.nn.utils", "torch.nn.utils.clip_grad"}
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType) and (not name.startswith("torch.") or name in homes):
            for key, value in list(vars(module).items()):
                if id(value) in phases:
                    yield module, key, phases[id(value)]
    for method in ("step", "update"):
        yield torch.amp.GradScaler, method, "optimizer"
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        for method in ("to", "cuda"):
            yield torch.Tensor, method, COPY
