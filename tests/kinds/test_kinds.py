"""Kinds of training steps as people have them: each is measured, counted and profiled, or refused."""

from pathlib import Path
from runpy import run_path
from types import FunctionType

import pytest
import torch

from nncore_bench.cases import Case
from nncore_bench.records import CaseCounters
from nncore_bench.worker.blocks import run_block
from nncore_bench.worker.catalog import workload_of
from nncore_bench.worker.clock import HostClock
from nncore_bench.worker.counters.count import count_case
from nncore_bench.worker.profile.profile import profile_case
from nncore_bench.worker.subjects.factory import FactorySubject

HERE = Path(__file__).parent
BOTH = "foreach fused"
FOREACH = "foreach"
SKIPS = "skips"
"""Some steps reach only some parameters, so that gradients of 0 instead of none move the others."""

MEASURED = [
    *(
        (f"networks:{name}", BOTH)
        for name in (
            "bare", "tied_weights", "lazy", "batch_norm", "lstm", "spectral", "transformer", "shared_mask",
            "counts_its_calls", "checkpointed", "frozen_half", "frozen_in_eval",
            "unused_branch", "with_module_hooks", "with_gradient_hooks", "scripted", "traced",
            "in_double_precision", "returns_the_same_network", "own_autograd_function",
        )
    ),
    ("networks:with_complex_numbers", FOREACH),
    ("networks:stochastic_depth", f"{BOTH} {SKIPS}"),
    *(
        (f"batches:{name}", BOTH)
        for name in (
            "two_inputs", "keywords", "a_mapping_as_one_argument", "an_ordered_mapping", "a_named_tuple",
            "a_dataclass_without_targets", "nested", "flags_beside_tensors", "targets_in_a_tuple",
            "no_targets_and_a_loss_of_outputs", "the_loss_is_the_output", "a_mapping_with_the_loss",
            "a_mapping_of_losses", "logits_and_loss", "inputs_with_gradients", "time_first",
            "a_loader_of_ragged_lists", "a_loader_of_packed_sequences", "a_loader_of_graphs", "one_sample",
            "strided_inputs", "integers_as_inputs",
        )
    ),
    ("optimizers:adagrad", BOTH),
    ("optimizers:rmsprop", FOREACH),
    ("optimizers:nesterov", BOTH),
    ("optimizers:amsgrad", BOTH),
    ("optimizers:rprop", FOREACH),
    ("optimizers:averaged", FOREACH),
    ("optimizers:lion", ""),
    ("optimizers:lookahead", ""),
    ("optimizers:accumulating", ""),
    ("optimizers:clipped", BOTH),
    ("optimizers:a_tensor_as_rate", "fused"),
    ("optimizers:a_group_of_rate_zero", BOTH),
    ("optimizers:with_optimizer_hooks", BOTH),
    ("optimizers:a_loss_with_parameters", BOTH),
    ("optimizers:a_loss_that_penalises_the_network", BOTH),
    ("optimizers:a_loss_with_a_teacher", BOTH),
    ("optimizers:a_weighted_loss", BOTH),
]  # fmt: skip

REFUSED = [
    (
        "refused:lazy_without_a_batch",
        "its first layer is LazyLinear, which does not tell the shape of a batch",
    ),
    ("refused:nan_in_the_third_batch", "the loss of batch 3 of 8 is nan"),
    ("refused:one_output_with_cross_entropy", "cross-entropy of a single output"),
    ("refused:one_output_of_a_bare_network", "its model returns one output, whose cross-entropy is always 0"),
    ("refused:detached_outputs", "backward does not reach it"),
    ("refused:a_loss_without_reduction", "the loss of the first step has the shape [8]"),
    ("refused:a_loss_that_is_a_number", "the loss of the first step is float"),
    ("refused:parameters_of_another_network", "its optimizer holds no parameter of its model"),
    ("refused:a_wrong_width", "mat1 and mat2 shapes cannot be multiplied"),
    ("refused:a_list_of_images", "its batch holds a list of 8 samples"),
    ("refused:two_optimizers", "it has 2 optimizers, and this step takes one"),
    ("refused:a_batch_of_three", "its batch is a tuple of 3"),
    ("refused:an_empty_loader", "its loader(8) yields no batch"),
    ("refused:raises_in_its_forward", "out of bounds for dimension 1 with size 3 at refused.py:"),
    ("refused:leaves_the_process", "it ended its process with exit code 3 at refused.py:"),
    ("refused:downloads", "give weights_backbone=None"),
]


def case_of(kind: str, batch_size: int = 8, variant: str = "eager") -> Case:
    module, _, factory = kind.partition(":")
    return Case(f"{HERE / module}.py:{factory}", "-", "cpu", 1, "float32", variant, batch_size, "-")


def test_the_table_has_every_kind() -> None:
    """A factory that nobody lists would be tried by nobody; helpers take arguments or begin a class."""
    listed = {kind for kind, *_ in (*MEASURED, *REFUSED)}
    for name in ("networks", "batches", "optimizers", "refused"):
        for one, value in run_path(str(HERE / f"{name}.py")).items():
            if isinstance(value, FunctionType) and value.__annotations__.keys() == {"return"}:
                assert f"{name}:{one}" in listed | {"optimizers:network"}


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", [kind for kind, *_ in MEASURED])
def test_a_kind_is_measured_counted_and_profiled(kind: str, tmp_path: Path) -> None:
    """At the batch size of its example and at another one; blocks start from one state, bit for bit."""
    for size in (8, 12):
        subject = workload_of(case_of(kind, size))
        assert isinstance(subject, FactorySubject)
        subject.check()
        subject.save()
        before = [tensor.detach().clone() for tensor in subject.state()]
        for block in subject.kinds:
            laps = run_block(subject, HostClock(), block, 4).host
            assert laps.shape[0] == 5
            assert (laps > 0).all()
        subject.restore()
        assert all(torch.equal(old, new) for old, new in zip(before, subject.state(), strict=True))
    counters = count_case(subject)
    assert isinstance(counters, CaseCounters)
    assert counters.phases["step"].operators
    assert counters.phases["backward"].autograd_nodes
    profile = profile_case(subject, subject.case, 3, tmp_path / "trace.json", fed=True)
    assert {operator.phase for operator in profile.operators} >= {"forward", "backward"}


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", [kind for kind, *_ in MEASURED])
def test_a_launch_that_checks_nothing_begins_from_the_same_state(kind: str) -> None:
    """Bit for bit, as the launch that has checked the results for all, and it runs every kind of block."""
    states = []
    for first in ("check", "begin"):
        subject = workload_of(case_of(kind))
        assert isinstance(subject, FactorySubject)
        getattr(subject, first)()
        subject.save()
        states.append([tensor.detach().clone() for tensor in subject.state()])
        for block in subject.kinds:
            assert len(run_block(subject, HostClock(), block, 2).host) == 3
    assert len(states[0]) == len(states[1])
    assert all(torch.equal(one, other) for one, other in zip(*states, strict=True))


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(("kind", "expected"), MEASURED)
def test_a_variant_of_a_kind_computes_the_same(kind: str, expected: str) -> None:
    """Foreach and fused change no numbers beyond rounding, from whatever state and noise the step has."""
    for variant in ("foreach", "fused", "set-to-none=false"):
        case = case_of(kind, 8, variant)
        if variant == "set-to-none=false" and SKIPS in expected:
            continue
        if variant in ("foreach", "fused") and variant not in expected:
            with pytest.raises(RuntimeError, match=f"{variant}[:=]"):
                workload_of(case).check()
            continue
        checks = workload_of(case).check()
        errors = [checks[name] for name in ("loss_error", "gradient_error", "parameter_error")]
        assert max(errors) < 1e-4, (variant, errors)


@pytest.mark.parametrize(("kind", "sentence"), REFUSED)
def test_a_step_that_means_nothing_is_refused_with_its_reason(kind: str, sentence: str) -> None:
    """In one sentence that names the cause, not a symptom of it."""
    with pytest.raises(RuntimeError) as refusal:
        workload_of(case_of(kind)).check()
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)
