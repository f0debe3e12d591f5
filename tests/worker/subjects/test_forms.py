"""What the words do to a step: the same numbers as the plain one, in another form."""

from dataclasses import replace

import pytest
import torch
from made_up_runs import CPU_CASE
from torch import nn

from nncore.model import SimpleNN
from nncore.step import TrainStep
from nncore_bench.cases import Case
from nncore_bench.worker.blocks import IncorrectError
from nncore_bench.worker.counters.count import count_case
from nncore_bench.worker.subjects.apply_variant import formed_model
from nncore_bench.worker.subjects.factory import FactorySubject
from nncore_bench.worker.subjects.numerical_error import TOLERANCES, compared
from nncore_bench.worker.subjects.subject import Subject

SMALL = replace(CPU_CASE, batch_size=4, hidden=8)
EXACT = ("foreach", "set-to-none=false", "workers-2", "resident", "inference-mode", "default-allocator")
FORWARD_FLOP = 2 * 4 * (784 * 8 + 8 * 10)


def subject(variant: str, precision: str = "float32") -> Subject:
    return Subject(replace(SMALL, variant=variant, precision=precision))


@pytest.mark.parametrize("variant", [*EXACT, "fused"])
def test_a_variant_computes_what_the_plain_step_does(variant: str) -> None:
    """Loss, gradients and parameters after three steps: to the bit, or to what fusing rounds otherwise."""
    checks = subject(variant).check()
    errors = [checks[name] for name in ("loss_error", "gradient_error", "parameter_error")]
    assert max(errors) <= (0.0 if variant in EXACT else 1e-6)
    assert checks["tolerance"] == TOLERANCES["float32"]


def test_bfloat16_is_off_by_what_eight_bits_leave_and_no_more() -> None:
    """A unit in the last place is 2^-8; the gradients of the plain step are the reference."""
    checks = subject("eager", "bfloat16").check()
    assert 1e-5 < checks["gradient_error"] < checks["tolerance"] == TOLERANCES["bfloat16"]


def test_a_wrong_variant_is_seen_by_its_numbers() -> None:
    """A step whose loss is doubled: all of the gradient is off, and half of it too much."""
    torch.manual_seed(0)
    plain, wrong = (TrainStep(SimpleNN(6, 5, 3)) for _ in range(2))
    criterion = nn.CrossEntropyLoss()
    wrong.criterion = lambda logits, targets: 2 * criterion(logits, targets)  # type: ignore[assignment]
    batches = [(torch.randn(8, 6), torch.randint(3, (8,)))]
    found = compared(wrong, plain, batches, batches, "float32")
    assert found["gradient_error"] == pytest.approx(1.0)
    assert found["loss_error"] == pytest.approx(1.0, rel=0.05)
    for one, other in zip(wrong.model.parameters(), plain.model.parameters(), strict=True):
        assert one.shape == other.shape


def test_a_variant_starts_where_the_plain_step_does() -> None:
    """After the check the state of both is that of one step from the same parameters."""
    plain, fused = Subject(SMALL), subject("fused")
    for one in (plain, fused):
        one.check()
    for expected, found in zip(plain.state(), fused.state(), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("variant", ["eager", "foreach", "fused", "set-to-none=false"])
def test_the_flop_of_every_variant_is_the_closed_form(variant: str) -> None:
    """Forward 2 N (784 h + 10 h); backward the same, and once more the second layer's."""
    made = subject(variant)
    made.check()
    made.save()
    phases = count_case(made).phases
    assert phases["forward"].flop == FORWARD_FLOP
    assert phases["backward"].flop == FORWARD_FLOP + 2 * 4 * 8 * 10


def test_kept_gradients_are_zero_and_there_after_zero_grad() -> None:
    """Where the plain step drops them."""
    for variant, kept in (("eager", False), ("set-to-none=false", True)):
        step = subject(variant).step
        parameters = list(step.model.parameters())
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        step.zero_grad()
        assert [p.grad is not None and not p.grad.any() for p in parameters] == [kept] * len(parameters)


def test_channels_last_is_for_images_alone() -> None:
    """Their strides change, and nothing else does; a network of vectors refuses."""
    convolution = nn.Conv2d(3, 4, 3)
    formed_model(convolution, ("channels-last",))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(IncorrectError, match="no weights of four dimensions"):
        subject("channels-last")


def test_a_factory_with_two_inputs_trains_feeds_and_infers(
    tmp_path: "object", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its batches are cut to size, and every kind of block runs on them."""
    from pathlib import Path  # noqa: PLC0415

    folder = Path(str(tmp_path))
    monkeypatch.chdir(folder)
    (folder / "two.py").write_text(
        "import torch\nclass Two:\n model = torch.nn.Bilinear(4, 5, 1)\n"
        " batch = (torch.ones(3, 4), torch.ones(3, 5)), torch.zeros(3, 1)\n loss = torch.nn.MSELoss()\n"
    )
    made = FactorySubject(Case("two:Two", "-", "cpu", 1, "float32", "eager", 7, "-"))
    assert made.check()["moved"] == 1.0
    other = FactorySubject(made.case)  # of the same imported class, whose network is one
    shared = {id(p) for p in made.step.model.parameters()} & {id(p) for p in other.step.model.parameters()}
    assert not shared
    assert [len(tensor) for tensor in made.batches[0][0]] == [7, 7]
    assert made.assumed == ("optimizer: Adam, lr 0.001",)
    for kind in made.kinds:
        marks: list[int] = []
        with made.mode(kind):
            made.iteration(kind)(0, lambda marks=marks: marks.append(1))
        assert marks
