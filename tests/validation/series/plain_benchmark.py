"""The training step timed with pytest-benchmark as it comes, the way anybody would write it.

What the suite is compared with: one process, one case after another, the default options. It has no name that
plain `pytest` collects: `pytest --noconftest tests/validation/series/plain_benchmark.py --benchmark-only`.
"""

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from nncore.data import load_dataset, resident_batches
from nncore.model import SimpleNN
from nncore.step import TrainStep


@pytest.mark.parametrize("hidden", [32, 128, 512])
@pytest.mark.parametrize("batch_size", [1, 32, 128, 1024])
def test_step(benchmark: BenchmarkFixture, batch_size: int, hidden: int) -> None:
    """Time the whole step on one batch of digits, on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = load_dataset("digits")
    inputs, targets = resident_batches(data.train_inputs, data.train_targets, batch_size, seed=0)[0]
    step = TrainStep(SimpleNN(inputs.shape[1], hidden))
    benchmark(step, inputs, targets)
