"""A DataLoader with two workers and an augmentation; the loop keeps a running mean."""

import torch
from planted import wait
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Images(Dataset):
    def __len__(self):
        return 4800

    def __getitem__(self, index):
        image = torch.full((3, 16, 16), (index % 10) / 10)
        return image + 0.01 * (index % 7), index % 10


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(Images(), batch_size=8, num_workers=2, persistent_workers=True)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    running, done = 0.0, 0
    for x, y in loader:
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running = 0.9 * running + 0.1 * loss.item()
        wait()
        done += 1
        if done % 100 == 0:
            print(f"{done} {loss.item():.6f}", flush=True)
