"""Attribute the time of a traced step to operators, phases and modules.

Counters count the operators that are dispatched below autograd. The profiler also sees composite operators
(`aten::linear`), autograd nodes, and the operators that an operator calls in turn (`aten::as_strided` in
`aten::t`), which count as part of that operator here.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeAlias

from nncore_bench.cases import FED
from nncore_bench.records import OUTSIDE, ProfiledOperator
from nncore_bench.runs import NANO
from nncore_bench.worker.counters.operators import Call
from nncore_bench.worker.profile.breakdown import Interval, length
from nncore_bench.worker.profile.trace import LABEL, ON_DEVICE, OPERATOR, RUNTIME, Event, Node

WHOLE = "step"
UPDATING = ("zero_grad", "backward", "optimizer")
"""The phases whose operators make no node of the graph that backward runs."""

AUTOGRAD = ("autograd::", "torch::autograd::")
"""Prefixes of the events of autograd's engine."""

CLOCKS_AGREE = 0.005
"""Two clocks differ by more than this share of a step if something came between their readings."""


Phases: TypeAlias = Mapping[str, Sequence[Interval]]
"""When each phase of one iteration ran: an interval for each time that it began."""


@dataclass(frozen=True)
class Windows:
    """When each phase of some iterations ran on the host.

    `step` is the whole step: up to the beginning of the next one, so that no time between labels is lost, or
    for the last one to the end of its own. A replayed step has no other phase.
    """

    steps: tuple[Phases, ...]
    feeds: tuple[Phases, ...]

    @classmethod
    def of(cls, nodes: Sequence[Node], parts: Sequence[str]) -> "Windows":
        """Collect the labels of the steps, of their parts, and of feeding, which begins with data.

        Labels of the same names that the user's own code sets within a part are none of ours.
        """
        ours = {WHOLE, *FED, *parts}
        labels = [node for node in nodes if node.event.category == LABEL and node.event.name in ours]
        steps: list[dict[str, list[Interval]]] = []
        feeds: list[dict[str, list[Interval]]] = []
        for node in labels:
            event = node.event
            if any(one.event.name in ours - {WHOLE} and one.event.category == LABEL for one in _around(node)):
                continue
            group = feeds if event.name in FED else steps
            if event.name in (FED[0], WHOLE):
                group.append({})
            if group:
                group[-1].setdefault(event.name, []).append((event.start_ns, event.end_ns))
        starts = [step[WHOLE][0][0] for step in steps]
        ends = [*starts[1:], *(step[WHOLE][0][1] for step in steps[-1:])]
        times = zip(starts, ends, strict=True)
        whole = (step | {WHOLE: [interval]} for step, interval in zip(steps, times, strict=True))
        return cls(tuple(whole), tuple(feeds))

    def of_phase(self, phase: str) -> list[Interval]:
        """Return the intervals of a phase."""
        return [interval for group in (*self.steps, *self.feeds) for interval in group.get(phase, ())]

    def count(self, phase: str) -> int:
        """Return the number of iterations that have a phase."""
        return sum(phase in group for group in (*self.steps, *self.feeds))

    def quiet_half(self, laps: Sequence[Interval]) -> "Windows":
        """Return the quicker half of the steps and of the feeds; the other half may have been disturbed.

        `laps` holds the steps' intervals by another clock. An interruption between its reading and the label
        falls into a different step for each clock, so steps on which the clocks disagree are sorted last.
        """
        pairs = [(length(step[WHOLE]), length([lap])) for step, lap in zip(self.steps, laps, strict=True)]
        order = [(max(pair) > (1 + CLOCKS_AGREE) * min(pair), max(pair)) for pair in pairs]
        fed = [(False, sum(map(length, feed.values()))) for feed in self.feeds]
        whole = len(self.steps) - 1 or 1  # without the last step, which ends with its last phase
        return Windows(_first_half(self.steps[:whole], order[:whole]), _first_half(self.feeds, fed))


def _around(node: Node) -> Iterable[Node]:
    """Yield the callers of an event that had not ended when it ended."""
    return (caller for caller in node.above() if caller.event.end_ns >= node.event.end_ns)


def _first_half(groups: Sequence[Phases], order: Sequence[tuple[bool, int]]) -> tuple[Phases, ...]:
    indices = sorted(range(len(groups)), key=order.__getitem__)
    return tuple(groups[index] for index in indices[: (len(groups) + 1) // 2])


@dataclass(frozen=True)
class Part:
    """One operator event in its phase of iteration `step`, with its own (exclusive) time in nanoseconds.

    `module` and `made_by` (the forward operator of a backward one) are empty if unknown. `device_ns` is the
    time of the kernels, copies and fills that it launched.
    """

    node: Node
    phase: str
    step: int
    dispatched: bool
    own_ns: int
    module: str = ""
    made_by: str = ""
    call: Call | None = None
    device_ns: int = 0

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """The name, module, forward operator, shapes and types by which parts of a phase are grouped."""
        shapes, dtypes = (self.call.shapes, self.call.dtypes) if self.call else ("", "")
        return self.node.event.name, self.module, self.made_by, shapes, dtypes


def parts_of(nodes: Sequence[Node], windows: Windows, composites: Collection[str]) -> list[Part]:
    """Return the operators within the windows, each in its phase, in the order in which they begin.

    `composites` are the names of operators that only call others.
    """
    intervals = sorted(
        (start, end, phase, number)
        for number, group in enumerate((*windows.steps, *windows.feeds))
        for phase, times in group.items()
        for start, end in times
        if phase != WHOLE
    )
    starts = [start for start, *_ in intervals]
    parts = []
    for node in nodes:
        at = bisect_right(starts, node.event.start_ns) - 1
        if node.event.category != OPERATOR or at < 0 or node.event.start_ns > intervals[at][1]:
            continue
        dispatched = is_dispatched(node, composites)
        if any(is_dispatched(caller, composites) for caller in node.above()):
            continue
        called = [] if dispatched else [one.event for one in node.children]
        own_ns = node.event.length_ns - sum(one.length_ns for one in called if one.category not in RUNTIME)
        parts.append(Part(node, *intervals[at][2:], dispatched, own_ns))
    return parts


def is_dispatched(node: Node, composites: Collection[str]) -> bool:
    """Return True for an operator that the counters count, unless another one called it."""
    name = node.event.name
    return (
        node.event.category == OPERATOR
        and "::" in name
        and not name.startswith(AUTOGRAD)
        and name not in composites
    )


def with_calls(
    parts: Sequence[Part], calls: Mapping[str, Sequence[Call]], steps: int
) -> tuple[list[Part], str]:
    """Match the operators with the calls that the counters saw, and describe the first disagreement.

    In each phase of each step the operators must be of the same kind in the same order.
    """
    of_phase: dict[tuple[int, str], list[int]] = defaultdict(list)
    for index, part in enumerate(parts):
        if part.dispatched:
            of_phase[part.step, part.phase].append(index)
    completed, disagreement = list(parts), ""
    for step, phase in product(range(steps), calls):
        indices = of_phase[step, phase]
        seen = [parts[index].node.event.name for index in indices]
        if list(map(_kind, seen)) == [_kind(call.operator) for call in calls[phase]]:
            for index, call in zip(indices, calls[phase], strict=True):
                completed[index] = replace(parts[index], call=call, module=call.module)
        else:
            disagreement = disagreement or _disagreement(phase, seen, calls[phase])
    return completed, disagreement


def _kind(operator: str) -> str:
    """Return the name of an operator, whether it works in place or not.

    Under a dispatch mode, as when counting, autograd's own formulas take the one that does not
    (areAnyTensorSubclassLike in torch/csrc/autograd/FunctionsManual.cpp).
    """
    return operator.removesuffix("_")


def _disagreement(phase: str, seen: Sequence[str], calls: Sequence[Call]) -> str:
    profiled, counted = Counter(map(_kind, seen)), Counter(_kind(call.operator) for call in calls)
    differing = sorted(name for name in profiled | counted if profiled[name] != counted[name])
    if not differing:
        return f"{phase}: the same operators in another order"
    found = ", ".join(f"{name} {profiled[name]} times, counted {counted[name]}" for name in differing[:3])
    return f"{phase}: the profiler saw {found}"


def with_makers(parts: Sequence[Part]) -> list[Part]:
    """Add to backward operators the forward operator that created their autograd node, and its module.

    A backward node has the sequence number of the forward operator that created it: the last one to begin
    with that number, since earlier ones with it created no node.
    """
    made: dict[int | None, Part] = {
        part.node.event.sequence: part
        for part in parts
        if part.dispatched and part.phase not in UPDATING and part.node.event.sequence is not None
    }
    return [_with_maker(part, made) if part.phase == "backward" else part for part in parts]


def _with_maker(part: Part, made: Mapping[int | None, Part]) -> Part:
    events = (node.event for node in (part.node, *part.node.above()))
    maker = next((made[e.sequence] for e in events if e.forward_thread and e.sequence in made), None)
    return replace(part, made_by=maker.node.event.name, module=maker.module) if maker else part


def with_device_time(parts: Sequence[Part], nodes: Sequence[Node], events: Sequence[Event]) -> list[Part]:
    """Add the device time that each operator caused: of the work launched within it, by correlation."""
    operators = {part.node for part in parts}
    launched_by: dict[int | None, Node] = {}
    for node in nodes:
        if node.event.category in RUNTIME and node.event.correlation is not None:
            caller = next((caller for caller in node.above() if caller in operators), None)
            if caller is not None:
                launched_by[node.event.correlation] = caller
    spent: Counter[Node] = Counter()
    for event in events:
        if event.category in ON_DEVICE and event.correlation in launched_by:
            spent[launched_by[event.correlation]] += event.length_ns
    return [replace(part, device_ns=spent[part.node]) for part in parts]


def rows_of_profile(
    parts: Sequence[Part], windows: Windows, phases: Sequence[str], *, on_device: bool
) -> tuple[ProfiledOperator, ...]:
    """Return the operators per step by phase, longest first, with a row for the time outside of them."""
    rows: list[ProfiledOperator] = []
    for phase in (*FED, *phases):
        times, iterations = windows.of_phase(phase), windows.count(phase)
        if not times:
            continue
        of_phase = [part for part in parts if part.phase == phase]
        groups: dict[tuple[object, ...], list[Part]] = defaultdict(list)
        for part in of_phase:
            groups[*part.key, part.dispatched].append(part)
        rest_ns = length(times) - sum(part.own_ns for part in of_phase)
        outside = ProfiledOperator(
            phase, OUTSIDE, "", "", "", "", 0.0, dispatched=False, host_s=rest_ns * NANO / iterations,
            share=rest_ns / length(times), device_s=0.0 if on_device else None,
        )  # fmt: skip
        found = [_row(group, length(times), iterations, on_device=on_device) for group in groups.values()]
        rows += sorted([*found, outside], key=lambda row: -row.host_s)
    return tuple(rows)


def _row(parts: Sequence[Part], whole_ns: int, iterations: int, *, on_device: bool) -> ProfiledOperator:
    """Return the row of parts of one key, whose phase took `whole_ns` in some iterations."""
    own_ns = sum(part.own_ns for part in parts)
    calls = [part.call for part in parts if part.call is not None]
    flop = [call.flop for call in calls if call.flop is not None]
    return ProfiledOperator(
        parts[0].phase,
        *parts[0].key,
        calls=len(parts) / iterations,
        dispatched=parts[0].dispatched,
        host_s=own_ns * NANO / iterations,
        share=own_ns / whole_ns,
        device_s=sum(part.device_ns for part in parts) * NANO / iterations if on_device else None,
        moved_bytes=sum(call.moved_bytes for call in calls) / iterations if calls else None,
        flop=sum(flop) / iterations if flop else None,
    )
