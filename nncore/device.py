"""Where the network runs, and the seed it starts from."""

import random

import numpy as np
import torch

# numpy's generator takes no larger seed; torch and random would.
_SEEDS = 2**32


def choose_device(name: str | None = None) -> torch.device:
    """Return the device called `name`; without a name CUDA where there is one, else the CPU.

    Raises:
        ValueError: the name is not "cpu", "cuda" or "cuda:1" and the like, or that CUDA device is absent.

    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in {"cpu", "cuda"}:
        raise ValueError(f"device: {name!r} is not a known device (choose cpu or cuda)")
    if device.type == "cuda" and (device.index or 0) >= _cuda_devices():
        raise ValueError(
            f"device: {name!r} is absent, PyTorch sees {_cuda_devices()} CUDA devices (choose cpu)"
        )
    return device


def seed_everything(seed: int) -> None:
    """Make random, numpy and torch (CPU and CUDA) repeat the same numbers.

    Raises:
        ValueError: the seed is not in 0 .. 2**32 - 1.

    """
    if not 0 <= seed < _SEEDS:
        raise ValueError(f"seed: {seed} is not between 0 and {_SEEDS - 1} (example: 0)")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - other people's code draws from the global generator
    torch.manual_seed(seed)


def _cuda_devices() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0
