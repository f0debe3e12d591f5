"""Counts of what is computed: operators below autograd, the bytes they move, FLOP, nodes of the graph."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from nncore_bench.records import OperatorCount
from nncore_bench.worker.counters.steps import SETTLING_STEPS, Countable, batch, count_once, settle

ATEN = torch.ops.aten
COPIES = {ATEN.copy_, ATEN._to_copy}  # noqa: SLF001 - its name, however private it looks
UNTOUCHED = {
    *(ATEN.empty, ATEN.empty_like, ATEN.empty_strided, ATEN.empty_permuted),
    *(ATEN.new_empty, ATEN.new_empty_strided, ATEN._unsafe_view),  # noqa: SLF001 - its name
}
"""Operators that touch no data although their schema does not say that they are views."""

MOST_SHAPES = 6
"""An operator of more tensors has them counted instead of listed."""

FIRST_UNREAD = {
    *(ATEN.copy_, ATEN.fill_, ATEN.zero_, ATEN._foreach_copy_, ATEN._foreach_zero_),
    *(ATEN.ones_like, ATEN.zeros_like, ATEN.full_like, ATEN.new_zeros, ATEN.new_ones, ATEN.new_full),
}
"""Operators that write their first argument, or one of its shape, without reading it."""


@dataclass(frozen=True)
class Call:
    """Hold one call of an operator: its name as PyTorch has it, its tensor arguments in words, its work.

    `module` is the part of the network that was under way, or nothing.
    """

    operator: str
    shapes: str
    dtypes: str
    moved_bytes: int
    flop: int | None
    module: str = ""


class OperatorCounter(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves it without types
    """Record the operators that run while it is entered, in order, and count the host-device copies."""

    def __init__(self, modules: Sequence[str] = ()) -> None:
        """Start with nothing; `modules` are the names of the modules under way, innermost last."""
        super().__init__()  # type: ignore[no-untyped-call] # the same
        self.calls: list[Call] = []
        self.copies = 0
        self._modules = modules

    @property
    def operators(self) -> int:
        """Return how many operators ran."""
        return len(self.calls)

    @property
    def moved_bytes(self) -> int:
        """Return the bytes that they moved."""
        return sum(call.moved_bytes for call in self.calls)

    @property
    def flop(self) -> int | None:
        """Return the FLOP of operators with a formula; None where operators ran and none of them has one."""
        known = [call.flop for call in self.calls if call.flop is not None]
        return sum(known) if known or not self.calls else None

    def __torch_dispatch__(  # a method of torch's, with torch's signature
        self,
        func: Any,  # noqa: ANN401 - an operator of any kind
        types: Any,  # noqa: ANN401 - torch passes it
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the operator returns
        """Run the operator, and count it unless it only labels the profiler's trace."""
        kwargs = kwargs or {}
        # Inference mode dispatches operators that only call others; those that they call are counted.
        if torch.is_inference_mode_enabled() and isinstance(func, OpOverload):
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        if getattr(func, "namespace", "") != "profiler" and not is_bookkeeping(func):
            module = self._modules[-1] if self._modules else ""
            self.calls.append(call_of(func, args, kwargs, out, module))
            self.copies += is_host_device_copy(func, args, out)
        return out


def is_bookkeeping(func: Any) -> bool:  # noqa: ANN401 - any operator
    """Tell whether a call is autograd's own, made only because somebody counts.

    Where autograd saves an output or unpacks it again it makes a shallow copy without the dispatcher, except
    while a dispatch mode is entered. A `detach` of the program comes from below autograd, which is excluded
    then; such a copy does not.
    """
    below = torch._C._dispatch_tls_is_dispatch_key_excluded("ADInplaceOrView")  # noqa: SLF001 - the only way to ask
    return func is ATEN.detach.default and not below


def call_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any, module: str = "") -> Call:  # noqa: ANN401 - any operator
    """Return what one call of an operator was, by its arguments and what it returned."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    name = func._schema.name if isinstance(func, OpOverload) else str(func)  # noqa: SLF001 - its public name lacks nothing but the namespace
    return Call(
        name, shapes_of(tensors), dtypes_of(tensors), moved_bytes(func, args, kwargs, out),
        flop_of(func, args, kwargs, out), module,
    )  # fmt: skip


def shapes_of(tensors: Sequence[Tensor]) -> str:
    """Return the shapes of some tensors in words, such as `32x784, 784x128`, or how many they are."""
    if len(tensors) > MOST_SHAPES:
        return f"{len(tensors)} tensors of {sum(tensor.numel() for tensor in tensors):,} values"
    return ", ".join("x".join(map(str, tensor.shape)) or "scalar" for tensor in tensors)


def dtypes_of(tensors: Sequence[Tensor]) -> str:
    """Return the types of some tensors, each once, in the order of their names."""
    return ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors}))


def flop_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int | None:  # noqa: ANN401 - any operator
    """Return the floating-point operations of a call by torch's formula for it; None where it has none."""
    formula = flop_registry.get(getattr(func, "overloadpacket", None))
    return None if formula is None else int(formula(*args, **kwargs, out_val=out))


def count_operators(work: Countable, modules: Sequence[str] = ()) -> dict[str, OperatorCounter]:
    """Return what each phase of a settled step and of inference dispatched, within which of the modules."""
    counters: dict[str, OperatorCounter] = {}

    def around(phase: str) -> OperatorCounter:
        counters[phase] = OperatorCounter(modules)
        return counters[phase]

    count_once(work, around)
    return counters


def inventory_of(calls_of: dict[str, OperatorCounter]) -> tuple[OperatorCount, ...]:
    """Return the operators of each phase, with equal calls taken together, in their order."""
    return tuple(
        OperatorCount(
            phase, call.operator, call.shapes, call.dtypes, times, times * call.moved_bytes,
            None if call.flop is None else times * call.flop,
        )
        for phase, counter in calls_of.items()
        for call, times in Counter(counter.calls).items()
    )  # fmt: skip


def count_nodes(work: Countable) -> dict[str, int]:
    """Return how many nodes forward and loss add to the graph, and how many backward has to run."""
    settle(work)
    inputs, targets = batch(work, SETTLING_STEPS)
    work.step.zero_grad()
    logits = work.step.forward(inputs)
    of_forward = graph_nodes(logits)
    loss = work.step.loss(logits, targets)
    of_loss = graph_nodes(loss)
    # CUDA graphs of torch.compile begin no new step before the backward pass of the last one has run.
    work.step.backward(loss)
    work.step.zero_grad()
    work.restore()
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
