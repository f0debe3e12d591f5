"""What the gate has a verdict on: cases, and the means over them, as log-ratios of launch pairs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from nncore_bench.gate.rule import SUITE, Kind, Rule
from nncore_bench.gate.signflip import FEWEST_PAIRS, Floats

STEP = "step"


@dataclass(frozen=True, eq=False)
class CaseRatios:
    """Hold the log-ratios of one case, candidate over base: of each phase an array of shape [pairs].

    `low` are those of the low estimates, `mean` those of the block means. Both name the same phases, and the
    whole step is one of them.
    """

    name: str
    device: str
    low: Mapping[str, Floats]
    mean: Mapping[str, Floats]

    def __post_init__(self) -> None:
        if STEP not in self.low or set(self.low) != set(self.mean):
            raise ValueError(
                f"case {self.name}: low estimates of {', '.join(self.low) or 'nothing'} and block means of"
                f" {', '.join(self.mean) or 'nothing'} (give both of the same phases, the step among them)"
            )


@dataclass(frozen=True, eq=False)
class Column:
    """Hold what one verdict is about: log-ratios of shape [pairs], of low estimates and of block means.

    `margin` is the share by which it may be slower and still pass.
    """

    name: str
    kind: Kind
    low: Floats
    mean: Floats
    margin: float

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"{self.name}: {self.kind!r} is no kind of column ({', '.join(get_args(Kind))})")
        if not 0 < self.margin < 1:
            raise ValueError(
                f"{self.name}: margin {self.margin} is not a share between 0 and 1 (example: 0.05)"
            )
        if self.low.ndim != 1 or self.low.shape != self.mean.shape or len(self.low) < FEWEST_PAIRS:
            raise ValueError(
                f"{self.name}: log-ratios of shapes {self.low.shape} and {self.mean.shape} (give one of each"
                " kind for every launch pair, two pairs or more)"
            )
        if not (np.isfinite(self.low).all() and np.isfinite(self.mean).all()):
            raise ValueError(f"{self.name}: a log-ratio is not finite (leave void pairs out, of all columns)")


def case_columns(cases: Iterable[CaseRatios], rule: Rule) -> list[Column]:
    """Return one column per case: its whole step."""
    return [
        Column(case.name, "case", case.low[STEP], case.mean[STEP], rule.margin_of("case")) for case in cases
    ]


def group_columns(cases: Sequence[CaseRatios], rule: Rule) -> list[Column]:
    """Return the columns over cases, each the mean log-ratio of its cases: phases, devices and the suite.

    A phase is the mean over the cases that have it; a device that of its cases' steps, where there are two
    devices or more; the suite that of all steps. A single case is no suite: the suite's narrower margin
    would take the place of its own.
    """
    phases = [phase for phase in dict.fromkeys(name for case in cases for name in case.low) if phase != STEP]
    devices = list(dict.fromkeys(case.device for case in cases))
    found = [_mean_over([c for c in cases if p in c.low], p, p, "phase", rule) for p in phases]
    if len(devices) > 1:
        found += [_mean_over([c for c in cases if c.device == d], STEP, d, "device", rule) for d in devices]
    if len(cases) > 1:
        found.append(_mean_over(cases, STEP, SUITE, "suite", rule))
    return found


def _mean_over(cases: Sequence[CaseRatios], phase: str, name: str, kind: Kind, rule: Rule) -> Column:
    counts = sorted({len(side[phase]) for case in cases for side in (case.low, case.mean)})
    if len(counts) > 1:
        raise ValueError(
            f"{name}: cases of {' and '.join(map(str, counts))} pairs (a pair void in one is left out of all)"
        )
    low = np.mean([case.low[phase] for case in cases], axis=0)
    mean = np.mean([case.mean[phase] for case in cases], axis=0)
    return Column(name, kind, low, mean, rule.margin_of(kind))
