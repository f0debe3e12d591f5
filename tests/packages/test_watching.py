"""Trainings by the trainers of other packages, watched by their callback of one line."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nncore_bench import Watch

pytestmark = pytest.mark.packages

TRAINED = ("forward", "backward", "optimizer", "zero_grad", "waiting for data", "other")


def phases_in(said: str) -> set[str]:
    return {line.split("|")[1].strip() for line in said.splitlines() if line.startswith("| ")}


def test_a_trainer_of_transformers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transformers = pytest.importorskip("transformers")
    from nncore_bench.integrations.transformers import WatchCallback  # noqa: PLC0415 - needs transformers

    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=50, n_positions=16)
    ids = torch.randint(0, 50, (400, 8))
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"),
        per_device_train_batch_size=2,
        max_steps=100,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = transformers.Trainer(
        transformers.GPT2LMHeadModel(config),
        arguments,
        train_dataset=[{"input_ids": one, "labels": one} for one in ids],
        callbacks=[WatchCallback(results=tmp_path, skip=5, length=5)],
    )
    trainer.train()
    said = capsys.readouterr().err
    assert {*TRAINED, "clip", "step"} <= phases_in(said)
    assert "watched of 100)" in said


@pytest.mark.filterwarnings("ignore")  # Lightning's own
def test_a_fit_of_lightning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lightning = pytest.importorskip("lightning")
    from nncore_bench.integrations.lightning import WatchCallback  # noqa: PLC0415 - needs lightning

    class Regression(lightning.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.net, self.criterion = nn.Linear(8, 1), nn.MSELoss()

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            x, y = batch
            loss: torch.Tensor = self.criterion(self.net(x), y)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[WatchCallback(results=tmp_path, skip=5, length=5)],
    )
    data = TensorDataset(torch.randn(800, 8), torch.randn(800, 1))
    trainer.fit(Regression(), DataLoader(data, batch_size=8))
    said = capsys.readouterr().err
    assert {*TRAINED, "loss", "step"} <= phases_in(said)
    assert "watched of 100)" in said


def test_a_loop_prepared_by_accelerate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By a Watch of its model and optimizer, and by a tracker, of one line."""
    accelerate = pytest.importorskip("accelerate")
    from nncore_bench.integrations.accelerate import WatchTracker  # noqa: PLC0415

    tracker = WatchTracker(results=tmp_path, skip=5, length=5)
    accelerator = accelerate.Accelerator(cpu=True, log_with=tracker)
    model = nn.Linear(8, 1)
    data = DataLoader(TensorDataset(torch.randn(800, 8), torch.randn(800, 1)), batch_size=8)
    model, optimizer, data = accelerator.prepare(model, torch.optim.Adam(model.parameters()), data)

    def train() -> None:
        for x, y in data:
            accelerator.backward(nn.functional.mse_loss(model(x), y))
            optimizer.step()
            optimizer.zero_grad()

    with Watch(model, optimizer, results=tmp_path, skip=5, length=5):
        train()
    said = capsys.readouterr().err
    assert {*TRAINED, "loss", "step"} <= phases_in(said)
    assert "watched of 100)" in said
    accelerator.init_trackers("watched", config={"lr": 1e-3})
    train()
    accelerator.log({"loss": 1.0}, step=1)
    accelerator.end_training()
    said = capsys.readouterr().err
    assert {*TRAINED, "loss", "step"} <= phases_in(said)
    assert "watched of 100)" in said
