"""Two networks and two optimizers in turn."""

import torch
from planted import wait
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 64), nn.LeakyReLU(), nn.Linear(64, 1))

    def forward(self, x):
        if torch.is_grad_enabled() and not x.requires_grad:
            wait()
        return self.layers(x)


torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(3200, 16)), batch_size=32, shuffle=True)
generator = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 16))
discriminator = Discriminator()
optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-4)
optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4)
criterion = nn.BCEWithLogitsLoss()
done = 0
for epoch in range(6):
    for (real,) in loader:
        fake = generator(torch.randn(len(real), 8))
        optimizer_d.zero_grad()
        both = discriminator(torch.cat([real, fake.detach()]))
        truth = torch.cat([torch.ones(len(real), 1), torch.zeros(len(fake), 1)])
        loss_d = criterion(both, truth)
        loss_d.backward()
        optimizer_d.step()
        optimizer_g.zero_grad()
        loss_g = criterion(discriminator(fake), torch.ones(len(fake), 1))
        loss_g.backward()
        optimizer_g.step()
        done += 1
        if done % 100 == 0:
            print(f"{done} {loss_d.item():.6f} {loss_g.item():.6f}", flush=True)
