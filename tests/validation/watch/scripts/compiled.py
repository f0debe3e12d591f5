"""A model compiled by torch.compile, with a loss of its own."""

import torch
from planted import wait
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class SmoothLoss(nn.Module):
    def forward(self, prediction, target):
        wait()
        return torch.log(torch.cosh(prediction - target)).mean()


torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(1600, 64), torch.randn(1600, 8)), 16, shuffle=True)
model = torch.compile(nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 8)))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
criterion = SmoothLoss()
done = 0
for epoch in range(6):
    for x, y in loader:
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        done += 1
        if done % 100 == 0:
            print(f"{done} {loss.item():.6f}", flush=True)
print("compiled", torch._dynamo.utils.counters["frames"]["ok"])
