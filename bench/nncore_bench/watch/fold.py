"""From the marks of a process to its steps, their phases, and what lay outside of them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeAlias

import numpy as np

from nncore_bench.cases import OTHER
from nncore_bench.watch.marks import ALLOCATED, COUNTED, RESIDENT, STEPPED, WINDOW, meaning, window_of
from nncore_bench.watch.phases import CHECKPOINT, DATA, EVALUATION, WAITING
from nncore_bench.watch.windows import BARE, IDLE, WATCHED

BETWEEN = "between steps"
ELSEWHERE = "elsewhere"
NOT_TRAINING = (EVALUATION, CHECKPOINT)
USUAL = 1 / 3
"""What this share of the steps have belongs to training: a DataLoader, or a forward without gradients."""

LONG, RARE = 2.0, 0.1
"""A stretch that is in no phase and takes so many times as long as a whole step, in so few steps at most,
lies outside of them."""

Stretch: TypeAlias = tuple[str, int]
"""A phase under way, and for how many nanoseconds."""


@dataclass
class Window:
    """The steps of a window: when each began, its nanoseconds, and if watched its stretches.

    `after` steps were before it; counting its steps took `counting_ns` each, if that was timed. `memory_kb`
    has what the process held in RAM (RESIDENT) and its tensors on the device (ALLOCATED) when it began.
    """

    kind: int
    after: int = 0
    begun_ns: list[int] = field(default_factory=list)
    whole_ns: list[int] = field(default_factory=list)
    stretches: list[list[Stretch]] = field(default_factory=list)
    counting_ns: list[int] = field(default_factory=list)
    memory_kb: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Watched:
    """What a process was seen to do.

    `parts_ns` has the nanoseconds of each phase in each watched step, in windows, and `after` the steps
    before each of these; `bare_ns` and `idle_ns` have those of whole steps in windows without seams and
    with idle ones, by round. `outside_ns` has the times of what lay between steps and belongs to none.
    `counting_ns` are those that counting a step took. `memory_kb` has, after how many steps, the memory in
    RAM and on the device.
    """

    parts_ns: Sequence[Mapping[str, Sequence[int]]]
    bare_ns: Sequence[Sequence[int]]
    idle_ns: Sequence[Sequence[int]]
    outside_ns: Mapping[str, Sequence[int]]
    after: Sequence[int] = ()
    counting_ns: Sequence[int] = ()
    memory_kb: Sequence[tuple[int, int, int]] = ()

    @property
    def watched_ns(self) -> list[list[int]]:
        """The nanoseconds of the watched steps, by window."""
        return [[sum(step) for step in zip(*parts.values(), strict=True)] for parts in self.parts_ns]


def windows_of(marks: Iterable[tuple[int, int]], names: Sequence[str]) -> list[Window]:
    """Return the windows that marks show, without their leading steps."""
    windows: list[Window] = []
    begun: int | None = None
    stretches: list[Stretch] = []
    phase, since, leader = OTHER, 0, 0
    for mark, value in marks:
        what, number = meaning(mark)
        if what in (COUNTED, RESIDENT, ALLOCATED):
            if windows and what == COUNTED:
                windows[-1].counting_ns.append(number)
            elif windows:
                windows[-1].memory_kb[what] = number
            continue
        stretches.append((phase, value - since))
        since = value
        if what == WINDOW:
            kind, leader, after = window_of(number)
            windows.append(Window(kind, after))
            begun = None
        elif what != STEPPED:
            phase = names[number] if number < len(names) else OTHER
        elif number == leader:
            if begun is not None:
                windows[-1].begun_ns.append(begun)
                windows[-1].whole_ns.append(value - begun)
                windows[-1].stretches.append(stretches)
            begun, stretches = value, []
    return [window for window in windows if window.whole_ns]


def watched_of(windows: Sequence[Window]) -> Watched:
    """Return what some windows show."""
    seen = [step for window in windows if window.kind == WATCHED for step in window.stretches]
    usual = _usual_phases(seen)
    whole = float(np.median([sum(ns for _, ns in step) for step in seen])) if seen else 0.0
    long = LONG * whole
    rare = sum(any(phase == OTHER and ns > long for phase, ns in step) for step in seen) <= RARE * len(seen)
    outside: dict[str, list[int]] = defaultdict(list)
    found: list[list[dict[str, int]]] = []
    for window in windows:
        if window.kind != WATCHED:
            continue
        found.append([])
        for step in window.stretches:
            inside, left = _cut(step, usual, long if rare else np.inf)
            for name, ns in left:
                outside[name].append(ns)
            found[-1].append(_parts(inside, usual))
    names = dict.fromkeys(name for window in found for parts in window for name in parts)
    return Watched(
        [{name: [parts.get(name, 0) for parts in window] for name in names} for window in found],
        [window.whole_ns for window in windows if window.kind == BARE],
        [window.whole_ns for window in windows if window.kind == IDLE],
        outside,
        [window.after for window in windows if window.kind == WATCHED],
        [ns for window in windows for ns in window.counting_ns],
        [
            (window.after, window.memory_kb[RESIDENT], window.memory_kb.get(ALLOCATED, 0))
            for window in windows
            if RESIDENT in window.memory_kb
        ],
    )


def _usual_phases(steps: Sequence[Sequence[Stretch]]) -> set[str]:
    """Return the phases of so many steps that they belong to training.

    Such as its DataLoader, or the forward of a teacher without gradients.
    """
    times = Counter(name for step in steps for name in {phase for phase, _ in step})
    return {name for name, number in times.items() if number >= USUAL * len(steps)} - {CHECKPOINT}


def _cut(step: Sequence[Stretch], usual: set[str], long: float) -> tuple[list[Stretch], list[Stretch]]:
    """Return the stretches of a step that belong to it, and what lay outside of it, each time as one stretch.

    What is no training reaches from the last stretch of training before it to the first one after it.
    """
    away = [
        ns > long if phase == OTHER else phase.startswith((DATA, *NOT_TRAINING)) and phase not in usual
        for phase, ns in step
    ]
    numbers = range(len(step))
    for order, before in ((numbers[1:], -1), (numbers[-2::-1], 1)):
        for number in order:
            away[number] = away[number] or (step[number][0] == OTHER and away[number + before])
    inside = [stretch for stretch, gone in zip(step, away, strict=True) if not gone]
    outside = []
    for gone, run in groupby(numbers, key=away.__getitem__):
        if gone:
            cut = [step[number] for number in run]
            name = next((phase for phase, _ in cut if phase in NOT_TRAINING), ELSEWHERE)
            outside.append((name, sum(ns for _, ns in cut)))
    return inside, outside


def _parts(step: Sequence[Stretch], usual: set[str]) -> dict[str, int]:
    """Return the nanoseconds of each part of a step.

    Where no DataLoader feeds it, what passes in no phase before its first forward is between steps.
    """
    parts: Counter[str] = Counter()
    begun = any(phase.startswith((DATA, WAITING)) for phase in usual)
    for phase, ns in step:
        begun = begun or phase in ("forward", EVALUATION)
        name = WAITING if phase.startswith(DATA) else "forward" if phase == EVALUATION else phase
        parts[BETWEEN if name == OTHER and not begun else name] += ns
    return dict(parts)
