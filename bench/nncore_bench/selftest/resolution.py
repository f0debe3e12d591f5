"""What can be told apart on this machine: the smallest change that a run, `compare` and `gate` will see."""

import random
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from math import exp, log1p
from operator import attrgetter

import numpy as np
from scipy.special import stdtrit

from nncore_bench.campaign.conductor import Progress
from nncore_bench.cases import Case
from nncore_bench.compare.explain import MARGIN
from nncore_bench.estimate.drift import RUN_TO_RUN
from nncore_bench.estimate.estimates import COVERAGE, OF_RATIOS, Spread, launch_spread, moderated
from nncore_bench.gate.decide import DETECTION, smallest_detectable
from nncore_bench.gate.ratios import STEP, PairRatios
from nncore_bench.gate.revisions import Layout, Revision
from nncore_bench.gate.rule import Rule
from nncore_bench.gate.sides import SIDES, Sides
from nncore_bench.gate.templates import HASH_SEEDS, Templates
from nncore_bench.selftest.injected import Planted, lay_out_planted
from nncore_bench.text.format import percentage
from nncore_bench.text.table import Column, Table

LAUNCHES = 4
"""The launches of a run of the default length (--step-launches)."""

GATE_COLUMNS = 36
"""The tests of a gate of the default grid: 18 columns, by low estimates and by block means."""


CAPTION = (
    "The smallest change of a step that is seen nine times in ten, at the default length, in an hour as loud"
    " as this one. run: between two cases of a run. compare: between two runs, the machine's drift taken out."
    " gate: between two revisions, launched in pairs."
)


@dataclass(frozen=True)
class Resolution:
    """The smallest changes of a case's step, as shares, that are seen nine times in ten; None is unknown.

    `run` is between two cases of one run, `compare` between two runs, `gate` between two revisions, each of
    the default length.
    """

    case: Case
    run: float | None
    compare: float | None
    gate: float | None


def equal_pairs(cases: Sequence[Case], pairs: int, progress: Progress) -> list[dict[Case, PairRatios]]:
    """Return launch pairs of the same code on both sides; raises SideError, WorkerError."""
    coins = random.Random(random.SystemRandom().randrange(HASH_SEEDS))  # noqa: S311 - coins, and no secret
    lay_out = partial(lay_out_planted, dict.fromkeys(SIDES, Planted()))
    with (
        closing(Layout(lay_out, *(Revision(name, "") for name in SIDES))) as layout,
        closing(Templates((sys.executable, sys.executable), coins)) as templates,
    ):
        sides, found = Sides(cases, layout, templates, progress, coins), []
        for done in range(pairs):
            progress("launch pairs", done, pairs, None)
            found.append(sides.pair(cases))
        return found


def resolutions(
    twins: Mapping[Case, Spread | None],
    relative: Mapping[Case, Spread | None],
    pairs: Sequence[Mapping[Case, PairRatios]],
) -> list[Resolution]:
    """Return the resolution of each case.

    `twins` are the standard deviations over launches of how many times as long a case took as its twin,
    `relative` those of its step relative to the reference networks, both as logarithms; `pairs` are launch
    pairs of equal code.
    """
    in_pairs = {case: launch_spread(np.array([pair[case].low[STEP] for pair in pairs])) for case in twins}
    found = [
        {
            case: seen(deviation.error)
            for case, deviation in zip(of, moderated([*of.values()]), strict=True)
            if deviation is not None
        }
        for of, seen in ((twins, seen_in_run), (relative, seen_by_compare), (in_pairs, seen_by_gate))
    ]
    return [Resolution(case, *(of.get(case) for of in found)) for case in twins]


def resolution_table(found: Sequence[Resolution]) -> Table:
    """Return the table that the self-test ends with."""
    columns = [
        Column("batch", "batch_size", attrgetter("case.batch_size")),
        Column("hidden", "hidden", attrgetter("case.hidden")),
        *(Column(f"{name} %", name, attrgetter(name), percentage) for name in ("run", "compare", "gate")),
    ]
    return Table.of("resolution", "What can be told apart here", CAPTION, columns, found)


def seen_in_run(deviation: float) -> float:
    """Return the smallest difference of two cases whose interval inside a run excludes none."""
    return _seen(Spread(deviation, LAUNCHES - 1.0), 0.0)


def seen_by_compare(deviation: float) -> float:
    """Return the smallest slowdown that `compare` of two runs calls suspect."""
    run = Spread(OF_RATIOS * deviation, LAUNCHES - 1.0).joined(RUN_TO_RUN)
    return _seen(run.joined(run), log1p(MARGIN))


def seen_by_gate(deviation: float) -> float:
    """Return the smallest slowdown that a gate of the default grid and margin calls slower."""
    rule = Rule()
    return smallest_detectable(deviation, rule.second_pairs, GATE_COLUMNS, rule.margin, rule.alpha)


def _seen(spread: Spread, least: float) -> float:
    """Return the share whose logarithm exceeds the interval, and `least`, nine times in ten."""
    beyond = max(least, spread.half_width_of(COVERAGE))
    return exp(beyond + float(stdtrit(spread.freedom, DETECTION)) * spread.error) - 1
