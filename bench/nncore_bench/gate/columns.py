"""The columns that the gate judges: cases, and means over them, as log-ratios of launch pairs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nncore_bench.cases import Case
from nncore_bench.gate.ratios import STEP, PairRatios
from nncore_bench.gate.rule import SUITE, TAIL_MARGIN, Kind, Rule
from nncore_bench.gate.signflip import FEWEST_PAIRS, Floats


@dataclass(frozen=True, eq=False)
class Column:
    """The subject of one verdict: log-ratios of shape [pairs], of low estimates and of block means.

    `margin` is the share by which it may be slower and still pass, `mean_margin` that of its block means.
    """

    name: str
    kind: Kind
    low: Floats
    mean: Floats
    margin: float
    mean_margin: float = TAIL_MARGIN

    def __post_init__(self) -> None:
        if self.low.ndim != 1 or self.low.shape != self.mean.shape or len(self.low) < FEWEST_PAIRS:
            raise ValueError(
                f"{self.name}: log-ratios of shapes {self.low.shape} and {self.mean.shape} (give one of each"
                " kind for every launch pair, two pairs or more)"
            )
        if not (np.isfinite(self.low).all() and np.isfinite(self.mean).all()):
            raise ValueError(f"{self.name}: a log-ratio is not finite (leave its pair out of all columns)")


def columns_of(
    measured: Mapping[Case, Sequence[PairRatios]], judged: Mapping[Case, Collection[str]], rule: Rule
) -> list[Column]:
    """Return a column for the step of each case, then those over cases: phases, devices and the suite.

    `judged` names the phases of each case that can be judged. A column over cases is their mean log-ratio,
    pair by pair: a phase over the cases that have it; a device over the steps of its cases, if there are two
    devices or more; the suite over all steps. A single case is no suite: the suite's narrower margin would
    replace its own.
    """
    cases = list(measured)
    phases = [
        phase for phase in dict.fromkeys(name for case in cases for name in judged[case]) if phase != STEP
    ]
    devices = list(dict.fromkeys(case.device for case in cases))

    def mean_over(cases: Sequence[Case], name: str, kind: Kind, phase: str = STEP) -> Column:
        low, mean = (
            np.mean([[getattr(pair, times)[phase] for pair in measured[case]] for case in cases], axis=0)
            for times in ("low", "mean")
        )
        excess = np.mean([np.median([pair.shared_excess for pair in measured[case]]) for case in cases])
        return Column(name, kind, low, mean, rule.margin_of(kind), rule.mean_margin(float(excess)))

    found = [mean_over([case], case.key, "case") for case in cases]
    found += [mean_over([c for c in cases if p in judged[c]], p, "phase", p) for p in phases]
    if len(devices) > 1:
        found += [mean_over([c for c in cases if c.device == d], d, "device") for d in devices]
    if len(cases) > 1:
        found.append(mean_over(cases, SUITE, "suite"))
    return found
