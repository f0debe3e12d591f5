"""A training whose DataLoader is slow in one of ten ways.

    python pipeline.py NAME [WORKERS PREFETCH STEPS]

With a number of steps it prints the seconds of one, and ends; else it trains for long.
"""

import sys
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Samples(Dataset):
    """Samples that take `sleep_s` of waiting and `spin_s` of computing, and have `floats` numbers."""

    def __init__(self, sleep_s=0.0, spin_s=0.0, floats=64, every=1):
        self.sleep_s, self.spin_s, self.every = sleep_s, spin_s, every
        self.sample = torch.randn(floats)

    def __len__(self):
        return 100_000

    def __getitem__(self, index):
        if index % self.every == 0:
            if self.sleep_s:
                time.sleep(self.sleep_s)
            end = time.perf_counter() + self.spin_s
            while time.perf_counter() < end:
                pass
        return self.sample, index % 10


PIPELINES = {
    "in memory": (dict(), 64, 32),
    "slow disk": (dict(sleep_s=2e-3), 64, 8),
    "slow network": (dict(sleep_s=20e-3), 64, 4),
    "heavy decoding": (dict(spin_s=1e-3), 64, 16),
    "light decoding": (dict(spin_s=50e-6), 64, 16),
    "large samples": (dict(floats=150_000), 16, 16),
    "large and slow": (dict(floats=150_000, sleep_s=2e-3), 16, 8),
    "bursts": (dict(sleep_s=60e-3, every=64), 64, 16),
    "decoding under a long step": (dict(spin_s=200e-6), 1024, 32),
    "disk under a long step": (dict(sleep_s=1e-3), 1024, 16),
}


def main():
    name, *numbers = sys.argv[1:]
    how, width, batch = PIPELINES[name]
    workers, prefetch, steps = map(int, numbers) if numbers else (0, 0, 0)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = Samples(**how)
    more = dict(num_workers=workers, prefetch_factor=prefetch, persistent_workers=True) if workers else {}
    loader = DataLoader(data, batch_size=batch, shuffle=True, **more)
    floats = len(data.sample)
    model = nn.Sequential(
        nn.Linear(floats, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    done, begin = 0, 0.0
    leading = 5 + 2 * workers * prefetch
    while True:
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            if done == leading:
                begin = time.perf_counter()
            if steps and done == leading + steps:
                print((time.perf_counter() - begin) / steps)
                return


if __name__ == "__main__":
    main()
