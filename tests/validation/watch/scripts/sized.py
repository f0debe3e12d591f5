"""A plain loop whose steps are as long as its arguments make them."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--width", type=int, default=128)
parser.add_argument("--batch", type=int, default=16)
parser.add_argument("--steps", type=int, default=2000)
parser.add_argument("--threads", type=int, default=1)
arguments = parser.parse_args()

torch.set_num_threads(arguments.threads)
torch.manual_seed(0)
data = TensorDataset(torch.randn(64 * arguments.batch, 64), torch.randint(0, 10, (64 * arguments.batch,)))
loader = DataLoader(data, batch_size=arguments.batch)
width = arguments.width
model = nn.Sequential(
    nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
criterion = nn.CrossEntropyLoss()
done = 0
while done < arguments.steps:
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        done += 1
print(f"{loss.item():.6f}")
