"""Changes: what a case does differently in two runs, counted exactly and independent of any clock."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from nncore_bench.cases import parts_in
from nncore_bench.records import CaseCounters, PhaseCounters
from nncore_bench.text.format import first_of

MOST_NAMED = 3
KILO = 1e3
WHOLE_CASE = "case"
"""The phase of a change that concerns all phases."""

WAYS = {"_fused_": "a _fused_ operator", "_foreach_": "_foreach_ operators", "": "a loop over tensors"}
"""How an optimizer goes over its tensors, by a part of an operator's name; the first that fits counts."""

SIZES = {
    "threads": ("threads", ""),
    "parameters": ("parameters", "another network: its layers are wider, narrower, more or fewer"),
    "parameter_bytes": ("parameter bytes", "the parameters are of another type"),
    "gradient_bytes": ("gradient bytes", "other gradients are kept"),
    "state_bytes": ("optimizer state bytes", "another optimizer, or other options of it"),
    "leaked_bytes": ("bytes leaked by some steps", "what is kept from step to step"),
}
"""Counters of the whole case and what a change means; those below changed parameters follow from these."""

WAITS = "the host waits for the device"
COUNTED = {
    "collections": ("garbage collections", "the garbage collector is called in the step"),
    "synchronisations": ("synchronisations", WAITS),
    "copies": ("copies between host and device", ""),
    "kernel_launches": ("kernel launches", ""),
}
"""Counters that add to the list of operators, and what more of them means."""

FOLLOWING = (
    "operators",
    "flop",
    "moved_bytes",
    "autograd_nodes",
    "allocations",
    "allocated_bytes",
    "peak_bytes",
)
"""Counters that mostly follow from the operators, reported where these are the same."""

MEANINGS = (
    ("zero_grad", "zero_", "", "gradients are kept and filled with zeros instead of being set to None"),
    ("zero_grad", "", "zero_", "gradients are set to None"),
    ("backward", "add_", "aten::detach", "gradients are added to those that were kept"),
    ("", "aten::_local_scalar_dense", "", "a value is read, as .item() and print do"),
    ("", "aten::_to_copy", "", "a tensor is converted to another type or device"),
    ("", "aten::clone", "", "a tensor is copied"),
)
"""Phase (or any), operator called more often, operator called less often, and what that means."""


@dataclass(frozen=True)
class Change:
    """An exact difference in a phase: its subject, its values in both runs, and its meaning, if known.

    `operators` are the names of the operators it concerns; `outside`: its time is outside of all operators.
    """

    phase: str
    what: str
    change: str
    meaning: str = ""
    operators: frozenset[str] = frozenset()
    outside: bool = False


def changes_of(base: CaseCounters | None, candidate: CaseCounters | None) -> list[Change]:
    """Return every exact difference, those of the whole case first; none where one was not counted."""
    if base is None or candidate is None:
        return []
    return [
        *_of_the_case(base, candidate),
        *_of_positions(base, candidate),
        *_of_phases(base, candidate),
        *(
            change
            for phase in _counted_phases(base, candidate)
            for change in _of_operators(phase, base, candidate)
        ),
    ]


def _counted_phases(*sides: CaseCounters) -> list[str]:
    """Return the phases that are counted by themselves: the parts of the step, and inference."""
    return [*parts_in(name for one in sides for name in one.parts), "inference"]


def _of_the_case(base: CaseCounters, candidate: CaseCounters) -> Iterator[Change]:
    for name, (label, meaning) in SIZES.items():
        for change in _number(WHOLE_CASE, label, getattr(base, name), getattr(candidate, name), meaning):
            yield change
            if name.startswith("parameter"):
                return


def _of_positions(base: CaseCounters, candidate: CaseCounters) -> Iterator[Change]:
    """Yield the first step of a block that has other work than in the base, of steps that vary."""
    both = zip(base.positions, candidate.positions, strict=False)
    different = [(at, *pair) for at, pair in enumerate(both) if pair[0] != pair[1]]
    if different:
        at, before, after = different[0]
        operators = (
            f"{before[0]:,} → {after[0]:,}" if before[0] != after[0] else "as many operators, other bytes"
        )
        what = f"the work of {len(different)} of {len(base.positions)} steps of a block"
        yield Change(WHOLE_CASE, what, operators, f"first in step {at + 1}")


def _of_phases(base: CaseCounters, candidate: CaseCounters) -> Iterator[Change]:
    """Yield the changed counters of each phase, then the lines of code where the host waits."""
    for phase in _counted_phases(base, candidate):
        a, b = base.phases.get(phase), candidate.phases.get(phase)
        if a is None or b is None:
            continue
        for name, (label, meaning) in COUNTED.items():
            before, after = getattr(a, name), getattr(b, name)
            if name != "synchronisations" or not (base.waits or candidate.waits):
                more = (after or 0) > (before or 0)
                yield from _number(phase, label, before, after, meaning if more else "")
        if _uses(base, phase) == _uses(candidate, phase):
            yield from _following(phase, a, b)
    for site in {**base.waits, **candidate.waits}:
        phase, _, line = site.partition(" at ")
        times = base.waits.get(site, 0), candidate.waits.get(site, 0)
        yield from _number(phase, f"waits at {line}", *times, WAITS)


def _following(phase: str, a: PhaseCounters, b: PhaseCounters) -> Iterator[Change]:
    """Yield the counters that differ although the operators are the same, all as one change."""
    labels = {name: name.replace("_", " ") for name in FOLLOWING}
    found = [
        c for name, label in labels.items() for c in _number(phase, label, getattr(a, name), getattr(b, name))
    ]
    if found:
        what, change = ", ".join(c.what for c in found), "; ".join(f"{c.what} {c.change}" for c in found)
        yield Change(phase, what, change, "the same operators, used or kept otherwise")


def _number(phase: str, what: str, a: int | None, b: int | None, meaning: str = "") -> Iterator[Change]:
    """Yield the change of a number that differs and is known in both runs."""
    if a is not None and b is not None and a != b:
        yield Change(phase, what, f"{a:,} → {b:,}", meaning, outside=phase != WHOLE_CASE)


@dataclass
class Use:
    """How one phase uses one operator: calls, bytes moved, and how often at which shapes and types."""

    calls: int = 0
    moved_bytes: int = 0
    shapes: Counter[str] = field(default_factory=Counter)
    dtypes: Counter[str] = field(default_factory=Counter)


def _uses(counters: CaseCounters, phase: str) -> Mapping[str, Use]:
    """Return how a phase uses each of its operators, by name."""
    uses: dict[str, Use] = defaultdict(Use)
    for operator in counters.inventory:
        if operator.phase == phase:
            use = uses[operator.operator]
            use.calls += operator.calls
            use.moved_bytes += operator.moved_bytes
            use.shapes[operator.shapes] += operator.calls
            use.dtypes[operator.dtypes] += operator.calls
    return dict(uses)


def _of_operators(phase: str, base: CaseCounters, candidate: CaseCounters) -> Iterator[Change]:
    """Yield the changed operators of a phase: those with other calls as one, other types, other shapes."""
    a, b = _uses(base, phase), _uses(candidate, phase)
    more = {name: b.get(name, Use()).calls - a.get(name, Use()).calls for name in {**b, **a}}
    if any(more.values()):
        yield _other_calls(phase, {name: calls for name, calls in more.items() if calls}, a, b)
    same = [name for name in b if name in a and not more[name]]
    dtypes = [name for name in same if a[name].dtypes != b[name].dtypes]
    shapes = [name for name in same if a[name].shapes != b[name].shapes and name not in dtypes]
    types = [", ".join(sorted({kind for name in dtypes for kind in uses[name].dtypes})) for uses in (a, b)]
    sizes = [" and ".join(sorted(uses[name].shapes)) for uses in (a, b) for name in shapes[:1]]
    for meaning, names, values in ("other types", dtypes, types), ("other shapes", shapes, sizes):
        if names:
            yield Change(phase, first_of(names, MOST_NAMED), " → ".join(values), meaning, frozenset(names))


def _other_calls(phase: str, more: Mapping[str, int], a: Mapping[str, Use], b: Mapping[str, Use]) -> Change:
    """Return the operators of a phase with more or fewer calls as one change, the most changed first."""
    ranked = sorted(more, key=lambda name: (-abs(more[name]), name))
    calls = first_of([f"{more[name]:+d} {name}" for name in ranked], MOST_NAMED)
    bytes_more = sum(use.moved_bytes for use in b.values()) - sum(use.moved_bytes for use in a.values())
    moved = f", {bytes_more / KILO:+,.0f} kB moved" if abs(bytes_more) >= KILO / 2 else ""
    before, after = (next((way for part, way in WAYS.items() if _any(part, uses)), "") for uses in (a, b))
    if phase == "optimizer" and before and after and before != after:
        meaning = f"{after} instead of {before}"
    else:
        meaning = _meaning(phase, more)
    what = first_of(ranked, MOST_NAMED)
    return Change(phase, what, f"{calls} per step{moved}", meaning, frozenset(more))


def _meaning(phase: str, calls: Mapping[str, int]) -> str:
    """Return the meaning of more calls of some operators and fewer of others, if known."""
    new, gone = [name for name in calls if calls[name] > 0], [name for name in calls if calls[name] < 0]
    for where, more, less, meaning in MEANINGS:
        if where in ("", phase) and (not more or _any(more, new)) and (not less or _any(less, gone)):
            return meaning
    return ""


def _any(part: str, names: Collection[str]) -> bool:
    return any(part in name for name in names)
