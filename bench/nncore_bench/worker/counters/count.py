"""Run all counting passes of a case: deterministic counts per phase, in a process that times nothing.

Their meanings are documented in `nncore_bench.records.PhaseCounters` and `CaseCounters`.
"""

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec.structs
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from nncore_bench.cases import STEP_PHASES
from nncore_bench.records import CaseCounters, PhaseCounters
from nncore_bench.worker.blocks import no_collection
from nncore_bench.worker.counters.cuda import count_launches, count_synchronisations
from nncore_bench.worker.counters.memory import Memory, count_memory
from nncore_bench.worker.counters.operators import (
    OperatorCounter,
    count_nodes,
    count_operators,
    inventory_of,
    total_bytes,
)
from nncore_bench.worker.counters.steps import Countable, count_once


def count_case(work: Countable, runtime: Any = torch.cuda) -> CaseCounters:  # noqa: ANN401 - a fake of it in tests
    """Return all counters of a case, for a settled step; the initial state is restored before and after.

    Each pass runs its own steps, in the precision of the case. Automatic garbage collection is disabled, so
    that nothing is freed at random.
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
    return _valid_for_replay(counters) if work.replays else counters


def _valid_for_replay(counters: CaseCounters) -> CaseCounters:
    """Keep only the counts of a step that also hold for its replay: work and sizes.

    A replay dispatches no operators, builds no autograd graph, allocates nothing, and is a single launch.
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
    """The counts of each pass, by phase; None for a pass that does not apply to the device."""

    operators: dict[str, OperatorCounter]
    nodes: dict[str, int]
    memory: Memory | None
    copies: dict[str, int] | None
    waits: dict[str, Counter[str]] | None
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
        """How often the host waits for the device in a step, by phase and line of code."""
        return {
            f"{phase} at {site}": times
            for phase, waits in (self.waits or {}).items()
            if phase in STEP_PHASES
            for site, times in waits.items()
        }

    def phase(self, name: str) -> PhaseCounters:
        """Return the counters of the phase `name`."""
        operators = self.operators[name]
        return PhaseCounters(
            flop=operators.flop,
            operators=operators.operators,
            autograd_nodes=self.nodes.get(name, 0),
            moved_bytes=operators.moved_bytes,
            copies=_of(self.copies, name),
            synchronisations=None if self.waits is None else self.waits[name].total(),
            kernel_launches=_of(self.launches, name),
            collections=self.collections[name],
            **_memory(self.memory, name),
        )


def count_collections(work: Countable) -> dict[str, int]:
    """Return the garbage collections in each phase; the caller disables automatic ones."""
    collections: dict[str, int] = {}

    @contextmanager
    def around(phase: str) -> Iterator[None]:
        before = _collections_so_far()
        yield
        collections[phase] = _collections_so_far() - before

    count_once(work, around)
    return collections


def _collections_so_far() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


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
    """Sum the counters of a step's phases, with three exceptions.

    FLOP is the sum of the known ones, the peak is a maximum, and the graph nodes are those that backward runs
    (the other phases only add them).
    """
    fields = {name: [getattr(part, name) for part in parts] for name in PhaseCounters.__struct_fields__}
    sums = {name: None if None in values else sum(values) for name, values in fields.items()}
    peaks = fields["peak_bytes"]
    peak_bytes = None if None in peaks else max(peaks)
    # Backward runs all nodes that the other phases added, so it has the most.
    nodes = max((nodes for nodes in fields["autograd_nodes"] if nodes is not None), default=None)
    own = {"flop": _known_flop(parts), "peak_bytes": peak_bytes, "autograd_nodes": nodes}
    return PhaseCounters(**{**sums, **own})


def _known_flop(parts: list[PhaseCounters]) -> int | None:
    """Return the sum of the known FLOP; None if operators ran and none of their phases knows its FLOP."""
    working = [part.flop for part in parts if part.operators]
    known = [flop for flop in working if flop is not None]
    return sum(known) if known or not working else None


def _sizes(work: Countable) -> dict[str, int]:
    # The passes have run steps, so gradients and optimizer state exist.
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
