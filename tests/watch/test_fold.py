"""From marks to steps: what belongs to which phase, and what lies outside of steps."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from nncore_bench.cases import OTHER
from nncore_bench.estimate.observed import cost_of_seams, observed
from nncore_bench.watch.fold import BETWEEN, ELSEWHERE, Watched, watched_of, windows_of
from nncore_bench.watch.marks import STEPPED, window_mark
from nncore_bench.watch.phases import WAITING
from nncore_bench.watch.windows import BARE, EXAMINED, EXAMINED_AT_MOST, IDLE, PAUSED, WATCHED, Plan

NAMES = [
    "other",
    "data:0",
    "forward",
    "backward",
    "optimizer",
    "zero_grad",
    "data:1",
    "evaluation",
    "checkpoint",
]
PLAIN = [("data:0", 10), ("forward", 20), ("other", 1), ("backward", 40), ("other", 2), ("optimizer", 8)]


class Process:
    """A made-up process that leaves marks: its clock goes on with each phase."""

    def __init__(self) -> None:
        self.now, self.marks, self.steps = 1_000, list[tuple[int, int]](), 0

    def window(self, kind: int, leader: int = 0) -> None:
        self.marks.append((window_mark(kind, leader, self.steps), self.now))

    def step(self, stretches: Sequence[tuple[str, int]], *optimizers: int) -> None:
        """Run phases one after another; the optimizers' steps end within the last one."""
        for name, ns in stretches:
            self.marks.append((NAMES.index(name), self.now))
            self.now += ns
        for number in optimizers or (0,):
            self.marks.append((STEPPED | number, self.now))
        self.steps += 1
        self.marks.append((NAMES.index("other"), self.now))


def seen(process: Process) -> Watched:
    return watched_of(windows_of(process.marks, NAMES))


def watching(*steps: Sequence[tuple[str, int]]) -> Watched:
    process = Process()
    process.window(WATCHED)
    for step in (PLAIN, *steps):  # the first is the leading one
        process.step(step)
    return seen(process)


def test_phases_are_exclusive_and_add_up() -> None:
    (parts,) = watching(PLAIN, PLAIN).parts_ns
    assert parts == {
        WAITING: [10, 10], "forward": [20, 20], OTHER: [3, 3], "backward": [40, 40], "optimizer": [8, 8],
    }  # fmt: skip
    assert watching(PLAIN, PLAIN).watched_ns == [[81, 81]]


def test_the_leading_step_of_a_window_is_left_out() -> None:
    process = Process()
    for kind in (BARE, WATCHED, IDLE):
        process.window(kind)
        for number in range(4):
            process.step(PLAIN if kind == WATCHED else [("other", 100 + number)])
    found = seen(process)
    assert found.bare_ns == [[101, 102, 103]]
    assert found.idle_ns == [[101, 102, 103]]
    assert found.watched_ns == [[81, 81, 81]]


def test_steps_of_other_optimizers_do_not_end_a_step() -> None:
    process = Process()
    process.window(WATCHED, leader=2)
    for _ in range(3):
        process.step([("forward", 5), ("optimizer", 7)], 1)
        process.step([("forward", 11), ("optimizer", 13)], 2)
    found = seen(process)
    assert found.parts_ns[0]["forward"] == [16, 16]
    assert found.parts_ns[0]["optimizer"] == [20, 20]


def test_evaluation_and_what_surrounds_it_is_outside_of_steps() -> None:
    evaluation = [
        ("other", 3),
        ("data:1", 50),
        ("evaluation", 500),
        ("data:1", 50),
        ("evaluation", 500),
        ("other", 9),
    ]
    found = watching(PLAIN, [*evaluation, *PLAIN], *[PLAIN] * 8)
    assert found.outside_ns == {"evaluation": [1112]}
    assert found.watched_ns == [[81] * 10]


def test_a_checkpoint_is_outside_of_steps() -> None:
    found = watching([("checkpoint", 400), ("other", 2), *PLAIN], PLAIN)
    assert found.outside_ns == {"checkpoint": [402]}
    assert found.watched_ns == [[81, 81]]


def test_a_forward_without_gradients_in_each_step_belongs_to_it() -> None:
    """As that of a teacher, or of a target network."""
    step = [*PLAIN[:1], ("evaluation", 30), *PLAIN[1:]]
    found = watching(*[step] * 9)
    assert not found.outside_ns
    assert found.parts_ns[0]["forward"] == [50] * 9


def test_training_between_two_absences_stays_in_the_step() -> None:
    step = [("checkpoint", 400), *PLAIN[:4], ("other", 2), ("evaluation", 700), *PLAIN[4:]]
    found = watching(step, *[PLAIN] * 9)
    assert found.outside_ns == {"checkpoint": [400], "evaluation": [704]}
    assert found.watched_ns[0][0] == 10 + 20 + 1 + 40 + 8


def test_a_rare_long_stretch_in_no_phase_is_elsewhere_and_a_usual_one_is_other() -> None:
    rare = watching(*[PLAIN] * 19, [("other", 1_000), *PLAIN])
    assert rare.outside_ns == {ELSEWHERE: [1_000]}
    usual = watching(*[[("other", 1_000), *PLAIN]] * 20)
    assert not usual.outside_ns
    assert usual.parts_ns[0][OTHER] == [1_003] * 20


def test_without_a_loader_what_precedes_the_forward_is_between_steps() -> None:
    step = [("other", 30), ("zero_grad", 4), ("other", 6), ("forward", 20), ("other", 5), ("optimizer", 9)]
    (parts,) = watching(step, step).parts_ns
    assert parts[BETWEEN] == [36, 36]
    assert parts[OTHER] == [5, 5]


def test_means_add_up_to_the_mean_of_the_step_and_shares_to_one() -> None:
    lines = observed(watching(PLAIN, [("data:0", 100), *PLAIN[1:]], PLAIN))
    *phases, step = lines
    assert sum(one.mean.value for one in phases) == pytest.approx(step.mean.value)
    assert sum(one.share for one in phases) == pytest.approx(1.0)
    assert step.mean.value == pytest.approx((81 + 171 + 81) / 3 * 1e-9)
    assert [one.phase for one in phases] == ["forward", "backward", "optimizer", WAITING, OTHER]


def test_the_cost_of_seams_is_found_in_noise() -> None:
    """Rounds differ by 10 %, steps by 5 %; the seams add 7 µs to a step of 500 µs."""
    random, held = np.random.default_rng(0), 0
    for _ in range(200):
        rounds = 500_000 * (1 + 0.1 * random.random(12))
        bare = [level * (1 + 0.05 * random.standard_exponential(10)) for level in rounds]
        marked = [7_000 + level * (1 + 0.05 * random.standard_exponential(10)) for level in rounds]
        cost = cost_of_seams(marked, bare)
        assert cost is not None
        assert cost.low is not None
        assert cost.high is not None
        held += cost.low <= 7e-6 <= cost.high
    assert held >= 0.93 * 200


def test_the_interval_of_a_cost_is_that_of_the_order_of_its_differences() -> None:
    """Of nine, the second to the eighth hold the median in 96.1 % (binomial table)."""
    differences = [3, 1, 4, 15, 9, 2, 6, 5, 35]
    cost = cost_of_seams([[1_000 + ns] for ns in differences], [[1_000]] * 9)
    assert cost is not None
    assert (cost.value, cost.low, cost.high) == pytest.approx((5e-9, 2e-9, 15e-9))
    few = cost_of_seams([[7]] * 5, [[5]] * 5)
    assert few is not None
    assert few.low is None


def windows(plan: Plan, steps: int) -> Iterator[tuple[int, int]]:
    done = plan.skip
    for kind, length in plan.windows():
        yield kind, length
        done += length
        if done > steps:
            return


def test_windows_come_in_rounds_of_each_kind_and_pauses_grow() -> None:
    found = list(windows(Plan(seed=1), 20_000))
    assert [kind for kind, _ in found].count(EXAMINED) == EXAMINED_AT_MOST
    assert [kind for kind, _ in found[:4]].count(EXAMINED) == 1
    rounds = [kind for kind, _ in found if kind not in (PAUSED, EXAMINED)]
    for begin in range(0, len(rounds) - 3, 3):
        assert {*rounds[begin : begin + 3]} == {BARE, IDLE, WATCHED}
    pauses = [length for kind, length in found if not kind]
    assert pauses == sorted(pauses)
    assert pauses[-1] > 1_000
    orders = {tuple(rounds[begin : begin + 3]) for begin in range(0, len(rounds) - 3, 3)}
    assert len(orders) == 6


def test_as_many_steps_are_watched_as_asked() -> None:
    kinds = [kind for kind, _ in Plan(steps=50, pause=0.0).windows()]
    assert kinds.count(WATCHED) == 5
