"""Trains on after watching has ended, with and without what is left of it in torch's hooks, by a coin."""

import json
import random
import statistics
import time

import torch
from torch import nn
from torch.optim import optimizer as of_torch

STEPS, BLOCKS = 40, 300

torch.set_num_threads(1)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
x, y = torch.randn(4, 784), torch.arange(4)


def steps(number: int) -> float:
    begun = time.perf_counter()
    for _ in range(number):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return (time.perf_counter() - begun) / number


steps(1_000)  # in which watching ends
hooks = of_torch._global_optimizer_post_hooks
left = dict(hooks)
coin, differences, without = random.Random(1), [], []
for _ in range(BLOCKS):
    pair = {}
    for there in coin.sample((True, False), 2):
        hooks.clear()
        hooks.update(left if there else {})
        steps(2)
        pair[there] = steps(STEPS)
    differences.append(pair[True] - pair[False])
    without.append(pair[False])
differences.sort()
rank = round(BLOCKS / 2 - 1.96 * BLOCKS**0.5 / 2)
print(
    json.dumps(
        {
            "left": len(left),
            "step_s": statistics.median(without),
            "added_s": statistics.median(differences),
            "low_s": differences[rank],
            "high_s": differences[-1 - rank],
        }
    )
)
