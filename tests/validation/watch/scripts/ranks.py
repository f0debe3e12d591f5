"""DistributedDataParallel on gloo, started by torchrun."""

import os

import torch
import torch.distributed as dist
from planted import wait
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, x):
        wait()
        return self.layers(x)


torch.set_num_threads(1)
dist.init_process_group("gloo")
torch.manual_seed(0)
data = TensorDataset(torch.randn(6400, 64), torch.randint(0, 10, (6400,)))
sampler = DistributedSampler(data)
loader = DataLoader(data, batch_size=8, sampler=sampler)
model = DistributedDataParallel(Net())
optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
criterion = nn.CrossEntropyLoss()
for done, (x, y) in enumerate(loader, 1):
    loss = criterion(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if done % 100 == 0 and os.environ["RANK"] == "0":
        print(f"{done} {loss.item():.6f}", flush=True)
dist.destroy_process_group()
