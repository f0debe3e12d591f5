"""Counters before clocks: deterministic counts per phase, in passes and a process of their own.

What they mean is said where they are stored: `nncore_bench.records.PhaseCounters` and `CaseCounters`.
"""

from dataclasses import dataclass
from typing import Any

import msgspec.structs
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from nncore_bench.cases import STEP_PHASES
from nncore_bench.records import CaseCounters, PhaseCounters
from nncore_bench.worker.blocks import no_collection
from nncore_bench.worker.counters.collections import count_collections
from nncore_bench.worker.counters.cuda import Waits, count_launches, count_synchronisations
from nncore_bench.worker.counters.memory import Memory, count_memory
from nncore_bench.worker.counters.operators import (
    OperatorCounter,
    count_nodes,
    count_operators,
    inventory_of,
    total_bytes,
)
from nncore_bench.worker.counters.steps import Countable


def count_case(work: Countable, runtime: Any = torch.cuda) -> CaseCounters:  # noqa: ANN401 - a fake of it in tests
    """Return all counters of a case, in a steady step from its restored state, which is restored at the end.

    Each pass runs its own steps, in the precision of the case. The garbage collector is held, so that it
    frees nothing when it likes.
    """
    with no_collection(), work.mode("plain"):
        counts = Counts.of(work, runtime)
        sizes = _sizes(work)
    parts = {phase: counts.phase(phase) for phase in STEP_PHASES}
    step = whole_step(list(parts.values()))
    phases = {**parts, "step": step, "inference": counts.phase("inference")}
    counters = CaseCounters(
        phases,
        leaked_bytes=None if counts.memory is None else counts.memory.leaked_bytes,
        threads=torch.get_num_threads(),
        waits=counts.sites,
        inventory=inventory_of({phase: counts.operators[phase] for phase in (*STEP_PHASES, "inference")}),
        **sizes,
    )
    return _of_replay(counters) if work.replays else counters


def _of_replay(counters: CaseCounters) -> CaseCounters:
    """Return what was counted of a step that holds of its replay, too: its work, and its sizes.

    A replay dispatches no operator, builds no graph of autograd, and allocates nothing; its kernels have one
    launch together.
    """
    return msgspec.structs.replace(
        counters,
        phases={
            name: PhaseCounters(flop=phase.flop, moved_bytes=phase.moved_bytes)
            for name, phase in counters.phases.items()
        },
        leaked_bytes=None,
        waits={},
        inventory=(),
    )


@dataclass(frozen=True)
class Counts:
    """Hold what each pass counted, by phase; None for a pass that does not apply to the device."""

    operators: dict[str, OperatorCounter]
    nodes: dict[str, int]
    memory: Memory | None
    copies: dict[str, int] | None
    waits: dict[str, Waits] | None
    launches: dict[str, int] | None
    collections: dict[str, int]

    @classmethod
    def of(cls, work: Countable, runtime: Any) -> "Counts":  # noqa: ANN401 - torch.cuda, or a fake of it
        """Run the passes one after another."""
        operators = count_operators(work)
        copies = {phase: counter.copies for phase, counter in operators.items()}
        return cls(
            operators,
            count_nodes(work),
            count_memory(work, runtime),
            None if work.device.type == "cpu" else copies,
            count_synchronisations(work, runtime),
            count_launches(work),
            count_collections(work),
        )

    @property
    def sites(self) -> dict[str, int]:
        """Return how often the host waits for the device in a step, by phase and line of code."""
        waits = self.waits or {}
        return {
            f"{phase} at {site}": times
            for phase in STEP_PHASES
            for site, times in waits.get(phase, Waits({})).sites.items()
        }

    def phase(self, name: str) -> PhaseCounters:
        """Return the counters of one phase."""
        operators = self.operators[name]
        return PhaseCounters(
            flop=operators.flop,
            operators=operators.operators,
            autograd_nodes=self.nodes.get(name, 0),
            moved_bytes=operators.moved_bytes,
            copies=_of(self.copies, name),
            synchronisations=None if self.waits is None else self.waits[name].times,
            kernel_launches=_of(self.launches, name),
            collections=self.collections[name],
            **_memory(self.memory, name),
        )


def _of(counts: dict[str, int] | None, phase: str) -> int | None:
    return None if counts is None else counts.get(phase)


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
    """Return the sum of a step's phases: of FLOP what is known of them, of the peak the maximum.

    Of the nodes of the graph, which the other phases add and backward runs, only those that run.
    """
    fields = {name: [getattr(part, name) for part in parts] for name in PhaseCounters.__struct_fields__}
    sums = {name: None if None in values else sum(values) for name, values in fields.items()}
    peaks = fields["peak_bytes"]
    peak_bytes = None if None in peaks else max(peaks)
    own = {"flop": _known_flop(parts), "peak_bytes": peak_bytes, "autograd_nodes": _most(fields)}
    return PhaseCounters(**{**sums, **own})


def _most(fields: dict[str, list[int | None]]) -> int | None:
    """Return the nodes of the phase that has most of them, which is backward: it runs all that were added."""
    return max((nodes for nodes in fields["autograd_nodes"] if nodes is not None), default=None)


def _known_flop(parts: list[PhaseCounters]) -> int | None:
    """Return the sum of the known; None where operators ran and no phase of theirs knows its own."""
    working = [part.flop for part in parts if part.operators]
    known = [flop for flop in working if flop is not None]
    return sum(known) if known or not working else None


def _sizes(work: Countable) -> dict[str, int]:
    # The passes have run steps, so there are gradients and the optimizer has its state.
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
