"""Evaluation against a computation by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from nncore import Evaluation, evaluate, predict

CPU = torch.device("cpu")

# Logits are the inputs; a row (a, b) has the cross-entropy log(1 + exp(other - right)).
INPUTS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 4.0], [5.0, 0.0]])
TARGETS = torch.tensor([0, 0, 0, 1, 1])  # right, wrong, right, right, wrong
DIFFERENCES = [-2.0, 1.0, -3.0, -4.0, 5.0]  # other - right


class Failing(nn.Module):
    """Raise in forward."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Refuse."""
        raise RuntimeError(f"no {len(inputs)}")


class Watcher(nn.Module):
    """Return the inputs and note the mode and whether gradients are recorded."""

    seen: tuple[bool, bool] | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """Note and pass on."""
        self.seen = (self.training, torch.is_grad_enabled())
        return inputs


def test_accuracy_and_loss_are_the_sums_by_hand() -> None:
    """Every sample weighs the same, also where the last batch is smaller."""
    batches = [(INPUTS[:2], TARGETS[:2]), (INPUTS[2:4], TARGETS[2:4]), (INPUTS[4:], TARGETS[4:])]
    result = evaluate(nn.Identity(), batches, CPU)
    by_hand = sum(math.log1p(math.exp(d)) for d in DIFFERENCES) / 5
    assert isinstance(result, Evaluation)
    assert result.accuracy == 3 / 5
    assert result.mean_loss == pytest.approx(by_hand, rel=1e-6)


def test_predict_gives_the_largest_logit() -> None:
    """It is an index per row."""
    assert predict(nn.Identity(), INPUTS).tolist() == [0, 1, 0, 1, 0]


def test_evaluation_runs_in_eval_mode_without_gradients() -> None:
    """Dropout and batch norm would answer otherwise."""
    model = Watcher()
    predict(model, INPUTS)
    assert model.seen == (False, False)
    evaluate(model, [(INPUTS, TARGETS)], CPU)
    assert model.seen == (False, False)


def mixed(inner: nn.Module) -> nn.Module:
    """Return a model in train mode of which one part is frozen in eval mode."""
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2), inner)
    model.train()
    model[1].eval()
    return model


def test_mode_of_every_part_comes_back() -> None:
    """A part frozen in eval mode stays so, and the rest trains on."""
    for use in (lambda m: predict(m, INPUTS), lambda m: evaluate(m, [(INPUTS, TARGETS)], CPU)):
        model = mixed(nn.Identity())
        use(model)
        assert [m.training for m in model.modules()] == [True, True, False, True]
    assert torch.is_grad_enabled()


def test_mode_comes_back_after_an_exception() -> None:
    """From the model as from the loader."""
    model = mixed(Failing())
    with pytest.raises(RuntimeError, match="no 5"):
        evaluate(model, [(INPUTS, TARGETS)], CPU)
    assert [m.training for m in model.modules()] == [True, True, False, True]
    with pytest.raises(ValueError, match="loader"):
        evaluate(model, [], CPU)
    assert [m.training for m in model.modules()] == [True, True, False, True]
    assert torch.is_grad_enabled()
