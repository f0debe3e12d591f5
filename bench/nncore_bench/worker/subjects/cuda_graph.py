"""Capture a whole training step in a CUDA graph and replay it, so that its launches are paid for once."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from nncore.step import TrainStep
from nncore_bench.worker.blocks import IncorrectError
from nncore_bench.worker.subjects.batches import leaves, mapped

WARM_UP_STEPS = 3
"""Steps on a side stream before capture (pytorch.org/docs/stable/notes/cuda.html, CUDA Graphs)."""


class CaptureError(IncorrectError):
    """The step could not be captured; torch is left on the capture stream."""


class CapturedStep:
    """A training step as a CUDA graph; each batch is copied into the graph's static batch before a replay.

    `runtime` is torch.cuda, or a fake of it in tests. Raises CaptureError if the step cannot be captured.
    """

    def __init__(self, step: TrainStep, batch: tuple[Any, Tensor], runtime: Any = torch.cuda) -> None:  # noqa: ANN401
        self._static = mapped(torch.Tensor.clone, batch)
        side = _side_stream(runtime)
        side.wait_stream(runtime.current_stream())
        with runtime.stream(side):
            for _ in range(WARM_UP_STEPS):
                step(*self._static)
        runtime.current_stream().wait_stream(side)
        # Backward must allocate the gradients in the graph's own pool.
        step.torch_optimizer.zero_grad(set_to_none=True)
        self._graph = runtime.CUDAGraph()
        try:
            with runtime.graph(self._graph, stream=side):
                self._loss = step(*self._static).detach()
        except Exception as error:
            raise CaptureError(
                f"cudagraph: the step cannot be captured: {_first_reason(error)} (keep what waits for the"
                " device, such as .item(), out of the step, or leave out cudagraph)"
            ) from error

    def __call__(self, inputs: Any, targets: Tensor) -> Tensor:  # noqa: ANN401 - any structure of tensors
        """Replay the step on a batch and return its loss, which the next replay overwrites."""
        for target, source in zip(leaves(self._static), leaves((inputs, targets)), strict=True):
            target.copy_(source)
        self._graph.replay()
        return self._loss


@cache
def _side_stream(runtime: Any) -> Any:  # noqa: ANN401 - torch.cuda, or a fake of it
    """Return one stream for all captures of a process: cuBLAS keeps some 32 MiB per stream it has seen."""
    return runtime.Stream()


def _first_reason(error: BaseException) -> str:
    """Return the root cause: ending a failed capture raises again, without naming it.

    CUDA's errors are all RuntimeErrors; other errors in the chain, such as a KeyError that the step handled
    before it failed, are skipped.
    """
    first, context = error, error.__context__
    while context is not None:
        first, context = context if isinstance(context, RuntimeError) else first, context.__context__
    return next((line for line in str(first).splitlines() if line.strip()), type(first).__name__)
