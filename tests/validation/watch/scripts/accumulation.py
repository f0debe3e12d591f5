"""Gradients of four micro-batches are accumulated; the data come from a Dataset."""

import torch
from planted import wait
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Points(Dataset):
    def __init__(self):
        generator = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(3200, 64, generator=generator)
        self.targets = torch.randn(3200, 1, generator=generator)

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        if index % 32 == 0:
            wait()
        return self.inputs[index], self.targets[index]


torch.manual_seed(0)
loader = DataLoader(Points(), batch_size=8)
model = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
criterion = nn.MSELoss()
done = 0
for epoch in range(6):
    for number, (x, y) in enumerate(loader):
        loss = criterion(model(x), y) / 4
        loss.backward()
        if number % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
            done += 1
            if done % 100 == 0:
                print(f"{done} {loss.item():.6f}", flush=True)
