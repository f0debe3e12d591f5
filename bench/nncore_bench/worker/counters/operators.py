"""Count the work of a step: operators below autograd, the bytes they move, FLOP, autograd nodes."""

import time
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
from nncore_bench.worker.counters.steps import Countable, count_once, counted
from nncore_bench.worker.subjects.batches import leaves

ATEN = torch.ops.aten
COPIES = {ATEN.copy_, ATEN._to_copy}  # noqa: SLF001 - the operator's name
UNTOUCHED = {
    *(ATEN.empty, ATEN.empty_like, ATEN.empty_strided, ATEN.empty_permuted),
    *(ATEN.new_empty, ATEN.new_empty_strided, ATEN._unsafe_view),  # noqa: SLF001 - the operator's name
}
"""Operators that touch no data, although their schema does not mark them as views."""

POSITIONS = 12
"""Steps of a block whose work is compared: every tenth step may do more."""

POSITIONS_S = 1.0
"""Seconds after which no further step is looked at for that."""

MOST_SHAPES = 6
"""Summarise the shapes of more tensors than this instead of listing them."""

FIRST_UNREAD = {
    *(ATEN.copy_, ATEN.fill_, ATEN.zero_, ATEN._foreach_copy_, ATEN._foreach_zero_),
    *(ATEN.ones_like, ATEN.zeros_like, ATEN.full_like, ATEN.new_zeros, ATEN.new_ones, ATEN.new_full),
}
"""Operators that write their first argument, or one of its shape, without reading it."""


@dataclass(frozen=True)
class Call:
    """One call of an operator: its qualified name, its tensor arguments as text, and its work.

    `flop` is None if torch has no formula; `module` is the submodule that was running, or empty.
    """

    operator: str
    shapes: str
    dtypes: str
    moved_bytes: int
    flop: int | None
    module: str = ""


class Work:
    """The operators of a phase in order, and how many of them copy between host and device."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.copies = 0

    @property
    def operators(self) -> int:
        """The number of operators."""
        return len(self.calls)

    @property
    def moved_bytes(self) -> int:
        """The bytes moved in all."""
        return sum(call.moved_bytes for call in self.calls)

    @property
    def flop(self) -> int | None:
        """The FLOP of operators with a formula; None if operators ran and none of them has one."""
        known = [call.flop for call in self.calls if call.flop is not None]
        return sum(known) if known or not self.calls else None


class OperatorCounter(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves it without types
    """Record the operators that run in its context as `work`, which may be replaced while it is active.

    `modules` is a live list of the names of the running modules, innermost last.
    """

    def __init__(self, modules: Sequence[str] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # the same
        self.work = Work()
        self._modules = modules

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - an operator of any kind
        types: Any,  # noqa: ANN401 - torch passes it
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - the operator's result
        """Run the operator, and record it unless it is bookkeeping of autograd or the profiler."""
        kwargs = kwargs or {}
        # Inference mode also dispatches composite operators: count the ones they call instead.
        if torch.is_inference_mode_enabled() and isinstance(func, OpOverload):
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        if getattr(func, "namespace", "") != "profiler" and not is_bookkeeping(func):
            module = self._modules[-1] if self._modules else ""
            self.work.calls.append(call_of(func, args, kwargs, out, module))
            self.work.copies += is_host_device_copy(func, args, out)
        return out


def is_bookkeeping(func: Any) -> bool:  # noqa: ANN401 - any operator
    """Return whether a call is a `detach` that autograd makes only because a dispatch mode is active.

    To save or unpack an output, autograd makes a shallow copy, which goes through the dispatcher only under a
    dispatch mode. The program's own `detach` arrives with the autograd key excluded; such a copy does not.
    """
    below = torch._C._dispatch_tls_is_dispatch_key_excluded("ADInplaceOrView")  # noqa: SLF001 - the only way to ask
    return func is ATEN.detach.default and not below


def call_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any, module: str = "") -> Call:  # noqa: ANN401 - any operator
    """Describe one call of an operator from its arguments and its result."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    name = func._schema.name if isinstance(func, OpOverload) else str(func)  # noqa: SLF001 - the public name lacks the namespace
    return Call(
        name, shapes_of(tensors), dtypes_of(tensors), moved_bytes(func, args, kwargs, out),
        flop_of(func, args, kwargs, out), module,
    )  # fmt: skip


def shapes_of(tensors: Sequence[Tensor]) -> str:
    """Return the shapes of some tensors as text, such as `32x784, 784x128`, or a summary of many."""
    if len(tensors) > MOST_SHAPES:
        return f"{len(tensors)} tensors of {sum(tensor.numel() for tensor in tensors):,} values"
    return ", ".join("x".join(map(str, tensor.shape)) or "scalar" for tensor in tensors)


def dtypes_of(tensors: Sequence[Tensor]) -> str:
    """Return the distinct dtypes of some tensors as text, sorted by name."""
    return ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors}))


def flop_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int | None:  # noqa: ANN401 - any operator
    """Return the floating-point operations of a call by torch's own formula, or None without one."""
    formula = flop_registry.get(getattr(func, "overloadpacket", None))
    return None if formula is None else int(formula(*args, **kwargs, out_val=out))


def count_operators(work: Countable, modules: Sequence[str] = ()) -> dict[str, Work]:
    """Count the operators in each phase of a settled step and in inference; `modules` as OperatorCounter."""
    of_phase: dict[str, Work] = {name: Work() for name in counted(work)}
    counter = OperatorCounter(modules)

    def switch(phase: str) -> None:
        counter.work = of_phase.setdefault(phase, Work())

    count_once(work, switch, counter)
    return of_phase


def first_steps() -> Iterator[int]:
    """Yield the numbers of the first POSITIONS steps of a block, as far as POSITIONS_S goes."""
    until = time.monotonic() + POSITIONS_S
    for number in range(POSITIONS):
        yield number
        if time.monotonic() > until:
            return


def work_by_position(work: Countable) -> list[tuple[int, int]]:
    """Return the operators and moved bytes of the first steps of a block; the state is as before.

    Unlike other counting it also runs where times are measured later: no step was slower afterwards (eager
    353 µs before, 354 after; compiled 449 and 448; 2 % quantiles), and nothing was compiled again.
    """
    found: list[tuple[int, int]] = []
    work.restore()
    for number in first_steps():
        with OperatorCounter() as counter:
            work.train(number)
        found.append((counter.work.operators, counter.work.moved_bytes))
    work.restore()
    return found


def inventory_of(calls_of: dict[str, Work]) -> tuple[OperatorCount, ...]:
    """Return the operators of each phase in order of first call, with equal calls merged."""
    return tuple(
        OperatorCount(
            phase, call.operator, call.shapes, call.dtypes, times, times * call.moved_bytes,
            None if call.flop is None else times * call.flop,
        )
        for phase, counter in calls_of.items()
        for call, times in Counter(counter.calls).items()
    )  # fmt: skip


def graph_nodes(outputs: Any) -> set[Any]:  # noqa: ANN401 - a tensor, or a structure of tensors
    """Return the autograd nodes reachable from some outputs, including the parameters' AccumulateGrad."""
    waiting = [leaf.grad_fn for leaf in leaves(outputs) if leaf.grad_fn]
    seen: set[Any] = set()
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += [after for after, _ in node.next_functions if after is not None]
    return seen


def moved_bytes(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:  # noqa: ANN401 - any operator
    """Return the bytes an operator moves if it reads each input and writes each output exactly once.

    A tensor counts numel x itemsize, once even if passed twice. Inputs changed in place are read and written;
    overwritten ones (`out=`, copy_, fill_) are only written; views and uninitialised memory count 0.
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
    for index, argument in enumerate(func._schema.arguments):  # noqa: SLF001 - the only way to an operator's schema
        value = args[index] if index < len(args) else kwargs.get(argument.name)
        unread = argument.is_out or (index == 0 and func.overloadpacket in FIRST_UNREAD)
        if not unread:
            read.append(value)
        if argument.alias_info is not None and argument.alias_info.is_write:
            changed.append(value)
    return read, changed


def total_bytes(values: Any) -> int:  # noqa: ANN401 - any structure with tensors in it
    """Return the bytes of the distinct tensors in a structure, numel x itemsize each."""
    tensors = {id(leaf): leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def is_host_device_copy(func: Any, args: tuple[Any, ...], out: Any) -> bool:  # noqa: ANN401 - any operator
    """Return whether an operator copies between host and device memory."""
    if getattr(func, "overloadpacket", None) not in COPIES:
        return False
    kinds = {leaf.device.type for leaf in tree_leaves((args, out)) if isinstance(leaf, Tensor)}
    return len(kinds) > 1 and "cpu" in kinds
