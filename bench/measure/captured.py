"""A whole training step captured once in a CUDA graph, and replayed: its launches are paid for once."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from bench.measure.blocks import IncorrectError
from nncore.step import TrainStep

WARM_UP_STEPS = 3
"""Steps on a side stream before the capture (pytorch.org/docs/stable/notes/cuda.html, CUDA Graphs)."""


class CaptureError(IncorrectError):
    """Say why a step could not be captured, which leaves torch on the stream of the capture."""


class CapturedStep:
    """Hold the graph of a step on a batch of its own, into which each batch is copied before a replay.

    `runtime` is torch.cuda, or in tests something that behaves like it.
    """

    def __init__(self, step: TrainStep, batch: tuple[Any, Tensor], runtime: Any = torch.cuda) -> None:  # noqa: ANN401
        self._static = tree_map(torch.Tensor.clone, batch)
        side = runtime.Stream()
        side.wait_stream(runtime.current_stream())
        with runtime.stream(side):
            for _ in range(WARM_UP_STEPS):
                step(*self._static)
        runtime.current_stream().wait_stream(side)
        step.torch_optimizer.zero_grad(
            set_to_none=True
        )  # so that backward makes gradients in the graph's pool
        self._graph = runtime.CUDAGraph()
        with runtime.graph(self._graph):
            step(*self._static)

    def replay(self, batch: tuple[Any, Tensor]) -> None:
        """Run the step on a batch."""
        for target, source in zip(tree_leaves(self._static), tree_leaves(batch), strict=True):
            target.copy_(source)
        self._graph.replay()
