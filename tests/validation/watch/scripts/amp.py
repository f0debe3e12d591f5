"""Mixed precision with a GradScaler, clipping, and a schedule."""

import torch
import torch.nn.functional as F
from planted import wait
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, TensorDataset


class Waits(torch.autograd.Function):
    """Identity whose backward waits."""

    @staticmethod
    def forward(_, x):
        return x.view_as(x)

    @staticmethod
    def backward(_, gradient):
        wait()
        return gradient


torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(1600, 64), torch.randint(0, 10, (1600,))), 16, shuffle=True)
model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
scaler = torch.amp.GradScaler("cpu")
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 600)
done = 0
for epoch in range(6):
    for x, y in loader:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(Waits.apply(model(x)), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        schedule.step()
        done += 1
        if done % 100 == 0:
            print(f"{done} {loss.item():.6f}", flush=True)
