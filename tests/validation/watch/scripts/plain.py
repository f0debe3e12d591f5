"""A plain loop with a DataLoader, an evaluation after each epoch, and a checkpoint."""

import argparse
import tempfile

import torch
from planted import wait
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=600)
arguments = parser.parse_args()

torch.manual_seed(0)
inputs, labels = torch.randn(2000, 64), torch.randint(0, 10, (2000,))
training = DataLoader(TensorDataset(inputs[:1600], labels[:1600]), batch_size=16, shuffle=True)
validation = DataLoader(TensorDataset(inputs[1600:], labels[1600:]), batch_size=100)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, x):
        wait()
        return self.layers(x)


model, criterion = Net(), nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
done = 0
while done < arguments.steps:
    model.train()
    for x, y in training:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        done += 1
        if done % 100 == 0:
            print(f"{done} {loss.item():.6f}", flush=True)
    model.eval()
    with torch.no_grad():
        right = sum((model(x).argmax(1) == y).sum().item() for x, y in validation)
    print(f"right {right}")
    with tempfile.TemporaryFile() as file:
        torch.save(model.state_dict(), file)
