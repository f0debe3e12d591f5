"""A LightningModule and its Trainer."""

import lightning
import torch
from planted import wait
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Momentum(torch.optim.SGD):
    def step(self, closure=None):
        loss = super().step(closure)
        wait()
        return loss


class Regression(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 1))
        self.criterion = nn.MSELoss()

    def training_step(self, batch, number):
        x, y = batch
        loss = self.criterion(self.net(x), y)
        if number % 100 == 99:
            print(f"{number} {loss.item():.6f}", flush=True)
        return loss

    def configure_optimizers(self):
        return Momentum(self.parameters(), lr=1e-2, momentum=0.9)


lightning.seed_everything(0)
data = TensorDataset(torch.randn(6400, 32), torch.randn(6400, 1))
trainer = lightning.Trainer(
    max_epochs=1,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(Regression(), DataLoader(data, batch_size=16))
