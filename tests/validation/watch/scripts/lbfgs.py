"""LBFGS, whose step calls a closure several times."""

import torch
from planted import wait
from torch import nn


class CurvatureLoss(nn.Module):
    def forward(self, prediction, target):
        return ((prediction - target) ** 2).mean()


torch.manual_seed(0)
x = torch.linspace(-2, 2, 200)[:, None]
y = torch.sin(3 * x)
model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
criterion = CurvatureLoss()
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
for done in range(1, 401):
    calls = 0

    def closure():
        global calls
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        if calls == 0:
            wait()
        calls += 1
        return loss

    loss = optimizer.step(closure)
    if done % 100 == 0:
        print(f"{done} {loss.item():.6f}", flush=True)
