"""A loop prepared by accelerate, which clips gradients."""

import torch
from accelerate import Accelerator
from planted import wait
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 128), nn.Linear(128, 10)

    def forward(self, x):
        wait()
        return self.second(torch.relu(self.first(x)))


torch.manual_seed(0)
accelerator = Accelerator(cpu=True)
loader = DataLoader(TensorDataset(torch.randn(1600, 64), torch.randint(0, 10, (1600,))), 16, shuffle=True)
model = Net()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
criterion = nn.CrossEntropyLoss()
done = 0
for epoch in range(6):
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        done += 1
        if done % 100 == 0:
            print(f"{done} {loss.item():.6f}", flush=True)
