"""A whole training step captured once in a CUDA graph, and replayed: its launches are paid for once."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from nncore.step import TrainStep
from nncore_bench.worker.blocks import IncorrectError

WARM_UP_STEPS = 3
"""Steps on a side stream before the capture (pytorch.org/docs/stable/notes/cuda.html, CUDA Graphs)."""


class CaptureError(IncorrectError):
    """Say why a step could not be captured, which leaves torch on the stream of the capture."""


class CapturedStep:
    """Hold the graph of a step on a batch of its own, into which each batch is copied before a replay.

    `runtime` is torch.cuda, or in tests something that behaves like it.

    Raises:
        CaptureError: something in the step cannot be captured.

    """

    def __init__(self, step: TrainStep, batch: tuple[Any, Tensor], runtime: Any = torch.cuda) -> None:  # noqa: ANN401
        self._static = tree_map(torch.Tensor.clone, batch)
        side = _side_stream(runtime)
        side.wait_stream(runtime.current_stream())
        with runtime.stream(side):
            for _ in range(WARM_UP_STEPS):
                step(*self._static)
        runtime.current_stream().wait_stream(side)
        step.torch_optimizer.zero_grad(
            set_to_none=True
        )  # so that backward makes gradients in the graph's pool
        self._graph = runtime.CUDAGraph()
        try:
            with runtime.graph(self._graph, stream=side):
                self._loss = step(*self._static).detach()
        except Exception as error:
            raise CaptureError(
                f"cudagraph: the step cannot be captured: {_first_reason(error)} (keep what waits for the"
                " device, such as .item(), out of the step, or leave out cudagraph)"
            ) from error

    def __call__(self, inputs: Any, targets: Tensor) -> Tensor:  # noqa: ANN401 - of the structure of the batch
        """Run the step on a batch, and return its loss, which the next run overwrites."""
        for target, source in zip(tree_leaves(self._static), tree_leaves((inputs, targets)), strict=True):
            target.copy_(source)
        self._graph.replay()
        return self._loss


@cache
def _side_stream(runtime: Any) -> Any:  # noqa: ANN401 - torch.cuda, or what behaves like it
    """Return the one stream for all captures of a process: cuBLAS keeps some 32 MiB for each it has seen."""
    return runtime.Stream()


def _first_reason(error: BaseException) -> str:
    """Return what failed first: ending a capture that has failed is an error again, which names no cause.

    CUDA's are all RuntimeErrors; a KeyError, say, that the step handled before it failed is none of them.
    """
    first, context = error, error.__context__
    while context is not None:
        first, context = context if isinstance(context, RuntimeError) else first, context.__context__
    return next((line for line in str(first).splitlines() if line.strip()), type(first).__name__)
