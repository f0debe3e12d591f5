"""The epoch loop: what it prints, returns and leaves behind, and that it learns."""

import os
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nncore import (
    SimpleNN,
    TrainStep,
    choose_device,
    evaluate,
    load_dataset,
    make_loader,
    seed_everything,
    train,
)

CPU = torch.device("cpu")
BATCHES = [(torch.ones(4, 2), torch.tensor([0, 1, 0, 1])), (torch.zeros(1, 2), torch.tensor([1]))]


class Recorded(TrainStep):
    """Give known losses in place of a real step's: 1, 2, 3, ..."""

    def __init__(self) -> None:
        super().__init__(SimpleNN(2, 2, 2))
        self.calls = 0

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the number of this call."""
        assert len(inputs) == len(targets)
        self.calls += 1
        return torch.tensor(float(self.calls), requires_grad=True)


def test_epoch_lines_read_as_in_the_tutorial(capsys: pytest.CaptureFixture[str]) -> None:
    """Each epoch prints one line, the mean over samples to four decimals, and no bar off the terminal."""
    losses = train(Recorded(), BATCHES, 2, CPU)
    captured = capsys.readouterr()
    assert losses == [(4 * 1 + 1 * 2) / 5, (4 * 3 + 1 * 4) / 5]
    assert captured.out == "Epoch [1/2], Loss: 1.2000\nEpoch [2/2], Loss: 3.2000\n"
    assert captured.err == ""


def test_model_is_put_into_train_mode() -> None:
    """Also a model that comes from an evaluation."""
    step = Recorded()
    step.model.eval()
    train(step, BATCHES, 1, CPU, log=lambda _line: None)
    assert all(module.training for module in step.model.modules())


def test_no_epochs_and_no_samples_are_refused() -> None:
    """The messages name the argument."""
    with pytest.raises(ValueError, match="epochs: 0 "):
        train(Recorded(), BATCHES, 0, CPU)
    with pytest.raises(ValueError, match="loader: "):
        train(Recorded(), [], 1, CPU)


@pytest.mark.parametrize(("delay_s", "appears"), [(0.0, True), (60.0, False)])
def test_bar_appears_in_long_epochs_only_and_vanishes(
    monkeypatch: pytest.MonkeyPatch, delay_s: float, *, appears: bool
) -> None:
    """On a terminal a long epoch shows a bar, erased at its end; a short one shows nothing."""
    master, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    with os.fdopen(terminal, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        # The module; nncore.train is the function.
        monkeypatch.setattr(sys.modules["nncore.train"], "_BAR_AFTER_S", delay_s)
        train(Recorded(), slow_batches(), 1, CPU, log=lambda _line: None)
        stderr.write("end")
        stderr.flush()
        shown = b""
        while not shown.endswith(b"end"):  # each read gives what one write wrote
            shown += os.read(master, 1000)
    os.close(master)
    assert (b"Epoch [1/1]" in shown) is appears
    assert shown.split(b"\r")[-1] == b"end"


def slow_batches() -> Iterator[tuple[Tensor, Tensor]]:
    """Give batches slowly enough for a bar to be drawn."""
    for _ in range(3):
        time.sleep(0.15)
        yield BATCHES[0]


def test_digits_are_learned(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Ten epochs with the program's defaults get at least 95 % of unseen digits right."""
    data = load_dataset("digits", data_dir=tmp_path_factory.getbasetemp())
    seed_everything(0)
    step = TrainStep(SimpleNN())
    loader = make_loader(data.train_inputs, data.train_targets, 16, shuffle=True, seed=0)
    losses = train(step, loader, 10, CPU, log=lambda _line: None)
    test_loader = make_loader(data.test_inputs, data.test_targets, 100, shuffle=False, seed=0)
    assert losses[-1] < losses[0] / 5
    assert evaluate(step.model, test_loader, CPU).accuracy >= 0.95


def test_seed_repeats_everything() -> None:
    """Two networks and batches drawn after the same seed are equal; another seed gives others."""

    def drawn(seed: int) -> Tensor:
        seed_everything(seed)
        return torch.cat([nn.Linear(3, 3).weight.flatten(), torch.randn(3)])

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    with pytest.raises(ValueError, match="seed: -1 "):
        seed_everything(-1)


@pytest.mark.parametrize("name", ["gpu", "", "meta", "cuda:x"])
def test_unknown_device_is_refused(name: str) -> None:
    """The message names it and the way out."""
    with pytest.raises(ValueError, match=rf"device: '{name}' .*choose cpu"):
        choose_device(name)


def test_absent_cuda_is_refused_and_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CUDA nobody gets it: not by default, and not by name."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == choose_device("cpu") == CPU
    for name in ("cuda", "cuda:1"):
        with pytest.raises(ValueError, match=f"device: '{name}' is absent"):
            choose_device(name)


def test_present_cuda_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one CUDA device it is the default, and a second one is absent."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device() == choose_device("cuda") == torch.device("cuda")
    with pytest.raises(ValueError, match="'cuda:1' is absent, PyTorch sees 1 "):
        choose_device("cuda:1")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_on_cuda_agrees_with_the_cpu(tmp_path: Path) -> None:
    """One epoch on the GPU ends at the CPU's loss, up to float32's rounding."""
    data = load_dataset("synthetic", data_dir=tmp_path)
    losses = []
    for device in (CPU, torch.device("cuda")):
        seed_everything(0)
        step = TrainStep(SimpleNN().to(device))
        loader = make_loader(data.train_inputs, data.train_targets, 100, shuffle=True, seed=0)
        losses.append(train(step, loader, 1, device, log=lambda _line: None)[0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
