"""The reference network shares no code with what is measured."""

import pytest
from torch import Tensor

from nncore.model import SimpleNN
from nncore.step import TrainStep
from nncore_bench.cases import DOES_NOT_APPLY, STEP_PHASES, Case
from nncore_bench.companions import REFERENCE_NETWORK, SMALLEST, SMALLEST_NETWORK, companions_of
from nncore_bench.worker.catalog import workload_of
from nncore_bench.worker.counters.count import count_case
from nncore_bench.worker.references.reference_network import ReferenceNetwork
from nncore_bench.worker.subjects.subject import Subject

CASE = Case(REFERENCE_NETWORK, DOES_NOT_APPLY, "cpu", 1, "float32", "eager", 1, SMALLEST)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break everything of nncore that a subject of the user's would run."""

    def refuse(*_arguments: object) -> Tensor:
        raise AssertionError("the reference network runs the code that is measured")

    for name in ("__init__", "zero_grad", "forward", "loss", "backward", "optimizer", "__call__"):
        monkeypatch.setattr(TrainStep, name, refuse)
    monkeypatch.setattr(SimpleNN, "__init__", refuse)
    monkeypatch.setattr("nncore.data.load_dataset", refuse)
    monkeypatch.setattr("nncore_bench.worker.subjects.subject.evaluating", refuse)


@pytest.mark.usefixtures("broken")
def test_a_change_of_the_code_that_is_measured_does_not_reach_the_reference() -> None:
    """It would slow down both alike, and pass for drift: a network twice as wide came out 6 % slower."""
    network = workload_of(CASE)
    assert isinstance(network, ReferenceNetwork)
    assert network.check()["moved"] == 1.0
    network.save()
    for kind in network.kinds:
        with network.mode(kind):
            network.iteration(kind)(0, lambda: None)
    assert network.step.model.training


def test_it_does_what_the_network_that_is_measured_does() -> None:
    """The same operators in the same order, and the same FLOP: what they share is the work."""
    network = ReferenceNetwork(CASE)
    network.check()
    network.save()
    subject = Subject(Case("simplenn", "digits", "cpu", 1, "float32", "eager", 1, SMALLEST))
    subject.check()
    subject.save()
    own, others = count_case(network), count_case(subject)
    assert own.phases["step"].flop == others.phases["step"].flop
    for phase in STEP_PHASES:
        assert [(o.operator, o.shapes, o.calls) for o in own.inventory if o.phase == phase] == [
            (o.operator, o.shapes, o.calls) for o in others.inventory if o.phase == phase
        ]


def test_it_is_what_is_measured_beside_the_cases() -> None:
    """Whatever the subject of the cases is."""
    case = Case("simplenn", "digits", "cpu", 1, "float32", "eager", 32, 128)
    beside = {record.role: record.case for record in companions_of([case], [])}
    assert beside[SMALLEST_NETWORK] == CASE
