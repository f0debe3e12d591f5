"""Precisions: float32 is float32 everywhere, TF32 is TF32, and float16 trains on a scaled loss."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_up_runs import CPU_CASE
from torch import Tensor, nn

from nncore.model import SimpleNN
from nncore_bench.cases import Case
from nncore_bench.variants import code_of
from nncore_bench.worker.blocks import IncorrectError, run_block
from nncore_bench.worker.clock import HostClock
from nncore_bench.worker.counters.count import count_case
from nncore_bench.worker.subjects import factory
from nncore_bench.worker.subjects.apply_variant import (
    ON_CPU,
    ON_CUDA,
    ScaledStep,
    formed_model,
    formed_step,
    plain_tf32,
    precision_set,
)
from nncore_bench.worker.subjects.factory import FactorySubject
from nncore_bench.worker.subjects.load import completed
from nncore_bench.worker.subjects.numerical_error import TOLERANCES
from nncore_bench.worker.subjects.subject import Subject

HALF = replace(CPU_CASE, batch_size=4, hidden=8, precision="float16")
RESNET = Case("torchvision:resnet18", "-", "cpu", 1, "float32", "eager", 1, "-")
FORWARD_FLOP = 2 * 4 * (784 * 8 + 8 * 10)


def precisions() -> list[str]:
    return [backend.fp32_precision for backend in (*ON_CUDA, *ON_CPU)]


@pytest.fixture(autouse=True)
def _as_found() -> Iterator[None]:
    """Leave torch's settings as they are in a new process, as far as they can be read."""
    before = precisions()
    yield
    torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    for backend, value in zip((*ON_CUDA, *ON_CPU), before, strict=True):
        backend.fp32_precision = value


@pytest.mark.parametrize(("precision", "setting"), [("float32", "ieee"), ("tf32", "tf32")])
def test_the_convolutions_of_a_resnet_compute_in_the_precision_of_their_case(
    precision: str, setting: str
) -> None:
    """As products do, for which torch by itself has another; TF32 is CUDA's alone."""
    subject = FactorySubject(replace(RESNET, precision=precision))
    seen: list[list[str]] = []
    first = next(layer for layer in subject.step.model.modules() if isinstance(layer, nn.Conv2d))
    first.register_forward_hook(lambda *_: seen.append(precisions()))
    before = precisions()
    with subject.mode("plain"):
        subject.iteration("plain")(0, lambda: None)
    assert seen == [[setting] * 3 + ["ieee"] * 3]
    assert precisions() == before
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"


def newer() -> None:
    torch.backends.fp32_precision = "tf32"


def newer_by_backend() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.cudnn.conv.fp32_precision = "ieee"


def older() -> None:
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = False


def older_by_backend() -> None:
    torch.backends.cuda.matmul.allow_tf32 = True


@pytest.mark.parametrize("factory", [newer, newer_by_backend, older, older_by_backend])
@pytest.mark.parametrize(("precision", "products"), [("float32", "highest"), ("tf32", "high")])
def test_a_factory_may_set_the_precision_in_any_way(
    factory: Callable[[], None], precision: str, products: str
) -> None:
    """Within a case nothing of it is left, and the compiler can read it either way; then all is back."""
    factory()
    before = precisions()
    with precision_set(precision):
        assert precisions() == ["tf32" if precision == "tf32" else "ieee"] * 3 + ["ieee"] * 3
        assert torch.get_float32_matmul_precision() == products
        assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")
    assert precisions() == before


def test_the_older_settings_are_put_back_as_well() -> None:
    """They are two more, which the newer ones do not tell apart."""
    older()
    with precision_set("tf32"):
        pass
    assert torch.get_float32_matmul_precision() == "medium"
    assert not torch.backends.cudnn.allow_tf32


def test_what_follows_a_setting_for_all_follows_it_afterwards_too() -> None:
    """What a case sets and puts back is no setting of the user's own."""
    newer()
    with precision_set("float32"):
        pass
    torch.backends.fp32_precision = "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"


def test_a_case_whose_factory_sets_the_newer_precision_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch advises; reading it the older way is an error by then."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(
        "import torch\ndef make():\n torch.backends.fp32_precision = 'tf32'\n return torch.nn.Linear(5, 3)\n"
    )
    subject = FactorySubject(Case("./net.py:make", "-", "cpu", 1, "float32", "eager", 4, "-"))
    assert subject.check()["moved"] == 1.0
    assert run_block(subject, HostClock(), "plain", 4).host.shape == (5, 1)


def test_a_plain_script_has_tf32_in_convolutions_and_recurrent_layers_alone() -> None:
    """Until it asks for it in products, which every network has."""
    dense, images, words = nn.Linear(2, 2), nn.Sequential(nn.Conv2d(3, 4, 3)), nn.LSTM(4, 5)
    assert [plain_tf32(model) for model in (dense, images, words)] == [False, True, True]
    torch.backends.cudnn.allow_tf32 = False
    assert [plain_tf32(model) for model in (dense, images, words)] == [False, False, False]
    torch.set_float32_matmul_precision("high")
    assert plain_tf32(dense)


@pytest.mark.parametrize(("precision", "told"), [("float32", 1.0), ("tf32", None)])
def test_a_float32_case_on_cuda_says_that_a_plain_script_is_not_float32(
    precision: str, told: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only there does TF32 exist; the check of a case on the CPU says nothing."""
    subject = Subject(replace(CPU_CASE, batch_size=4, hidden=8, precision=precision))
    assert "plain_tf32" not in subject.check()
    subject.step.model.add_module("unused", nn.Conv2d(1, 1, 1))
    subject.device = torch.device("cuda")
    subject.least_trained = 0.0
    monkeypatch.setattr(subject, "_compared", dict)
    assert subject.check().get("plain_tf32") == told


@pytest.mark.parametrize("variant", ["eager", "fused"])
def test_float16_is_off_by_what_eleven_bits_leave_and_no_more(variant: str) -> None:
    """An eighth of what bfloat16 is off by; the gradients are compared without their scale."""
    checks = Subject(replace(HALF, variant=variant)).check()
    coarser = Subject(replace(HALF, precision="bfloat16")).check()
    assert 1e-6 < checks["gradient_error"] < checks["tolerance"] == TOLERANCES["float16"]
    assert checks["gradient_error"] < coarser["gradient_error"] / 2
    assert checks["loss_error"] < checks["tolerance"]  # and so is the loss
    assert checks["moved"] == 1.0


def overflowing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: str) -> FactorySubject:
    """Return a case whose loss is multiplied, so that its gradients overflow at the scale to begin with."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "large.py").write_text(
        "import torch\nclass Large:\n def __init__(self):\n  self.model = torch.nn.Linear(4, 1)\n"
        "  self.batch = torch.ones(3, 4), torch.zeros(3, 1)\n"
        f"  self.loss = lambda outputs, targets: outputs.float().sum() * {times}\n"
    )
    return FactorySubject(Case("./large.py:Large", "-", "cpu", 1, "float16", "eager", 3, "-"))


def test_a_scale_that_is_too_large_for_the_first_step_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its steps move nothing, so the check waits until it has come down, as training would."""
    subject = overflowing(tmp_path, monkeypatch, "1000")
    assert subject.check()["moved"] == 1.0
    assert isinstance(subject.step, ScaledStep)
    assert subject.step.scaler.get_scale() * 1000 < torch.finfo(torch.float16).max


def test_gradients_that_overflow_at_any_scale_are_said_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would leave out every step."""
    with pytest.raises(
        IncorrectError, match=r"gradients overflow even where the loss is scaled by .*bfloat16"
    ):
        overflowing(tmp_path, monkeypatch, "float('inf')").check()


def test_blocks_in_float16_start_from_the_same_scale() -> None:
    """It, and the steps since it changed, are state as any, and both kinds of block train alike."""
    subject = Subject(HALF)
    subject.check()
    subject.save()
    before = [tensor.clone() for tensor in subject.state()[-2:]]
    after = []
    for kind in ("plain", "laps"):
        run_block(subject, HostClock(), kind, 5)  # type: ignore[arg-type] # two of the kinds
        after.append([tensor.detach().clone() for tensor in subject.state()])
    assert all(torch.equal(one, other) for one, other in zip(*after, strict=True))
    assert after[0][-1] == before[1] + 6
    subject.restore()
    assert [tensor.item() for tensor in subject.state()[-2:]] == [tensor.item() for tensor in before]


def test_float16_does_the_flop_of_every_other_precision() -> None:
    """The closed form; scaling is no product."""
    subject = Subject(HALF)
    subject.check()
    subject.save()
    phases = count_case(subject).phases
    assert phases["forward"].flop == FORWARD_FLOP
    assert phases["backward"].flop == FORWARD_FLOP + 2 * 4 * 8 * 10


def test_the_code_to_write_for_float16_trains() -> None:
    """As it stands, with a step's names in scope."""
    model = SimpleNN(6, 5, 3)
    before = model.fc1.weight.detach().clone()
    scope = {
        "torch": torch,
        "device": "cpu",
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "criterion": nn.CrossEntropyLoss(),
        "inputs": torch.randn(8, 6),
        "targets": torch.randint(3, (8,)),
    }
    exec("\n".join(code_of("eager", "float16", 1)), scope)  # noqa: S102 - our own lines
    assert not torch.equal(model.fc1.weight, before)


class Weighted(nn.CrossEntropyLoss):
    """A loss with a tensor of its own, which says where it was moved."""

    places: tuple[object, ...] = ()

    def to(self, *places: object) -> "Weighted":  # type: ignore[override]
        self.places = places
        return self


class Weighing:
    """A factory whose loss is a module."""

    def __init__(self) -> None:
        self.model = nn.Linear(5, 3)
        self.loss = Weighted(weight=torch.ones(3))


def test_a_loss_that_is_a_module_moves_with_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights are needed where the outputs are."""
    monkeypatch.setattr(factory, "make", lambda name: completed(name, Weighing()))
    subject = FactorySubject(Case("weighing", "-", "cpu", 1, "float32", "eager", 4, "-"))
    assert isinstance(subject.step.criterion, Weighted)
    assert subject.step.criterion.places == (torch.device("cpu"),)


@pytest.mark.parametrize(("word", "mode"), [("compile", "default"), ("reduce-overhead", "reduce-overhead")])
def test_each_word_of_the_compiler_has_a_mode(word: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch.compile names them."""
    asked: list[str] = []
    monkeypatch.setattr(torch, "compile", lambda model, mode, **_: asked.append(mode) or model)
    formed_model(nn.Linear(2, 2), (word,))
    assert asked == [mode]


def test_a_block_of_compiled_graphs_begins_a_new_step_outside_of_the_timed_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once a block; a forward without a backward must not keep later graphs from being replayed."""
    begun: list[int] = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: begun.append(1))
    subject = Subject(replace(HALF, precision="float32"))
    for device, words, times in (
        ("cuda", ("reduce-overhead",), 1),
        ("cuda", ("compile",), 1),
        ("cpu", ("compile-max",), 1),
    ):
        subject.device, subject.words = torch.device(device), words
        with subject.mode("plain"):
            assert len(begun) == times


def test_half_precision_is_formed_by_one_mechanism() -> None:
    """bfloat16 needs no scale, and float32 neither casts nor scales."""
    model = SimpleNN(6, 5, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch: Tensor = torch.randn(2, 6)
    outputs = {}
    for precision in ("float32", "bfloat16", "float16"):
        step = formed_step(model, nn.CrossEntropyLoss(), optimizer, (), precision, batch)
        outputs[precision] = step.forward(batch).dtype
        assert isinstance(step, ScaledStep) == (precision == "float16")
    assert outputs == {name: getattr(torch, name) for name in outputs}


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("variant", "precision"),
    [
        ("cudagraph", "float32"),
        ("cudagraph", "tf32"),
        ("fused+cudagraph", "float16"),
        ("eager", "float16"),
        ("reduce-overhead", "float32"),
    ],
)
def test_each_form_agrees_with_the_plain_step_on_a_device(variant: str, precision: str) -> None:
    """Within the tolerance of its precision, after a real capture."""
    case = replace(HALF, device="cuda", threads="-", batch_size=32, variant=variant, precision=precision)
    checks = Subject(case).check()
    errors = [checks[name] for name in ("loss_error", "gradient_error", "parameter_error")]
    assert max(errors) <= checks["tolerance"]
    assert checks["moved"] == 1.0


@pytest.mark.cuda
def test_a_convolution_in_float32_is_off_by_what_float32_leaves_on_a_device() -> None:
    """TF32 is off by some 3e-4."""
    images, weights = torch.randn(8, 64, 32, 32, device="cuda"), torch.randn(64, 64, 3, 3, device="cuda")
    exact = nn.functional.conv2d(images.double(), weights.double())
    with precision_set("float32"):
        found = nn.functional.conv2d(images, weights)
    assert (found - exact).abs().max() / exact.abs().max() < 1e-5
