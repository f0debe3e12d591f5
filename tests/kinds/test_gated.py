"""Every kind of training step in a launch pair of the gate, with workers in this process."""

import random
from math import isfinite
from pathlib import Path

import pytest
from test_kinds import MEASURED, case_of
from test_own_steps import FILE
from test_own_steps import MEASURED as OWN

from nncore_bench.cases import Case
from nncore_bench.gate.pairs import Pairing
from nncore_bench.worker import messages
from nncore_bench.worker.server import Worker

CASES = [
    *(case_of(kind) for kind, _ in MEASURED),
    *(Case(f"{FILE}:{kind}", "-", "cpu", 1, "float32", "eager", 8, "-") for kind in OWN),
]


class Here:
    """A worker that answers in this process."""

    def __init__(self, *_: object) -> None:
        self.worker = Worker()

    def ask(self, request: messages.Request) -> messages.Reply:
        return self.worker.answer(request)

    def close(self) -> None:
        self.worker.subjects.clear()


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.by_name.subject)
def test_a_kind_has_a_place_in_the_gate(case: Case) -> None:
    """Both sides are measured by the same parts, each with a finite ratio; the step is among them."""
    pairing = Pairing([case], Here, [0], random.Random(0), samples=2)  # type: ignore[arg-type] # noqa: S311 - coins
    (ratios,) = pairing.measure((Path(), Path()), [0]).values()
    assert {*ratios.low} == {"step", *pairing.parts[0]}
    assert all(map(isfinite, (*ratios.low.values(), *ratios.mean.values())))
    expected = OWN.get(case.subject.rpartition(":")[2]) if str(FILE) in case.subject else None
    if expected is not None:
        assert pairing.parts[0] == (*expected.split(), "other")
