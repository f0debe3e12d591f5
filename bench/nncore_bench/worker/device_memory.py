"""The memory of the GPU that this process has: how much is free, and what is kept without need."""

from typing import Any

import torch

from nncore_bench.worker.messages import Seen

CONTEXT_BYTES = 700_000_000
"""What a context of CUDA holds beside the allocator's part: 0.4 to 0.7 GB, by GPU and version, at most."""

CROWDED = 0.5
"""Of more than this share of the memory, what no case needs at the moment is given back between cases."""


def seen_gpu(runtime: Any = torch.cuda) -> Seen:  # noqa: ANN401 - torch.cuda, or a fake of it
    """Return which GPU this is and how its memory stands; what CUDA raises where it cannot be had, it raises.

    The UUID is empty where this torch does not tell it.
    """
    free, total = runtime.mem_get_info()
    uuid = str(getattr(runtime.get_device_properties(0), "uuid", ""))
    return Seen(uuid, free, total, runtime.max_memory_reserved() + CONTEXT_BYTES)


def give_back_cached(runtime: Any = torch.cuda) -> None:  # noqa: ANN401 - the same
    """Give the memory that torch's allocator keeps for later back to the GPU, where it keeps much."""
    if runtime.memory_reserved() > CROWDED * runtime.get_device_properties(0).total_memory:
        runtime.empty_cache()
