"""GPU memory as this process sees it: how much is free, and what its allocator can give back."""

from typing import Any

import torch

from nncore_bench.worker.messages import Seen

CONTEXT_BYTES = 700_000_000
"""Upper bound for a CUDA context without the allocator's memory: 0.4 to 0.7 GB by GPU and version."""

CROWDED = 0.5
"""Give cached memory back between cases if the allocator has reserved more than this share of the GPU."""


def seen_gpu(runtime: Any = torch.cuda) -> Seen:  # noqa: ANN401 - torch.cuda, or a fake of it
    """Return the GPU's UUID (empty if torch does not report it) and the state of its memory.

    Raises whatever CUDA raises if the GPU cannot be used.
    """
    free, total = runtime.mem_get_info()
    uuid = str(getattr(runtime.get_device_properties(0), "uuid", ""))
    return Seen(uuid, free, total, runtime.max_memory_reserved() + CONTEXT_BYTES)


def give_back_cached(runtime: Any = torch.cuda) -> None:  # noqa: ANN401 - the same
    """Release the memory cached by torch's allocator, if it has reserved much."""
    if runtime.memory_reserved() > CROWDED * runtime.get_device_properties(0).total_memory:
        runtime.empty_cache()
