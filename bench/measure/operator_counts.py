"""Counts of what is computed: operators below autograd, the bytes they move, FLOP, nodes of the graph."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from bench.measure.counting import SETTLING_STEPS, Countable, batch, count_once, settle

ATEN = torch.ops.aten
COPIES = {ATEN.copy_, ATEN._to_copy}  # noqa: SLF001 - its name, however private it looks
UNTOUCHED = {
    *(ATEN.empty, ATEN.empty_like, ATEN.empty_strided, ATEN.empty_permuted),
    *(ATEN.new_empty, ATEN.new_empty_strided, ATEN._unsafe_view),  # noqa: SLF001 - its name
}
"""Operators that touch no data although their schema does not say that they are views."""

FIRST_UNREAD = {
    *(ATEN.copy_, ATEN.fill_, ATEN.zero_, ATEN._foreach_copy_, ATEN._foreach_zero_),
    *(ATEN.ones_like, ATEN.zeros_like, ATEN.full_like, ATEN.new_zeros, ATEN.new_ones, ATEN.new_full),
}
"""Operators that write their first argument, or one of its shape, without reading it."""


@dataclass(frozen=True)
class Flop:
    """Hold the floating-point operations with a known formula, and whether any operator had one."""

    known: int
    any_known: bool


class OperatorCounter(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves it without types
    """Count the operators that run while it is entered, the bytes they move and the host-device copies."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # the same
        self.operators = 0
        self.moved_bytes = 0
        self.copies = 0

    def __torch_dispatch__(  # a method of torch's, with torch's signature
        self,
        func: Any,  # noqa: ANN401 - an operator of any kind
        types: Any,  # noqa: ANN401 - torch passes it
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the operator returns
        """Run the operator, and count it unless it only labels the profiler's trace."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if getattr(func, "namespace", "") != "profiler":
            self.operators += 1
            self.moved_bytes += moved_bytes(func, args, kwargs, out)
            self.copies += is_host_device_copy(func, args, out)
        return out


def count_operators(work: Countable) -> dict[str, OperatorCounter]:
    """Return what each phase of a settled step and of inference dispatched."""
    counters: dict[str, OperatorCounter] = {}

    def around(phase: str) -> OperatorCounter:
        counters[phase] = OperatorCounter()
        return counters[phase]

    count_once(work, around)
    return counters


def count_flop(work: Countable) -> dict[str, Flop]:
    """Return the floating-point operations of each phase, by torch's own formulas."""
    modes: dict[str, FlopCounterMode] = {}

    def around(phase: str) -> FlopCounterMode:
        modes[phase] = FlopCounterMode(display=False)
        return modes[phase]

    count_once(work, around)
    return {
        phase: Flop(mode.get_total_flops(), bool(mode.get_flop_counts().get("Global")))
        for phase, mode in modes.items()
    }


def count_nodes(work: Countable) -> dict[str, int]:
    """Return how many nodes forward and loss add to the graph, and how many backward has to run."""
    settle(work)
    inputs, targets = batch(work, SETTLING_STEPS)
    work.step.zero_grad()
    logits = work.step.forward(inputs)
    of_forward = graph_nodes(logits)
    of_loss = graph_nodes(work.step.loss(logits, targets))
    return {"forward": len(of_forward), "loss": len(of_loss - of_forward), "backward": len(of_loss)}


def graph_nodes(outputs: Any) -> set[Any]:  # noqa: ANN401 - a tensor, or a structure of tensors
    """Return the nodes of the graph that lead to some outputs, AccumulateGrad of the parameters included."""
    waiting = [leaf.grad_fn for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.grad_fn]
    seen: set[Any] = set()
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += [after for after, _ in node.next_functions if after is not None]
    return seen


def moved_bytes(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:  # noqa: ANN401 - any operator
    """Return the bytes an operator moves when it reads each input tensor once and writes each output once.

    A tensor counts numel x itemsize, as a whole and once, also where it is given twice. Inputs that are
    changed in place are read and written; what is overwritten (`out=`, copy_, fill_) is only written; views
    and uninitialised memory count 0.
    """
    if not isinstance(func, OpOverload):
        return total_bytes((args, kwargs)) + total_bytes(out)
    if func.is_view or func.overloadpacket in UNTOUCHED:
        return 0
    read, changed = _read_and_changed(func, args, kwargs)
    return total_bytes(read) + total_bytes((out, changed))


def _read_and_changed(
    func: OpOverload[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[Any], list[Any]]:
    read, changed = [], []
    for place, (argument, value) in enumerate(_bound(func, args, kwargs)):
        unread = argument.is_out or (place == 0 and func.overloadpacket in FIRST_UNREAD)
        if not unread:
            read.append(value)
        if argument.alias_info is not None and argument.alias_info.is_write:
            changed.append(value)
    return read, changed


def _bound(
    func: OpOverload[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[tuple[Any, Any]]:
    for place, argument in enumerate(func._schema.arguments):  # noqa: SLF001 - the only way to an operator's schema
        yield argument, args[place] if place < len(args) else kwargs.get(argument.name)


def total_bytes(values: Any) -> int:  # noqa: ANN401 - any structure with tensors in it
    """Return the bytes of the distinct tensors in a structure: numel x itemsize of each."""
    tensors = {id(leaf): leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def is_host_device_copy(func: Any, args: tuple[Any, ...], out: Any) -> bool:  # noqa: ANN401 - any operator
    """Return whether an operator copies between the host's memory and the device's."""
    if getattr(func, "overloadpacket", None) not in COPIES:
        return False
    kinds = {leaf.device.type for leaf in tree_leaves((args, out)) if isinstance(leaf, Tensor)}
    return len(kinds) > 1 and "cpu" in kinds
