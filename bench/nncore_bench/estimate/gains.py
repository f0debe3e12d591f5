"""Gains: how much faster variants of a step are than the plain one, and when they pay off."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, inf, log, sqrt
from statistics import median
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from nncore_bench.cases import STEP_PHASES, BlockKind, Case
from nncore_bench.estimate.estimates import COVERAGE, Estimate, launch_spread, moderated
from nncore_bench.estimate.laps import lows_of
from nncore_bench.records import CaseRecord
from nncore_bench.runs import NANO, Block, BlocksOfCase, by_case
from nncore_bench.variants import EAGER, PRECISIONS, WORDS, canonical, made_faster, words_of

PLAIN_PRECISION = PRECISIONS[0]
ERRORS = ("loss_error", "gradient_error", "parameter_error")
Judgement: TypeAlias = Literal[
    "faster", "slower", "no difference", "undecided", "other numbers", "cannot run"
]
Times: TypeAlias = Mapping[tuple[int, int], float]
"""Seconds of an iteration by launch and round."""

WORTH_IT = 1.01
"""The least speed-up that is worth a line of code, however sure it is."""

SAME_WITHIN = 1.05
"""Report no difference only if the interval lies within this factor."""

NOT_WORDS = ("precision", "threads")
KINDS: Mapping[str, BlockKind] = {"step": "plain", "inference": "inference", "feeding": "feed"}


@dataclass(frozen=True)
class Gain:
    """The gain of a variant over the plain step, in the same rounds of the same processes.

    `about` is its aim: the step, inference, or the loop that feeds the step. `speed_up` is the ratio of the
    times, with an interval that holds for all variants of a table together; None where nothing was measured.
    `time_s` is that of one plain iteration over the speed-up. `error` is the largest relative error of loss,
    gradients and parameters after some steps; `extra_bytes` the peak memory of a step beyond that of the
    plain one; `once_s` the time that the first step takes beyond the others, and `pays_after` the steps after
    which that has been saved (infinite if never). `optimizer_code` makes the subject's own optimizer in this
    form; `own_step` tells that the subject has a training step of its own.
    """

    case: Case
    about: str
    judgement: Judgement
    reason: str = ""
    speed_up: Estimate | None = None
    time_s: float | None = None
    error: float | None = None
    extra_bytes: int | None = None
    once_s: float | None = None
    pays_after: float | None = None
    optimizer_code: str = ""
    own_step: bool = False

    @property
    def worth_it(self) -> bool:
        """Return whether it is surely faster, by 1 % or more, and computes the same numbers."""
        return self.judgement == "faster" and self._looks_faster

    @property
    def may_be_worth_it(self) -> bool:
        """Return whether it is undecided, looked faster, and may be so by 5 % or more."""
        high = self.speed_up.high if self.speed_up else None
        return self.judgement == "undecided" and self._looks_faster and (high or 0.0) >= SAME_WITHIN

    @property
    def _looks_faster(self) -> bool:
        return self.speed_up is not None and self.speed_up.value >= WORTH_IT

    @property
    def least_speed_up(self) -> float:
        """Return the lower bound of the speed-up; 0 where nothing was measured."""
        return (self.speed_up.low or 0.0) if self.speed_up else 0.0


def variants_in(records: Sequence[CaseRecord], blocks: Sequence[Block]) -> dict[Case, list[Gain]]:
    """Return the gains over each plain case of the others of its device, batch size and width.

    A case is plain if it was measured eager, in float32, on the fewest threads. Plain cases
    beside which only the thread count varies are left out: they have a table of their own.
    """
    groups: dict[Case, list[CaseRecord]] = {}
    for record in records:
        groups.setdefault(record.case.alike, []).append(record)
    found = {}
    for group in groups.values():
        plain = [one for one in group if (one.case.variant, one.case.precision) == (EAGER, PLAIN_PRECISION)]
        measured = [record.case for record in plain if record.status == "ok"]
        if measured and len(plain) < len(group):
            base = min(measured, key=lambda case: case.threads)
            if gained := gains(records, blocks, base):
                found[base] = gained
    return found


def gains(records: Sequence[CaseRecord], blocks: Sequence[Block], base: Case) -> list[Gain]:
    """Return the gain over the base of each other case of its device, batch size and width, in their order.

    Variants whose aim (step, inference, feeding) was not measured for the base are left out.
    """
    numbered = by_case(blocks)
    of_case = {record.case: numbered[number] for number, record in enumerate(records)}
    plain = next(record for record in records if record.case == base)
    others = [
        record
        for record in records
        if record.case != base
        and record.case.alike == base.alike
        and KINDS[made_faster(record.case.variant)] in {*record.kinds} & {*plain.kinds}
    ]
    found: dict[Case, Gain] = {}
    for about, kind in _by_aim(others).items():
        usual = _of_turns(of_case[base], base, about)
        own = [_of_turns(of_case[one.case], one.case, about) for one in kind]
        averaged = about == "feeding" or base.on_device
        speed_ups = _speed_ups(own, usual, averaged=averaged)
        lows = None if about == "feeding" else lows_of(of_case[base], about, base)  # its loop has means
        plain_s = lows.run_ns * NANO if lows else _of_run(usual, averaged=True)
        for record, speed_up in zip(kind, speed_ups, strict=True):
            found[record.case] = _gain(record, plain, plain_s, speed_up)
    return [found[record.case] for record in others]


def _by_aim(records: Sequence[CaseRecord]) -> dict[str, list[CaseRecord]]:
    found: dict[str, list[CaseRecord]] = {}
    for record in records:
        found.setdefault(made_faster(record.case.variant), []).append(record)
    return found


def _of_turns(blocks: BlocksOfCase, case: Case, about: str) -> Times:
    return {block.turn: block.iteration_ns(case) * NANO for block in blocks[KINDS[about]]}


def _of_run(times: Times, *, averaged: bool) -> float:
    """Return the smallest time, or the median of those that are means; infinite without any."""
    return (median if averaged else min)([*times.values()] or [inf])


def _speed_ups(own: Sequence[Times], plain: Times, *, averaged: bool) -> list[Estimate | None]:
    """Return the ratios of the plain time to each, with intervals that hold for all at once; None if unknown.

    Each is the mean over the launches of the ratio of their smallest times, and the intervals come from how
    these differ (see `moderated`; Bonferroni's bound). Means of blocks (`averaged`) have medians. With a
    single launch its rounds take the place of launches; they lie closer together than launches would.
    """
    logs = [_log_ratios(times, plain, averaged=averaged) for times in own]
    coverage = 1 - (1 - COVERAGE) / max(len(own), 1)
    return [
        None
        if deviation is None
        else Estimate.around_ratio(
            exp(float(ratios.mean())), deviation.scaled(1 / sqrt(len(ratios))).half_width_of(coverage)
        )
        for ratios, deviation in zip(logs, moderated([*map(launch_spread, logs)]), strict=True)
    ]


def _gain(record: CaseRecord, plain: CaseRecord, plain_s: float, speed_up: Estimate | None) -> Gain:
    """Return the gain of a case over the plain one, which takes `plain_s`."""
    about = made_faster(record.case.variant)
    if record.status != "ok":
        return Gain(record.case, about, "cannot run", record.reason)
    if speed_up is None:
        return Gain(record.case, about, "cannot run", "no two rounds were finished")
    errors = [record.correct[name] for name in ERRORS if name in record.correct]
    error = float(np.max(errors)) if errors else 0.0  # NaN if one of them is
    time_s = plain_s / speed_up.value
    once_s = max(0.0, record.correct.get("first_step_s", 0.0) - time_s) if about == "step" else 0.0
    gained = time_s * (speed_up.value - 1)
    return Gain(
        record.case,
        about,
        _judgement(speed_up, error, record.correct.get("tolerance", inf)),
        speed_up=speed_up,
        time_s=time_s,
        error=error,
        extra_bytes=_extra_bytes(record, plain),
        once_s=once_s,
        pays_after=once_s / gained if gained > 0 else inf,
        optimizer_code=record.optimizer_code,
        own_step=record.parts != STEP_PHASES,
    )


def _judgement(speed_up: Estimate, error: float, tolerance: float) -> Judgement:
    if not error <= tolerance:  # NaN does not agree
        return "other numbers"
    faster = speed_up.exceeds(1)
    if faster is not None:
        return "faster" if faster else "slower"
    same = speed_up.exceeds(1 / SAME_WITHIN) and speed_up.exceeds(SAME_WITHIN) is False
    return "no difference" if same else "undecided"


def _log_ratios(times: Times, plain_times: Times, *, averaged: bool) -> npt.NDArray[np.float64]:
    """Return the logarithm of the speed-up in each launch; with a single launch that of each round."""
    common = sorted(times.keys() & plain_times.keys())
    if len({launch for launch, _ in common}) == 1:
        return np.array([log(plain_times[turn] / times[turn]) for turn in common])
    by_launch: dict[int, list[tuple[int, int]]] = {}
    for turn in common:
        by_launch.setdefault(turn[0], []).append(turn)
    own, plain = (
        [_of_run({turn: of[turn] for turn in turns}, averaged=averaged) for turns in by_launch.values()]
        for of in (times, plain_times)
    )
    return np.log(plain) - np.log(own)


def _extra_bytes(record: CaseRecord, plain: CaseRecord) -> int | None:
    """Return the memory beyond the plain step's; None if compiled, where counters see the eager operators."""
    if record.case.form.compiled:
        return None
    own, usual = (of.peak_bytes if (of := one.counted("step")) else None for one in (record, plain))
    return None if own is None or usual is None else own - usual


def combinations(found: Sequence[Gain], base: Case) -> list[Case]:
    """Return the cases that join the fastest change of each kind; none, one or two.

    One joins the changes that are surely faster; the other also those that looked faster but are undecided,
    since their gain may show together. A single change is no combination: it was measured already.
    """
    of_step = [gain for gain in reversed(found) if gain.about == "step"]  # of equals the first comes last
    rising = sorted(of_step, key=lambda gain: (gain.worth_it, gain.least_speed_up))
    joined = []
    for hopeful in (False, True):
        best: dict[str, Any] = {}
        for gain in rising:
            if gain.worth_it or (hopeful and gain.may_be_worth_it):
                best |= _changes(gain.case, base)
        if len(best) > 1:
            own = {name: best.pop(name) for name in NOT_WORDS if name in best}
            joined.append(replace(base, variant=canonical(best.values()), **own))
    return list(dict.fromkeys(joined))


def _changes(case: Case, base: Case) -> dict[str, Any]:
    """Return the changes of a case by kind: the words of its variant, and its precision and threads."""
    words = {WORDS[word].kind: word for word in words_of(case.variant)}
    own = {name: getattr(case, name) for name in NOT_WORDS}
    return words | {name: value for name, value in own.items() if value != getattr(base, name)}
