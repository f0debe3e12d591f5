"""Batches come from a generator function, without a DataLoader."""

import torch
from planted import wait
from torch import nn


def batches(number):
    generator = torch.Generator().manual_seed(1)
    for _ in range(number):
        wait()
        x = torch.randn(32, 20, generator=generator)
        yield x, x.sum(1, keepdim=True)


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
for done, (x, y) in enumerate(batches(600), 1):
    loss = ((model(x) - y) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if done % 100 == 0:
        print(f"{done} {loss.item():.6f}", flush=True)
