"""Choose the device and seed the random generators."""

import random

import numpy as np
import torch

# numpy's limit for seeds; torch and random would take larger ones.
_SEEDS = 2**32


def choose_device(name: str | None = None) -> torch.device:
    """Return the device `name`, or by default CUDA if available, else the CPU.

    Raises:
        ValueError: the name is not "cpu", "cuda", "cuda:1" etc., or that CUDA device does not exist.

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
    """Seed random, numpy and torch (CPU and CUDA).

    Raises:
        ValueError: the seed is not in 0 .. 2**32 - 1.

    """
    if not 0 <= seed < _SEEDS:
        raise ValueError(f"seed: {seed} is not between 0 and {_SEEDS - 1} (example: 0)")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - other libraries draw from the global generator
    torch.manual_seed(seed)


def _cuda_devices() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0
