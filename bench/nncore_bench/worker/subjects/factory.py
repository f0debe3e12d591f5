"""The user's network as a subject: what a factory returns, on its example batch or its own loader."""

import random
import time
import weakref
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nncore_bench.cases import Case
from nncore_bench.records import VARIES
from nncore_bench.worker.blocks import SubjectError, least_iterations
from nncore_bench.worker.counters.operators import work_by_position
from nncore_bench.worker.subjects.batches import Structure, leaves, loader_of, moved, split
from nncore_bench.worker.subjects.complete import Fed, Loop, Made
from nncore_bench.worker.subjects.first_step import check_loss
from nncore_bench.worker.subjects.load import make
from nncore_bench.worker.subjects.optimizers import carry_over
from nncore_bench.worker.subjects.state import reached
from nncore_bench.worker.subjects.subject import SEED, Batches, Subject

LONG_STEP_S = 0.2
"""Of steps at least this long, in seconds, only as many batches are kept as the shortest block runs."""

MOST_BATCHES, MOST_BYTES = 8, 64 * 2**20
"""Limits on the batches made by repeating the example batch: their number, and their bytes in all."""


class FactorySubject(Subject):
    """The user's or torchvision's network, on its example batch cut or repeated to the batch size."""

    _split = staticmethod(split)
    least_trained = 0.0  # some parts may be reached by other inputs only

    def __init__(self, case: Case, made: Made | None = None) -> None:
        self._made_before = made
        super().__init__(case)

    def check(self) -> dict[str, float]:
        """Check the first step, then whether the steps of a block vary; as `Subject.check`."""
        return super().check() | self._varying()

    def begin(self) -> dict[str, float]:
        """Run the first step, then every batch that will be timed and one inference; as `Subject.begin`."""
        found = super().begin()
        self.save()
        with self.mode("plain"):
            self._check_every_batch()
        if "inference" in self.kinds:
            self._check_inference()
        self.restore()
        return found

    def _varying(self) -> dict[str, float]:
        """Note whether the steps of a block differ in their work; a compiled one's do as the plain one's."""
        if self.form.compiled:
            return {}
        with self.mode("plain"):
            found = work_by_position(self)
        if len({*found}) == 1:
            return {}
        operators, moved = ([one[at] for one in found] for at in (0, 1))
        what = f"{min(operators):,} to {max(operators):,} operators"
        if min(operators) == max(operators):
            what = f"{min(moved):,} to {max(moved):,} bytes moved"
        self.assumed += (f"its steps vary ({what}): times are of the average step of a block",)
        return {VARIES: 1.0}

    def _check_every_batch(self) -> None:
        """Run a step on each batch; of a step that takes long only as many are kept as a block has."""
        for number, batch in enumerate(self.batches[1:], start=2):
            begin = time.perf_counter()
            check_loss(self._run(*batch), f"of batch {number} of {len(self.batches)}")
            seconds = time.perf_counter() - begin
            if seconds > LONG_STEP_S and number > least_iterations(seconds):
                del self.batches[number:]
                return

    def _check_inference(self) -> None:
        """Run inference once, with gradients where the network differentiates within its forward."""
        try:
            self.infer(0, _in_one)
        except RuntimeError:
            self._infers_with_gradients = True
            self.infer(0, _in_one)
            self.assumed += (
                "inference runs with gradients, since the network differentiates in its forward",
            )

    def _made(self) -> Made:
        made, self._made_before = self._made_before or made_by_factory(self.case), None
        if isinstance(made, Loop):
            raise SubjectError("its factory returns an object with a training_step at some calls only")
        torch.manual_seed(SEED)  # its loader draws the same batches, whenever it was made
        return own_network(made)

    def _batches(self, made: Fed) -> Batches:
        size = self.case.batch_size
        if made.samples is None:
            return self._loaded(made, size)
        batch = made.inputs, made.targets
        sample_bytes = sum(leaf.nbytes for leaf in leaves(made.inputs)) // made.samples.number
        count = max(1, min(MOST_BATCHES, MOST_BYTES // max(1, size * sample_bytes)))
        parts = [made.samples.taken(batch, size, start) for start in range(0, count * size, size)]
        return [moved(part, self.device) for part in parts]

    def _loaded(self, made: Fed, size: int) -> Batches:
        batches = [
            self._split(batch) for batch, _ in zip(_endless(made, size), range(MOST_BATCHES), strict=False)
        ]
        return [moved(batch, self.device) for batch in batches]

    def _loader(self, made: Fed) -> Iterator[tuple[Structure, Any]]:
        if made.samples is None:
            if self.form.fetchers or self.form.pinned:
                raise SubjectError(
                    f"{self.case.variant}: its loader is its own (give its DataLoader num_workers or"
                    " pin_memory, and compare the two versions)"
                )
            return map(self._split, _endless(made, self.case.batch_size))
        return loader_of(
            (made.inputs, made.targets),
            made.samples,
            self.case.batch_size,
            seed=SEED,
            num_workers=self.form.fetchers,
            pin_memory=self.form.pinned,
        )


def made_by_factory(case: Case) -> Made | Loop:
    """Call the factory of a case with the generators of Python and numpy seeded; raises SubjectError."""
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002 - the user's code draws from the global one
    return make(case.subject)


def _endless(made: Fed, size: int) -> Iterator[Any]:
    """Yield the batches of the subject's own loader, beginning again at its end."""
    assert made.loader  # noqa: S101 - without samples there is one
    while True:
        count = 0
        for batch in made.loader(size):
            count += 1
            yield batch
        if not count:
            raise SubjectError(f"its loader({size}) yields no batch (give one that yields at least one)")


_given: dict[int, weakref.ref[Tensor]] = {}
"""The parameters of networks that factories returned in this process, by their ids."""


def own_network(made: Made) -> Made:
    """Return what the factory made, or a copy if it returned the parameters of an earlier call again.

    Raises SubjectError if a copy would part the network from its loss, its hooks or its optimizer.
    """
    parameters = list(made.model.parameters())
    if not any(_is_given(parameter) for parameter in parameters):
        _given.update({id(parameter): weakref.ref(parameter) for parameter in parameters})
        return made
    memo: dict[int, Any] = {}
    copied = deepcopy(made, memo)
    carry_over(made.optimizer, copied.optimizer, memo)
    former = {id(parameter) for parameter in parameters}
    held = {id(one) for group in copied.optimizer.param_groups for one in group["params"]}
    refers = any(
        id(parameter) in former
        for one in reached((copied.model, copied.loss, copied.optimizer))
        if isinstance(one, nn.Module)
        for parameter in one.parameters()
    )
    if refers or not held & {id(parameter) for parameter in copied.model.parameters()}:
        raise SubjectError(
            "its factory returns the same network at every call, and its loss, a hook or its optimizer refers"
            " to that very network, so that a copy would not be trained (build the network in the factory)"
        )
    return copied


def _is_given(parameter: Tensor) -> bool:
    earlier = _given.get(id(parameter))
    return earlier is not None and earlier() is parameter


def _in_one(_phase: str) -> None:
    """Tell no phases apart."""
