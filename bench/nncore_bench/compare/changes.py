"""Changes: what a case does differently in two runs, counted and exact, whatever the clocks say."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nncore_bench.cases import STEP_PHASES
from nncore_bench.records import CaseCounters, OperatorCount, PhaseCounters

MOST_NAMED = 3
KILO = 1e3
COUNTED_PHASES = (*STEP_PHASES, "inference")
WHOLE_CASE = "case"
"""The phase of what concerns them all."""

LOOP, FOREACH, FUSED = "a loop over tensors", "_foreach_ operators", "a _fused_ operator"


@dataclass(frozen=True)
class Change:
    """Hold an exact difference of a phase: what it is about, from what to what, and what it means, if known.

    `operators` are the names of the operators it is about; `outside` says that its time is outside of all.
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
        *_of_phases(base, candidate),
        *(change for phase in COUNTED_PHASES for change in _of_operators(phase, base, candidate)),
    ]


def _of_the_case(base: CaseCounters, candidate: CaseCounters) -> list[Change]:
    found = []
    if _differ(base.threads, candidate.threads):
        found.append(_numbers(WHOLE_CASE, "threads", base.threads, candidate.threads))
    if _differ(base.parameters, candidate.parameters):
        meaning = "another network: its layers are wider, narrower, more or fewer"
        found.append(_numbers(WHOLE_CASE, "parameters", base.parameters, candidate.parameters, meaning))
    elif _differ(base.parameter_bytes, candidate.parameter_bytes):
        meaning = "the parameters are of another type"
        found.append(
            _numbers(WHOLE_CASE, "parameter bytes", base.parameter_bytes, candidate.parameter_bytes, meaning)
        )
    if not any(change.what.startswith("parameter") for change in found):
        found += [
            _numbers(WHOLE_CASE, label, getattr(base, name), getattr(candidate, name), meaning)
            for name, label, meaning in SIZES
            if _differ(getattr(base, name), getattr(candidate, name))
        ]
    return found


SIZES = (
    ("gradient_bytes", "gradient bytes", "other gradients are kept"),
    ("state_bytes", "optimizer state bytes", "another optimizer, or other options of it"),
    ("leaked_bytes", "bytes leaked by some steps", "what is kept from step to step"),
)
COUNTED = {
    "collections": ("garbage collections", "the garbage collector is called in the step"),
    "synchronisations": ("synchronisations", "the host waits for the device"),
    "copies": ("copies between host and device", ""),
    "kernel_launches": ("kernel launches", ""),
}
"""Counters that tell something which the list of operators does not."""

FOLLOWING = (
    "operators",
    "flop",
    "moved_bytes",
    "autograd_nodes",
    "allocations",
    "allocated_bytes",
    "peak_bytes",
)
"""Counters that mostly follow from the operators, told where these are the same."""


def _of_phases(base: CaseCounters, candidate: CaseCounters) -> list[Change]:
    found = []
    for phase in COUNTED_PHASES:
        a, b = base.phases.get(phase), candidate.phases.get(phase)
        if a is None or b is None:
            continue
        for name, (label, meaning) in COUNTED.items():
            before, after = getattr(a, name), getattr(b, name)
            told_by_line = name == "synchronisations" and (base.waits or candidate.waits)
            if _differ(before, after) and not told_by_line:
                found.append(_numbers(phase, label, before, after, meaning if after > before else ""))
        if uses_of(base.inventory, phase) == uses_of(candidate.inventory, phase):
            following = [name for name in FOLLOWING if _differ(getattr(a, name), getattr(b, name))]
            if following:
                found.append(_following(phase, following, a, b))
    return [*found, *_waits(base, candidate)]


def _following(phase: str, names: Sequence[str], a: PhaseCounters, b: PhaseCounters) -> Change:
    told = [f"{name.replace('_', ' ')} {getattr(a, name):,} → {getattr(b, name):,}" for name in names]
    what = ", ".join(name.replace("_", " ") for name in names)
    return Change(phase, what, "; ".join(told), "the same operators, used or kept otherwise")


def _waits(base: CaseCounters, candidate: CaseCounters) -> list[Change]:
    """Return the lines of code at which the host waits for the device more or less often."""
    sites = dict.fromkeys((*base.waits, *candidate.waits))
    return [
        _numbers(
            site.partition(" at ")[0], f"waits at {site.partition(' at ')[2]}",
            base.waits.get(site, 0), candidate.waits.get(site, 0), "the host waits for the device",
        )
        for site in sites
        if base.waits.get(site, 0) != candidate.waits.get(site, 0)
    ]  # fmt: skip


def _differ(a: int | None, b: int | None) -> bool:
    return a is not None and b is not None and a != b


def _numbers(phase: str, what: str, a: int | None, b: int | None, meaning: str = "") -> Change:
    return Change(phase, what, f"{a:,} → {b:,}", meaning, outside=phase != WHOLE_CASE)


@dataclass(frozen=True)
class Use:
    """Hold how one phase uses one operator: calls, bytes moved, and how often at which shapes and types."""

    calls: int = 0
    moved_bytes: int = 0
    shapes: frozenset[tuple[str, int]] = frozenset()
    dtypes: frozenset[tuple[str, int]] = frozenset()


def uses_of(inventory: Iterable[OperatorCount], phase: str) -> dict[str, Use]:
    """Return how a phase uses each of its operators, by name."""
    groups: dict[str, list[OperatorCount]] = defaultdict(list)
    for operator in inventory:
        if operator.phase == phase:
            groups[operator.operator].append(operator)
    return {
        name: Use(
            sum(one.calls for one in group),
            sum(one.moved_bytes for one in group),
            _counted(one.shapes for one in group for _ in range(one.calls)),
            _counted(one.dtypes for one in group for _ in range(one.calls)),
        )
        for name, group in groups.items()
    }


def _counted(words: Iterable[str]) -> frozenset[tuple[str, int]]:
    return frozenset(Counter(words).items())


def _of_operators(phase: str, base: CaseCounters, candidate: CaseCounters) -> list[Change]:
    """Return the changed operators of a phase: those with other calls as one, other types, other shapes."""
    a, b = uses_of(base.inventory, phase), uses_of(candidate.inventory, phase)
    calls = [name for name in {**b, **a} if a.get(name, Use()).calls != b.get(name, Use()).calls]
    same = [name for name in b if name in a and name not in calls]
    dtypes = [name for name in same if a[name].dtypes != b[name].dtypes]
    shapes = [name for name in same if a[name].shapes != b[name].shapes and name not in dtypes]
    found = []
    if calls:
        found.append(_other_calls(phase, calls, a, b))
    if dtypes:
        types = [", ".join(sorted({kind for n in dtypes for kind, _ in uses[n].dtypes})) for uses in (a, b)]
        found.append(
            Change(phase, _listed(dtypes), f"{types[0]} → {types[1]}", "other types", frozenset(dtypes))
        )
    if shapes:
        first = shapes[0]
        words = [" and ".join(sorted(shape for shape, _ in uses[first].shapes)) for uses in (a, b)]
        found.append(
            Change(phase, _listed(shapes), f"{words[0]} → {words[1]}", "other shapes", frozenset(shapes))
        )
    return found


def _other_calls(phase: str, names: Sequence[str], a: dict[str, Use], b: dict[str, Use]) -> Change:
    def more(name: str) -> int:
        return b.get(name, Use()).calls - a.get(name, Use()).calls

    ranked = sorted(names, key=lambda name: (-abs(more(name)), name))
    calls = [f"{more(name):+d} {name}" for name in ranked]
    bytes_more = sum(use.moved_bytes for use in b.values()) - sum(use.moved_bytes for use in a.values())
    moved = f", {bytes_more / KILO:+,.0f} kB moved" if abs(bytes_more) >= KILO / 2 else ""
    return Change(
        phase,
        _listed(ranked),
        f"{_listed(calls)} per step{moved}",
        _other_way(phase, set(a), set(b))
        or meaning_of(phase, {n for n in names if more(n) > 0}, {n for n in names if more(n) < 0}),
        frozenset(names),
    )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


MEANINGS = (
    ("zero_grad", "zero_", "", "gradients are kept and filled with zeros instead of being set to None"),
    ("zero_grad", "", "zero_", "gradients are set to None"),
    ("backward", "add_", "aten::detach", "gradients are added to those that were kept"),
    ("", "aten::_local_scalar_dense", "", "a value is read, as .item() and print do"),
    ("", "aten::_to_copy", "", "a tensor is converted to another type or device"),
    ("", "aten::clone", "", "a tensor is copied"),
)
"""What it means that a phase (or any) has more calls of one operator, less of another."""


def meaning_of(phase: str, new: set[str], gone: set[str]) -> str:
    """Return what it means that a phase calls some operators more and others less, where that is known."""
    fitting = (
        meaning
        for where, more, less, meaning in MEANINGS
        if where in ("", phase) and _any(more, new) and _any(less, gone)
    )
    return next(fitting, "")


def _other_way(phase: str, before: set[str], after: set[str]) -> str:
    """Return how an optimizer goes over its tensors, where that is another way than before."""
    ways = _way(before), _way(after)
    return (
        f"{ways[1]} instead of {ways[0]}" if phase == "optimizer" and all(ways) and ways[0] != ways[1] else ""
    )


def _any(part: str, names: set[str]) -> bool:
    return not part or any(part in name for name in names)


def _way(names: set[str]) -> str:
    """Return how an optimizer goes over its tensors, by operators that it calls."""
    if not names:
        return ""
    return FUSED if _any("_fused_", names) else FOREACH if _any("_foreach_", names) else LOOP
