"""Counters before clocks: deterministic counts per phase, in passes and a process of their own.

What they mean is said where they are stored: `bench.runs.PhaseCounters` and `CaseCounters`.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from bench.cases import STEP_PHASES
from bench.measure.blocks import no_collection
from bench.measure.counting import Countable, settle
from bench.measure.cuda_counts import count_launches, count_synchronisations
from bench.measure.memory_counts import Memory, count_memory
from bench.measure.operator_counts import (
    Flop,
    OperatorCounter,
    count_flop,
    count_nodes,
    count_operators,
    total_bytes,
)
from bench.runs import CaseCounters, PhaseCounters


def count_case(work: Countable, runtime: Any = torch.cuda) -> CaseCounters:  # noqa: ANN401 - a fake of it in tests
    """Return all counters of a case, in a steady step from its restored state, which is restored at the end.

    Each pass runs its own steps; the garbage collector is held, so that it frees nothing at a time of its own.
    """
    with no_collection():
        operators, flop, nodes = count_operators(work), count_flop(work), count_nodes(work)
        memory = count_memory(work, runtime)
        waits, launches = count_synchronisations(work, runtime), count_launches(work)
        parts = {
            phase: PhaseCounters(
                flop=_flop(flop[phase], operators[phase]),
                operators=operators[phase].operators,
                autograd_nodes=nodes.get(phase, 0),
                moved_bytes=operators[phase].moved_bytes,
                copies=None if work.device.type == "cpu" else operators[phase].copies,
                synchronisations=None if waits is None else waits[phase],
                kernel_launches=None if launches is None else launches.get(phase),
                **_memory(memory, phase),
            )
            for phase in (*STEP_PHASES, "inference")
        }
        sizes = _sizes(work)
    step = whole_step([parts[phase] for phase in STEP_PHASES])
    phases = {**{phase: parts[phase] for phase in STEP_PHASES}, "step": step, "inference": parts["inference"]}
    return CaseCounters(phases, leaked_bytes=None if memory is None else memory.leaked_bytes, **sizes)


def _flop(flop: Flop, operators: OperatorCounter) -> int | None:
    return flop.known if flop.any_known or operators.operators == 0 else None


def _memory(memory: Memory | None, phase: str) -> dict[str, int]:
    if memory is None:
        return {}
    span = memory.spans[phase]
    return {
        "allocations": span.allocations,
        "allocated_bytes": span.allocated_bytes,
        "peak_bytes": memory.peak_bytes(phase),
    }


def whole_step(parts: list[PhaseCounters]) -> PhaseCounters:
    """Return the sum of a step's phases, the maximum for the peak; FLOP sum what is known of them."""
    fields = {name: [getattr(part, name) for part in parts] for name in PhaseCounters.__struct_fields__}
    sums = {name: _sum(values) for name, values in fields.items()}
    peaks = fields["peak_bytes"]
    return PhaseCounters(
        **{
            **sums,
            "flop": _known_flop(parts),
            "peak_bytes": None if None in peaks else max(peaks),
        }
    )


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(list(values)) else None


def _known_flop(parts: list[PhaseCounters]) -> int | None:
    """Return the sum of the known; None where operators ran in some phases and none of them has a formula."""
    known = [part.flop for part in parts if part.flop is not None and part.operators]
    idle = not any(part.operators for part in parts)
    return sum(known) if known or idle else None


def _sizes(work: Countable) -> dict[str, int]:
    settle(work)
    parameters = list(work.step.model.parameters())
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    sizes = {
        "parameters": sum(parameter.numel() for parameter in parameters),
        "parameter_bytes": total_bytes(parameters),
        "gradient_bytes": total_bytes(gradients),
        "state_bytes": total_bytes(_state(work)),
    }
    work.restore()
    return sizes


def _state(work: Countable) -> list[Tensor]:
    leaves = tree_leaves([list(state.values()) for state in work.step.torch_optimizer.state.values()])
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]
