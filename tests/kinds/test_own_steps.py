"""Training steps of people's own: each is measured, counted and profiled by its phases, or refused."""

import re
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
import torch

from nncore_bench.cases import Case
from nncore_bench.worker.blocks import run_block
from nncore_bench.worker.catalog import workload_of
from nncore_bench.worker.clock import HostClock
from nncore_bench.worker.counters.count import count_case
from nncore_bench.worker.profile.profile import profile_case
from nncore_bench.worker.server import compilations, in_one_sentence
from nncore_bench.worker.subjects.own_step import OwnStep

FILE = Path(__file__).parent / "own_steps.py"
USUAL = "zero_grad forward loss backward optimizer"

MEASURED = {
    "Plain": USUAL,
    "FromALoader": USUAL,
    "ReturnsNothing": USUAL,
    "ReturnsANumber": USUAL,
    "AsInLightning": "zero_grad forward backward optimizer",
    "Accumulating": f"{USUAL} clip",
    "AccumulatingByNumber": USUAL,
    "Gan": "zero_grad forward backward optimizer discriminator generator",
    "Lbfgs": USUAL,
    "ClosureInStep": USUAL,
    "GradientPenalty": f"{USUAL} penalty",
    "SharpnessAware": f"{USUAL} ascend descend",
    "WithAnAverage": f"{USUAL} average",
    "CopiesItselfAtFirst": f"{USUAL} teacher",
    "WithoutAnOptimizer": "zero_grad forward backward update",
    "Functional": "forward backward optimizer gradients",
    "Reinforced": "zero_grad forward backward optimizer act",
    "CarriesItsState": "zero_grad forward backward optimizer",
    "WithNumpysNoise": f"{USUAL} augment",
    "Checkpointed": USUAL,
    "WithALossOfItsOwn": USUAL,
    "OnADataclass": USUAL,
    "OnRaggedLists": USUAL,
    "FiveCritics": "zero_grad forward backward optimizer discriminator generator",
    "LogsEachFourth": f"{USUAL} log",
    "WithASchedule": USUAL,
    "Decorated": f"{USUAL} augment",
    "RecoversFromAnError": f"{USUAL} attempt",
    "Lazy": USUAL,
}
"""The parts of each step, without `other`."""

SAID = {
    "Accumulating": "a step is 4 calls of training_step: parameters move in one of 4",
    "AccumulatingByNumber": "a step is 3 calls of training_step: parameters move in one of 3",
    "WithASchedule": "parameters move in call 2 first",
    "HoldsAnIterator": "not put back between blocks: HoldsAnIterator.stream (a generator)",
}

REFUSED = {
    "NothingMoves": "no parameter moved in 16 calls of its training_step",
    "NoBatches": "has a training_step and no batches",
    "NothingToTrain": "no trainable parameters that its object refers to",
    "NanInTheThirdBatch": "the loss of call 3 of its training_step is nan",
    "AReservedName": "ValueError at own_steps.py:",
    "RaisesInItsStep": "RuntimeError at own_steps.py:",
    "TakesALoaderThatIsNone": "its loader is list",
}
HELPERS = {"HalfLoss", "Pair", "HoldsAnIterator"}


def own(kind: str, size: int = 8, variant: str = "eager", precision: str = "float32") -> OwnStep:
    case = Case(f"{FILE}:{kind}", "-", "cpu", 1, precision, variant, size, "-")
    subject = workload_of(case)
    assert isinstance(subject, OwnStep)
    return subject


def ready(kind: str, size: int = 8) -> OwnStep:
    subject = own(kind, size)
    subject.check()
    subject.save()
    return subject


def everything(subject: OwnStep) -> list[Any]:
    """Return what a block starts from: parameters, buffers, state of optimizers, gradients."""
    gradients = [p.grad for one in subject.roots for p in one.parameters()]
    return [None if one is None else one.detach().clone() for one in (*subject.state(), *gradients)]


def same(before: list[Any], after: list[Any]) -> bool:
    return len(before) == len(after) and all(
        old is new if old is None or new is None else torch.equal(old, new)
        for old, new in zip(before, after, strict=True)
    )


def test_the_table_has_every_kind() -> None:
    """A class that nobody lists would be tried by nobody."""
    found = {
        name
        for name, value in run_path(str(FILE)).items()
        if getattr(value, "__module__", "") == "<run_path>"
    }
    found -= {"network", "classes", "AsInLightning"} | HELPERS
    assert found == (MEASURED.keys() | REFUSED.keys()) - {"AsInLightning"}


@pytest.mark.parametrize(("kind", "parts"), MEASURED.items())
def test_a_step_is_measured_counted_and_profiled(kind: str, parts: str, tmp_path: Path) -> None:
    """Its laps add up, blocks start from one state bit for bit, and so do equal blocks end in one."""
    for size in (8, 12):
        subject = ready(kind, size)
        start, ends = everything(subject), []
        for block in (*subject.kinds, *subject.kinds):
            laps = subject.laps if block == "laps" else None
            found = run_block(subject, HostClock(), block, 5, laps)
            assert (found.each_ns > 0).all()
            if block == "laps":
                assert found.laps == (*parts.split(), "other", "unattributed")
            if block != "feed":
                ends.append(everything(subject))
        assert all(same(ends[0], end) for end in ends)
        subject.restore()
        assert same(start, everything(subject))
    counters = count_case(subject)
    assert {*counters.phases} == {*parts.split(), "other", "step"}
    assert counters.phases["step"].operators
    assert counters.parameters == sum(p.numel() for one in subject.models for p in one.parameters())
    profile = profile_case(subject, subject.case, 3, tmp_path / "trace.json", fed=True)
    assert {operator.phase for operator in profile.operators} >= {*parts.split()[:3]} - {"log", "generator"}


@pytest.mark.parametrize("kind", MEASURED)
def test_a_launch_that_checks_nothing_begins_from_the_same_state_with_the_same_parts(kind: str) -> None:
    """Bit for bit, as the launch that has checked the results for all."""
    checked, begun = ready(kind), own(kind)
    begun.begin()
    begun.save()
    assert same(everything(checked), everything(begun))
    assert (checked.parts, checked.calls) == (begun.parts, begun.calls)


@pytest.mark.parametrize(("kind", "sentence"), SAID.items())
def test_what_is_unusual_is_said(kind: str, sentence: str) -> None:
    """So that nobody takes the figure for something else."""
    subject = ready(kind)
    assert sentence in subject.assumed


@pytest.mark.parametrize(("kind", "sentence"), REFUSED.items())
def test_a_step_that_means_nothing_is_refused_with_its_reason(kind: str, sentence: str) -> None:
    """In one sentence."""
    with pytest.raises((RuntimeError, ValueError)) as refusal:
        own(kind).check()
    said = in_one_sentence(refusal.value)
    assert sentence in said
    assert "\n" not in said


@pytest.mark.parametrize("kind", ["Plain", "Gan", "GradientPenalty", "CarriesItsState", "WithoutAnOptimizer"])
def test_other_precisions_compute_nearly_the_same(kind: str) -> None:
    """Autocast around the whole step, within the tolerance of bfloat16."""
    checks = own(kind, precision="bfloat16").check()
    assert 0 < checks["parameter_error"] < checks["tolerance"]


@pytest.mark.parametrize("variant", ["fused", "foreach", "set-to-none=false", "inference-mode"])
def test_a_variant_that_would_rebuild_the_step_is_refused(variant: str) -> None:
    """By its name."""
    with pytest.raises(RuntimeError, match=f"{variant} would change the subject's own training_step"):
        own("Plain", variant=variant)


def test_a_hundred_blocks_start_from_one_state_to_the_last_bit() -> None:
    """Of a step with noise, a scaler, a schedule and gradients that are summed over calls."""
    subject = ready("Accumulating")
    start = everything(subject)
    ends = []
    for number in range(100):
        kind = ("plain", "laps", "feed")[number % 3]
        run_block(subject, HostClock(), kind, 2, subject.laps if kind == "laps" else None)
        if kind != "feed":
            ends.append(everything(subject))
        subject.restore()
        assert same(start, everything(subject))
    assert all(same(ends[0], end) for end in ends)


def test_the_phases_of_a_step_are_in_their_place() -> None:
    """By a clock that moves in one optimizer alone, 2 µs a step: no other lap takes any time."""
    subject, now = ready("Gan"), [0]

    def spend(*_: object) -> None:
        now[0] += 2_000

    subject.loop.optimizers["g"].register_step_pre_hook(spend)
    block = run_block(subject, HostClock(lambda: now[0]), "laps", 5, subject.laps)
    assert {part: block.column(part).tolist() for part in block.laps} == {
        part: [2_000 if part == "optimizer" else 0] * 5 for part in block.laps
    }


def test_the_own_step_of_the_readme_is_measured(tmp_path: Path) -> None:
    """As it stands there."""
    text = (FILE.parents[2] / "README.md").read_text()
    (block,) = [one for one in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "class Loop" in one]
    (tmp_path / "loop.py").write_text(block)
    case = Case(f"{tmp_path / 'loop.py'}:Loop", "-", "cpu", 1, "float32", "eager", 8, "-")
    subject = workload_of(case)
    subject.check()
    assert isinstance(subject, OwnStep)
    assert subject.parts == ("zero_grad", "forward", "backward", "optimizer", "other")
    (tmp_path / "loop.py").write_text(
        block.replace("import torch\n", "import torch\nfrom nncore_bench import phase\n", 1).replace(
            "        torch.nn.utils.clip", "        with phase('clip'):\n            torch.nn.utils.clip"
        )
    )
    named = workload_of(case)
    named.check()
    assert isinstance(named, OwnStep)
    assert named.parts == ("zero_grad", "forward", "backward", "optimizer", "clip", "other")


def test_a_loader_of_its_own_is_not_replaced() -> None:
    """Processes that fetch batches are its own affair; for an example batch they are ours."""
    with pytest.raises(RuntimeError, match="workers-2: its loader is its own"):
        own("FromALoader", variant="workers-2")
    assert own("Plain", variant="workers-2").form.fetchers == 2


def test_the_memory_format_of_a_step_without_images_is_refused() -> None:
    """Rather than found to change nothing."""
    with pytest.raises(RuntimeError, match="no weights of four dimensions"):
        own("Gan", variant="channels-last")


def test_a_compiled_step_computes_the_same_and_keeps_its_phases() -> None:
    """The networks are compiled in place, losses are not."""
    subject = own("Plain", variant="compile")
    checks = subject.check()
    assert max(checks[name] for name in ("loss_error", "gradient_error", "parameter_error")) < 1e-4
    assert checks["first_step_s"] > 0
    subject.save()
    before = compilations()
    block = run_block(subject, HostClock(), "laps", 5, subject.laps)
    assert block.laps == (*USUAL.split(), "other", "unattributed")
    assert compilations() == before
