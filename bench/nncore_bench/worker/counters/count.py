"""Run all counting passes of a case: deterministic counts per phase, in a process that times nothing.

Their meanings are documented in `nncore_bench.records.PhaseCounters` and `CaseCounters`.
"""

import gc
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec.structs
import torch

from nncore_bench.records import CaseCounters, PhaseCounters
from nncore_bench.worker.blocks import no_collection
from nncore_bench.worker.counters.cuda import count_launches, count_synchronisations
from nncore_bench.worker.counters.memory import count_memory
from nncore_bench.worker.counters.operators import (
    count_operators,
    inventory_of,
    total_bytes,
    work_by_position,
)
from nncore_bench.worker.counters.steps import INFERENCE, Countable, counted, read_around_phases


def count_case(work: Countable, runtime: Any = torch.cuda) -> CaseCounters:  # noqa: ANN401 - a fake of it in tests
    """Return all counters of a case, for a settled step; the initial state is restored before and after.

    Each pass runs its own steps, in the precision of the case. Automatic garbage collection is disabled, so
    that nothing is freed at random.
    """
    with no_collection(), work.mode("plain"):
        operators, nodes, memory = count_operators(work), work.count_nodes(), count_memory(work, runtime)
        waits, launches = count_synchronisations(work, runtime), count_launches(work)
        collections = count_collections(work)
        positions = tuple(work_by_position(work))
        sizes = _sizes(work)

    def phase(name: str) -> PhaseCounters:
        return PhaseCounters(
            flop=operators[name].flop,
            operators=operators[name].operators,
            autograd_nodes=nodes.get(name),
            moved_bytes=operators[name].moved_bytes,
            copies=None if work.device.type == "cpu" else operators[name].copies,
            synchronisations=None if waits is None else waits[name].total(),
            kernel_launches=None if launches is None else launches.get(name),
            collections=collections[name],
            **(memory.counters(name) if memory else {}),
        )

    phases = {name: phase(name) for name in counted(work)}
    parts = [phases[name] for name in work.parts]
    counters = CaseCounters(
        {**dict(zip(work.parts, parts, strict=True)), "step": whole_step(parts)}
        | {name: of for name, of in phases.items() if name == INFERENCE},
        leaked_bytes=None if memory is None else memory.leaked_bytes,
        threads=torch.get_num_threads(),
        positions=positions if len({*positions}) > 1 else (),
        waits=_sites({name: waits[name] for name in work.parts} if waits else {}),
        inventory=inventory_of({name: operators[name] for name in phases}),
        **sizes,
    )
    return _valid_for_replay(counters) if work.replays else counters


def _sites(waits: Mapping[str, Counter[str]]) -> dict[str, int]:
    """Return how often the host waits for the device in a step, by phase and line of code."""
    return {f"{phase} at {site}": times for phase, of in waits.items() for site, times in of.items()}


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


def count_collections(work: Countable) -> dict[str, int]:
    """Return the garbage collections in each phase; the caller disables automatic ones."""
    readings = read_around_phases(work, lambda: sum(of["collections"] for of in gc.get_stats()))
    return {phase: sum(after - before for before, after in pairs) for phase, pairs in readings.items()}


def whole_step(parts: list[PhaseCounters]) -> PhaseCounters:
    """Sum the counters of a step's phases, with three exceptions.

    FLOP is the sum of the known ones, None if operators ran and no phase knows its FLOP; the peak is a
    maximum; and the graph nodes are those that backward runs (the other phases only add them).
    """
    fields = {name: [getattr(part, name) for part in parts] for name in PhaseCounters.__struct_fields__}
    sums = {name: None if None in values else sum(values) for name, values in fields.items()}
    peaks = fields["peak_bytes"]
    # Backward runs all nodes that the other phases added, so it has the most.
    nodes = max((nodes for nodes in fields["autograd_nodes"] if nodes is not None), default=None)
    working = [part.flop for part in parts if part.operators]
    flop = [flop for flop in working if flop is not None]
    own = {
        "flop": sum(flop) if flop or not working else None,
        "peak_bytes": None if None in peaks else max(peaks),
        "autograd_nodes": nodes,
    }
    return PhaseCounters(**{**sums, **own})


def _sizes(work: Countable) -> dict[str, int]:
    # The passes have run steps, so gradients and optimizer state exist.
    parameters = list({id(one): one for model in work.models for one in model.parameters()}.values())
    sizes = {
        "parameters": sum(parameter.numel() for parameter in parameters),
        "parameter_bytes": total_bytes(parameters),
        "gradient_bytes": total_bytes([parameter.grad for parameter in parameters]),
        "state_bytes": total_bytes([list(one.state.values()) for one in work.optimizers]),
    }
    work.restore()
    return sizes
