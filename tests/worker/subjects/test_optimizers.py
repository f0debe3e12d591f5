"""An optimizer in another form: the same steps, settings and start, or one sentence that says why not."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from made_up_optimizers import SETTINGS, executed, in_two_groups, network, settings, trained
from torch import nn
from torch.optim import LBFGS, SGD, Adafactor, Adagrad, Adam, AdamW, Muon, Optimizer, SparseAdam

from nncore.step import TrainStep
from nncore_bench.worker.blocks import IncorrectError
from nncore_bench.worker.subjects.load import Made
from nncore_bench.worker.subjects.numerical_error import compared
from nncore_bench.worker.subjects.optimizers import carry_over, formed_optimizer, optimizer_code

FUSED = {Adam, AdamW, SGD, Adagrad}
FOREACH = SETTINGS.keys() - {Muon}
WITHOUT_CAPTURABLE = {SGD, Adagrad, Adafactor, Muon}
COUNTS_ON_THE_HOST = {Adagrad, Adafactor}


@pytest.mark.parametrize("word", ["foreach", "fused"])
@pytest.mark.parametrize("kind", SETTINGS)
def test_every_optimizer_takes_the_same_steps_in_another_form_or_says_that_it_has_none(
    kind: type[Optimizer], word: str
) -> None:
    """Rebuilt, and made by the line of code: two groups with settings of their own, from the same start."""
    models = [network() for _ in range(3)]
    plain, rebuilt, written = (in_two_groups(kind, model) for model in models)
    if kind not in {"fused": FUSED, "foreach": FOREACH}[word]:
        with pytest.raises(IncorrectError, match=f"^{word}: {kind.__name__} has no such option$"):
            formed_optimizer(rebuilt, (word,))
        return
    expected = trained(models[0], plain)
    line = optimizer_code(written, (word,), models[2])
    assert line.startswith(f"optimizer = torch.optim.{kind.__name__}(")
    for model, made in (
        (models[1], formed_optimizer(rebuilt, (word,))),
        (models[2], executed(line, models[2], written)),
    ):
        assert made is not rebuilt
        assert type(made) is kind
        assert settings(made, word) == settings(plain, word)
        assert [group[word] for group in made.param_groups] == [True, True]
        torch.testing.assert_close(trained(model, made), expected)


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_graph_asks_for_capturable_where_there_is_such_an_option(kind: type[Optimizer]) -> None:
    """Built here, though torch steps it on a GPU alone; without it, what counts on the host is refused."""
    model = network()
    plain = in_two_groups(kind, model)
    if kind in COUNTS_ON_THE_HOST:
        with pytest.raises(IncorrectError, match=f"^cudagraph: {kind.__name__} keeps step on the host"):
            formed_optimizer(plain, ("cudagraph",))
        return
    made, line = formed_optimizer(plain, ("cudagraph",)), optimizer_code(plain, ("cudagraph",), model)
    if kind in WITHOUT_CAPTURABLE:
        assert (made, line) == (plain, "")
        return
    for one in (made, executed(line, model, plain)):
        assert [group["capturable"] for group in one.param_groups] == [True, True]
        assert settings(one, "capturable") == settings(plain, "capturable")


@pytest.mark.parametrize(
    ("made", "word", "sentence"),
    [
        (SparseAdam, "foreach", "foreach: SparseAdam has no such option"),
        (SparseAdam, "fused", "fused: SparseAdam has no such option"),
        (SparseAdam, "cudagraph", "failed: SparseAdam does not support dense gradients"),
        (LBFGS, "fused", "fused: LBFGS has no such option"),
        (LBFGS, "cudagraph", "required positional argument: 'closure'"),
        (
            lambda p: Adam(p, differentiable=True),
            "fused",
            "fused: Adam cannot be rebuilt: `fused` does not",
        ),
        (
            lambda p: Adam(p, lr=torch.tensor(0.1)),
            "foreach",
            "foreach: Adam cannot be rebuilt: lr as a Tensor",
        ),
    ],
)
def test_what_an_optimizer_cannot_do_is_one_sentence(made: Any, word: str, sentence: str) -> None:  # noqa: ANN401
    """That names the word, the optimizer and the reason, in torch's words where it is torch's."""
    with pytest.raises(IncorrectError) as refusal:
        formed_optimizer(made(network().parameters()), (word,))
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_of_two_options_that_exclude_each_other_one_is_turned_off() -> None:
    """In the defaults and in every group, rebuilt and as written."""
    model = network()
    foreach = in_two_groups(AdamW, model, foreach=True)
    line = optimizer_code(foreach, ("fused",), model)
    for made in (formed_optimizer(foreach, ("fused",)), executed(line, model, foreach)):
        assert [(group["fused"], group["foreach"]) for group in made.param_groups] == [(True, False)] * 2
        trained(model, made)


def test_a_graph_of_a_fused_step_keeps_its_count_on_the_device() -> None:
    """So that what refuses the plain Adagrad does not refuse the fused one; SGD has no count at all."""
    for kind in (SGD, Adagrad):
        model = network()
        made = formed_optimizer(in_two_groups(kind, model), ("fused", "cudagraph"))
        assert made.param_groups[0]["fused"] is True


class Counting(Optimizer):
    """An optimizer that counts its steps in its group."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:  # noqa: ANN401
        super().__init__(params, {"lr": lr, "steps": 0})

    def step(self, closure: Any = None) -> None:  # type: ignore[override] # noqa: ANN401, ARG002
        for group in self.param_groups:
            group["steps"] += 1


def test_a_count_in_a_group_is_on_the_host_as_well() -> None:
    """Which is where some optimizers outside of torch have it."""
    with pytest.raises(IncorrectError, match="Counting keeps steps on the host"):
        formed_optimizer(Counting(network().parameters()), ("cudagraph",))


class Scaled(Adam):
    """A user's own: an argument of its own, kept as an attribute, and the rest handed on."""

    def __init__(self, params: Any, scale: float, **others: Any) -> None:  # noqa: ANN401
        super().__init__(params, **others)
        self.scale = scale

    def step(self, closure: Any = None) -> Any:  # noqa: ANN401
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad *= self.scale
        return super().step(closure)


class Forgetful(Adam):
    """A user's own that keeps nothing of what its constructor wants."""

    def __init__(self, params: Any, kind: str, **others: Any) -> None:  # noqa: ANN401, ARG002
        super().__init__(params, **others)


class Wrapping(Optimizer):
    """An optimizer around another one, whose constructor takes that in the place of parameters."""

    def __init__(self, inner: Optimizer, fused: bool | None = None) -> None:  # noqa: FBT001
        super().__init__(inner.param_groups, {**inner.defaults, "fused": fused})
        self.inner = inner


def test_an_optimizer_of_the_users_own_is_built_again_with_its_own_arguments() -> None:
    """Among what it takes is what it hands on; the line names it as the type of what is in scope."""
    models = [network() for _ in range(3)]
    plain, rebuilt, written = (Scaled(model.parameters(), 3.0, lr=0.1, eps=0.5) for model in models)
    line = optimizer_code(written, ("fused",), models[2])
    assert line == "optimizer = type(optimizer)(model.parameters(), scale=3.0, lr=0.1, eps=0.5, fused=True)"
    expected = trained(models[0], plain)
    for model, made in (
        (models[1], formed_optimizer(rebuilt, ("fused",))),
        (models[2], executed(line, models[2], written)),
    ):
        assert made.param_groups[0]["fused"] is True
        torch.testing.assert_close(trained(model, made), expected)


def test_an_optimizer_that_cannot_be_built_again_says_why() -> None:
    """What its constructor wants and nobody knows, and what it raises when given groups."""
    model = network()
    with pytest.raises(IncorrectError, match="its constructor needs kind, which it does not keep"):
        formed_optimizer(Forgetful(model.parameters(), "fast"), ("fused",))
    with pytest.raises(IncorrectError, match="fused: Wrapping cannot be rebuilt: "):
        formed_optimizer(Wrapping(SGD(model.parameters())), ("fused",))


def test_state_that_was_there_before_goes_along() -> None:
    """Of a checkpoint: the steps after it are those of the optimizer that took the steps before."""
    models = [network() for _ in range(2)]
    plain, other = (in_two_groups(AdamW, model) for model in models)
    for model, optimizer in zip(models, (plain, other), strict=True):
        trained(model, optimizer, steps=3)
    formed = formed_optimizer(other, ("foreach",))
    torch.testing.assert_close(trained(models[1], formed), trained(models[0], plain))
    assert [float(kept["step"]) for kept in other.state.values()] == [3.0, 3.0]


def test_a_start_value_goes_where_the_parameters_went() -> None:
    """Adagrad makes its sum with itself, before the network moves; its count stays where torch has it."""
    layer = nn.Linear(2, 2, bias=False, device="meta")
    optimizer = Adagrad(layer.parameters())
    optimizer.state[layer.weight]["sum"] = torch.zeros(2, 2)
    assert formed_optimizer(optimizer, ()) is optimizer
    kept = optimizer.state[layer.weight]
    assert (kept["sum"].device.type, kept["step"].device.type) == ("meta", "cpu")


def test_hooks_go_along() -> None:
    """One that halves every gradient before a step halves it in the other form."""
    models = [network() for _ in range(2)]
    made = [SGD(model.parameters(), lr=0.1) for model in models]
    for optimizer in made:
        optimizer.register_step_pre_hook(halve)
    torch.testing.assert_close(
        trained(models[1], formed_optimizer(made[1], ("foreach",))), trained(models[0], made[0])
    )


def halve(optimizer: Optimizer, *_: object) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad /= 2


def test_a_copy_keeps_hooks_and_attributes_but_no_schedulers_step() -> None:
    """`Optimizer.__getstate__` leaves all three out; what they hold is copied with the network."""
    model = network()
    optimizer: Any = Scaled(model.parameters(), 3.0)
    optimizer.register_step_pre_hook(halve)
    optimizer.head = model[1].weight
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    made = Made(model=model, inputs=torch.empty(0), loss=nn.MSELoss(), optimizer=optimizer)
    memo: dict[int, Any] = {}
    copied = deepcopy(made, memo)
    carry_over(optimizer, copied.optimizer, memo)
    again: Any = copied.optimizer
    assert (again.scale, again.head is copied.model[1].weight) == (3.0, True)  # type: ignore[index]
    assert list(again._optimizer_step_pre_hooks.values()) == [halve]
    before = [parameter.detach().clone() for parameter in model.parameters()]
    moved = trained(copied.model, again)
    torch.testing.assert_close(list(model.parameters()), before)
    assert not torch.equal(moved[0], before[0])


@pytest.mark.parametrize("kind", sorted(FOREACH, key=str))
def test_a_comparison_begins_and_ends_where_the_optimizer_does(kind: type[Optimizer]) -> None:
    """Adagrad's sum at its start value, NAdam's product at 1, momentum absent: not all of it zero."""
    torch.manual_seed(2)
    batches = [(torch.randn(8, 3), torch.randint(2, (8,))) for _ in range(3)]
    models = [network() for _ in range(2)]
    plain, variant = (in_two_groups(kind, model) for model in models)
    fresh = [deepcopy(plain.state.get(parameter, {})) for parameter in models[0].parameters()]
    step = TrainStep(models[1], nn.CrossEntropyLoss(), formed_optimizer(variant, ("foreach",)))
    step(*batches[0])  # as the check of a case does before it compares
    found = compared(step, TrainStep(models[0], nn.CrossEntropyLoss(), plain), batches, batches, "float32")
    assert max(found.values()) < 1e-5
    left = [step.torch_optimizer.state.get(parameter, {}) for parameter in models[1].parameters()]
    torch.testing.assert_close(left, fresh)
    torch.testing.assert_close(list(models[1].parameters()), list(network().parameters()))


def test_gradients_that_an_optimizer_changes_in_place_are_compared_as_they_were() -> None:
    """SGD with nesterov in lists of tensors adds momentum to them: the same step, and no other numbers."""
    torch.manual_seed(2)
    batches = [(torch.randn(8, 3), torch.randint(2, (8,))) for _ in range(3)]
    models = [network() for _ in range(2)]
    plain, variant = (SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True) for model in models)
    step = TrainStep(models[1], nn.CrossEntropyLoss(), formed_optimizer(variant, ("foreach",)))
    found = compared(step, TrainStep(models[0], nn.CrossEntropyLoss(), plain), batches, batches, "float32")
    assert max(found.values()) < 1e-5
