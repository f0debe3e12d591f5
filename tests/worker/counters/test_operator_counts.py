"""Operators, the bytes they move and nodes of a graph, each on a few tensors whose sizes one sees."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nncore_bench.worker.counters.operators import OperatorCounter, graph_nodes

FLOAT = 4


def test_a_node_that_two_paths_reach_is_one_node() -> None:
    """x*x + x*x over one product: the sum, the product, and the AccumulateGrad of x."""
    x = torch.ones(3, requires_grad=True)
    product = x * x
    assert len(graph_nodes(product + product)) == 3
    assert graph_nodes({"nothing": torch.ones(3)}) == set()


@pytest.mark.parametrize(
    ("run", "operators", "floats"),
    [
        (lambda a, b: a + b, 1, 3 * 6),
        (lambda a, _b: a + a, 1, 2 * 6),  # the same tensor twice is read once
        (lambda a, b: a.add_(b), 1, 3 * 6),  # both are read, one is written
        (lambda a, b: a.copy_(b), 1, 2 * 6),  # the target is not read
        (lambda a, _b: a.fill_(1.0), 1, 6),
        (lambda a, b: torch.add(a, b, out=torch.zeros(2, 3)), 2, 6 + 3 * 6),  # zeros writes, then add
        (lambda a, _b: a.t()[0].expand(4, 2), 3, 0),  # transpose, select, expand: views
        (lambda a, _b: torch.empty_like(a), 1, 0),
        (lambda a, b: a @ b.t(), 2, 6 + 6 + 4),
        (lambda a, b: torch._foreach_add_([a, b], 1.0), 1, 4 * 6),
        (lambda a, _b: a.sum(), 1, 6 + 1),
    ],
)
def test_operators_move_the_tensors_they_read_and_write(
    run: Callable[[Tensor, Tensor], Any], operators: int, floats: int
) -> None:
    """Two tensors of 2 x 3 floats: a sum of both reads 12 and writes 6."""
    a, b = torch.ones(2, 3), torch.ones(2, 3)
    with OperatorCounter() as counter:
        run(a, b)
    assert (counter.work.operators, counter.work.moved_bytes) == (operators, floats * FLOAT)


def test_copies_between_host_and_device_are_counted_and_others_are_not() -> None:
    """The meta device stands in for one; a change of type stays where it is."""
    with OperatorCounter() as counter:
        torch.ones(3).to("meta")
        torch.ones(3).to(torch.float64)
        torch.ones(3, device="meta").copy_(torch.ones(3))
        torch.ones(3).copy_(torch.ones(3))
    assert counter.work.copies == 2
