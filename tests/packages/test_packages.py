"""Real packages as clients: their networks are measured, counted and profiled as they stand."""

from pathlib import Path

import pytest
import torch

from nncore_bench.cases import Case
from nncore_bench.worker.blocks import SubjectError, run_block
from nncore_bench.worker.catalog import workload_of
from nncore_bench.worker.clock import HostClock
from nncore_bench.worker.counters.count import count_case
from nncore_bench.worker.profile.profile import profile_case
from nncore_bench.worker.server import compilations
from nncore_bench.worker.subjects.factory import FactorySubject
from nncore_bench.worker.subjects.load import make
from nncore_bench.worker.subjects.own_step import OwnStep

SUBJECTS = Path(__file__).parent / "subjects.py"

PACKAGES = [
    ("transformers", "bert", '["loss"] of the network\'s outputs'),
    ("transformers", "gpt2", '["loss"] of the network\'s outputs'),
    ("transformers", "gpt2_of_a_tokenizer", '["loss"] of the network\'s outputs'),
    ("torchvision", "faster_rcnn", "the sum of the network's outputs"),
    ("torchvision", "segmentation", ""),
    ("torchvision", "vision_transformer", "cross-entropy over the outputs"),
    ("timm", "of_timm", "cross-entropy over the outputs"),
]

OWN_STEPS = [
    ("accelerate", "WithAccelerate", "zero_grad forward backward optimizer clip"),
    ("lightning", "OfLightning", "zero_grad forward backward optimizer"),
    ("torchvision", "Detecting", "zero_grad forward backward optimizer"),
    ("timm", "AveragedByTimm", "zero_grad forward loss backward optimizer average"),
    ("torch", "Compiled", "zero_grad forward backward optimizer"),
    ("torch", "CompiledAsAWhole", "zero_grad backward optimizer"),
]

pytestmark = [pytest.mark.packages, pytest.mark.machine, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize(("package", "factory", "loss"), PACKAGES)
def test_a_network_of_a_package_is_measured_counted_and_profiled(
    package: str, factory: str, loss: str, tmp_path: Path
) -> None:
    """Where the loss comes from is said, and gradients reach every phase."""
    pytest.importorskip(package)
    case = Case(f"{SUBJECTS}:{factory}", "-", "cpu", 1, "float32", "eager", 2, "-")
    subject = workload_of(case)
    assert isinstance(subject, FactorySubject)
    checks = subject.check()
    assert checks["moved"] > 0.5
    assert loss in " ".join(subject.assumed)
    subject.save()
    for kind in subject.kinds:
        assert run_block(subject, HostClock(), kind, 2).host.shape[0] == 3
    counters = count_case(subject)
    assert counters.phases["forward"].autograd_nodes
    assert counters.phases["backward"].operators
    profile = profile_case(subject, case, 2, tmp_path / "trace.json", fed=True)
    assert {operator.phase for operator in profile.operators} >= {"forward", "backward", "optimizer"}


@pytest.mark.parametrize(
    ("package", "factory"), [("transformers", "downloaded_bert"), ("timm", "downloaded_resnet")]
)
def test_a_network_that_would_be_downloaded_is_refused_at_once(
    package: str, factory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the cache empty; the hub by itself tries again for 20 to 50 s where there is no network."""
    pytest.importorskip(package)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # an earlier test may have read it
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SubjectError, match=r"tried to download: .* at subjects\.py:.*pretrained=False"):
        make(f"{SUBJECTS}:{factory}")


@pytest.mark.parametrize("variant", ["fused", "foreach"])
def test_dropout_of_a_transformer_does_not_make_a_variant_other_numbers(variant: str) -> None:
    """BERT drops a tenth everywhere, in modules and in attention."""
    pytest.importorskip("transformers")
    case = Case(f"{SUBJECTS}:bert", "-", "cpu", 1, "float32", variant, 2, "-")
    checks = workload_of(case).check()
    assert max(checks[name] for name in ("loss_error", "gradient_error", "parameter_error")) < 1e-4


@pytest.mark.parametrize(("package", "factory", "parts"), OWN_STEPS)
def test_a_step_written_with_a_package_is_measured_counted_and_profiled(
    package: str, factory: str, parts: str, tmp_path: Path
) -> None:
    """By the phases that its calls show; nothing is compiled again by watching it."""
    pytest.importorskip(package)
    case = Case(f"{SUBJECTS.with_name('own_steps.py')}:{factory}", "-", "cpu", 1, "float32", "eager", 2, "-")
    subject = workload_of(case)
    assert isinstance(subject, OwnStep)
    assert subject.check()["moved"] > 0.5
    subject.save()
    state = [tensor.detach().clone() for tensor in subject.state()]
    before = compilations()
    for kind in (*subject.kinds, *subject.kinds):
        block = run_block(subject, HostClock(), kind, 2, subject.laps if kind == "laps" else None)
        assert (block.each_ns > 0).all()
        if kind == "laps":
            assert block.laps == (*parts.split(), "other", "unattributed")
    assert compilations() == before
    subject.restore()
    assert all(torch.equal(old, new) for old, new in zip(state, subject.state(), strict=True))
    counters = count_case(subject)
    assert counters.phases["backward"].operators
    profile = profile_case(subject, case, 2, tmp_path / "trace.json", fed=True)
    assert {operator.phase for operator in profile.operators} >= {"backward", "optimizer"}
