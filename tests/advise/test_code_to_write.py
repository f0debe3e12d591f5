"""The code that advice prints: every line runs, and makes the user's own optimizer in another form."""

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_optimizers import executed, network, settings, trained
from torch.optim import SGD, Adagrad, Adam, AdamW

from nncore_bench.advise.text import advice_sentences, advice_tables
from nncore_bench.cases import Case
from nncore_bench.estimate.gains import gains
from nncore_bench.records import CaseRecord
from nncore_bench.runs import Block
from nncore_bench.variants import EAGER, PRECISIONS, WORDS, code_of, misfit
from nncore_bench.worker import messages
from nncore_bench.worker.server import Worker
from nncore_bench.worker.subjects.load import make
from nncore_bench.worker.subjects.optimizers import formed_optimizer, optimizer_code

NETWORK = """
from types import SimpleNamespace
import torch
from torch import nn


def make():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": weights, "weight_decay": 0.05}, {"params": others, "lr": 1e-3, "weight_decay": 0.0}]
    return SimpleNamespace(
        model=model,
        batch=(torch.randn(32, 3, 4, 4), torch.randint(5, (32,))),
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW(groups, lr=3e-4, betas=(0.9, 0.95)),
    )
"""
"""As people train transformers: AdamW, and no weight decay for biases and norms."""


ON_CPU = [
    *((word, "float32") for word in WORDS if not misfit(word, "float32", "cpu")),
    *((EAGER, precision) for precision in PRECISIONS if not misfit(EAGER, precision, "cpu")),
]
ON_CUDA = [
    *((word, "float32") for word in WORDS if WORDS[word].needs_cuda),
    *((EAGER, precision) for precision in PRECISIONS),
]


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    """Give the case of such a network, and put back what lines set for the whole process."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trained.py").write_text(NETWORK)
    threads, products = torch.get_num_threads(), torch.get_float32_matmul_precision()
    yield Case("./trained.py:make", "-", "cpu", 1, "float32", EAGER, 8, "-")
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(products)


def prepared(case: Case) -> messages.Reply:
    return Worker().answer(messages.Prepare(0, case, warm_up=False))


def code_for(case: Case) -> str:
    reply = prepared(case)
    assert isinstance(reply, messages.Prepared)
    return reply.optimizer_code


def scope_of(subject: str, device: str) -> dict[str, Any]:
    """Return what the lines may name, as they stand in the script of a user."""
    made = make(subject)
    return {
        "torch": torch,
        "model": made.model.to(device),
        "optimizer": made.optimizer,
        "criterion": made.loss,
        "inputs": made.inputs.to(device),
        "targets": made.targets.to(device),
        "dataset": torch.utils.data.TensorDataset(made.inputs, made.targets),
        "batch_size": 8,
        "device": device,
    }


def lines_run(lines: list[str], scope: dict[str, Any]) -> None:
    """Run each line, and then a step with what they left in scope; nothing is compiled for that."""
    for line in lines:
        exec(line, scope)  # noqa: S102 - the code under test
    if "compile" not in "".join(lines):
        loss = scope["criterion"](scope["model"](scope["inputs"]), scope["targets"])
        loss.backward()
        scope["optimizer"].step()
        assert loss.isfinite()


@pytest.mark.parametrize(("variant", "precision"), ON_CPU)
def test_every_line_runs_where_the_network_and_its_optimizer_are_known(
    case: Case, variant: str, precision: str
) -> None:
    """As a worker says it, and as it is said of a run that was stored without the optimizer's own line."""
    changed = replace(case, variant=variant, precision=precision)
    own = code_for(changed) if WORDS.get(variant) and WORDS[variant].kind == "optimizer" else ""
    for optimizer in dict.fromkeys(("", own)):
        lines_run(code_of(variant, precision, 2, optimizer), scope_of(case.subject, "cpu"))
        assert torch.get_num_threads() == 2


@pytest.mark.cuda
@pytest.mark.parametrize(("variant", "precision"), ON_CUDA)
def test_every_line_for_cuda_runs_there(case: Case, variant: str, precision: str) -> None:
    """A step is captured after three on a side stream."""
    scope = scope_of(case.subject, "cuda")
    if variant == "cudagraph":
        exec(optimizer_code(scope["optimizer"], (variant,), scope["model"]), scope)  # noqa: S102
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                lines_run([], scope)
        torch.cuda.synchronize()
    lines_run(code_of(variant, precision, "-"), scope)


def test_every_line_is_one_of_python() -> None:
    """Those for a GPU as well."""
    for variant in WORDS:
        for precision in PRECISIONS:
            for line in code_of(variant, precision, 1):
                ast.parse(line)


@pytest.mark.parametrize("word", ["foreach", "fused"])
def test_advice_names_the_users_own_optimizer_and_its_line_makes_it(case: Case, word: str) -> None:
    """From the worker through the record to what is printed: AdamW with both groups, in the other form."""
    base, changed = CaseRecord(case, ("step",)), replace(case, variant=word)
    better = CaseRecord(changed, ("step",), correct={"tolerance": 1.0}, optimizer_code=code_for(changed))
    laps = [np.full((5, 1), ns, np.int64) for ns in (2000, 1000)]
    blocks = [Block("plain", laps[n], None, 0, case=n, round=2 * i + n) for i in range(4) for n in (0, 1)]
    blocks = [replace(block, round=block.round // 2, host=block.host + block.round) for block in blocks]
    (found,) = gains([base, better], blocks, case)
    (sentence,) = advice_sentences(case, [found])
    _, _, printed = sentence.partition("Write:\n")
    (cell,) = advice_tables({case: [found]})[0].shown["code, or why not"]
    for line in (printed.strip(), cell):
        assert line.startswith("optimizer = torch.optim.AdamW(")
        plain, other = make(case.subject), make(case.subject)
        made = executed(line, other.model, other.optimizer)
        assert [group[word] for group in made.param_groups] == [True, True]
        assert settings(made, word) == settings(plain.optimizer, word)
        assert [group["lr"] for group in made.param_groups] == [3e-4, 1e-3]
        torch.testing.assert_close(trained(other.model, made), trained(plain.model, plain.optimizer))


@pytest.mark.parametrize("word", ["foreach", "fused"])
def test_the_variants_of_two_groups_of_adamw_are_the_step(case: Case, word: str) -> None:
    """Their numbers are those of the plain step, so that they are ranked."""
    reply = prepared(replace(case, variant=word))
    assert isinstance(reply, messages.Prepared)
    assert max(reply.correct[f"{name}_error"] for name in ("loss", "gradient", "parameter")) < 1e-5


def test_an_optimizer_without_a_form_is_a_row_with_the_reason(case: Case) -> None:
    """As the worker refuses it, so the table says it."""
    Path("trained.py").write_text(
        NETWORK.replace("AdamW(groups, lr=3e-4, betas=(0.9, 0.95))", "RMSprop(groups)")
    )
    fused = replace(case, subject="trained:make", variant="fused")
    reply = prepared(fused)
    assert reply == messages.Refused("fused: RMSprop has no such option")
    plain = replace(case, subject=fused.subject)
    base = CaseRecord(plain, ("step",))
    failed = CaseRecord(fused, ("step",), status="failed", reason="fused: RMSprop has no such option")
    (table,) = advice_tables({plain: gains([base, failed], [], plain)})
    assert table.shown[["verdict", "code, or why not"]].to_numpy().tolist() == [
        ["cannot run", "fused: RMSprop has no such option"]
    ]


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (lambda p: Adam(p, lr=0.001), "torch.optim.Adam(model.parameters(), lr=0.001, fused=True)"),
        (Adam, "torch.optim.Adam(model.parameters(), lr=0.001, fused=True)"),
        (
            lambda p: Adagrad(p, lr=0.15, initial_accumulator_value=0.1, foreach=True),
            "torch.optim.Adagrad(model.parameters(), lr=0.15, initial_accumulator_value=0.1, fused=True)",
        ),
        (
            lambda p: AdamW(p, lr=torch.tensor(0.25), eps=0.5),
            "torch.optim.AdamW(model.parameters(), lr=optimizer.defaults['lr'], eps=0.5, fused=True)",
        ),
        (
            lambda p: SGD(list(p)[:1], lr=0.5),
            (
                'torch.optim.SGD([{**group, "fused": True} for group in optimizer.param_groups], lr=0.5,'
                " fused=True)"
            ),
        ),
    ],
)
def test_the_line_is_what_a_person_would_write(made: Any, line: str) -> None:  # noqa: ANN401
    """The arguments that are not the default ones, and groups only where the parameters alone do not tell."""
    model = network()
    optimizer = made(model.parameters())
    assert optimizer_code(optimizer, ("fused",), model) == f"optimizer = {line}"
    again = executed(optimizer_code(optimizer, ("fused",), model), model, optimizer)
    assert settings(again, "fused", "foreach") == settings(optimizer, "fused", "foreach")
    assert again.param_groups[0]["fused"] is True


def test_parameters_that_are_frozen_or_named_or_scheduled_are_written_as_they_are() -> None:
    """Those that train; and groups as they stand where a name or a learning rate is their own."""
    model = network()
    model[0].requires_grad_(requires_grad=False)
    training = [parameter for parameter in model.parameters() if parameter.requires_grad]
    line = optimizer_code(SGD(training, lr=0.5), ("fused",), model)
    assert "SGD([p for p in model.parameters() if p.requires_grad], lr=0.5" in line
    named = SGD(model.named_parameters(), lr=0.5)
    torch.optim.lr_scheduler.LambdaLR(named, lambda epoch: epoch / 10)
    for made in (
        executed(optimizer_code(named, ("fused",), model), model, named),
        formed_optimizer(named, ("fused",)),
    ):
        assert settings(made, "fused") == settings(named, "fused")
        assert made.param_groups[0]["param_names"] == ["0.weight", "1.weight"]
        assert (made.param_groups[0]["lr"], made.param_groups[0]["initial_lr"]) == (0.0, 0.5)
