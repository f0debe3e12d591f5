"""The plan of a campaign and the rounds that a target needs."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from nncore_bench.cases import BlockKind, Case
from nncore_bench.options import Options
from nncore_bench.runs import Block, by_case

FEWEST_ROUNDS = 2
"""For a campaign that only its budget bounds: a single round shows no spread."""

ROUNDS_OF_THE_SUITE = 4
"""Rounds a launch of the suite: its budget is a minute, and an interval of fewer is too wide for tables."""

ROUNDS_OF_A_COMMAND = 1
"""Rounds a launch of profile, advise and measure_step: they have seconds, so each launch is seen once."""


@dataclass(frozen=True)
class Plan:
    """The budget of a campaign in seconds, its target precision, and its random seed.

    `until` is the moment of the monotonic clock by which all is to be over, warm-up and counting included,
    whatever is left out for that but the first case.
    """

    launches: int
    budget_s: float
    target: float
    least_rounds: int = FEWEST_ROUNDS
    seed: int = 0
    until: float = math.inf

    @classmethod
    def of(cls, options: Options, rounds_a_launch: int) -> "Plan":
        """Return the plan that options ask for, with a seed of its own."""
        seed, rounds = random.SystemRandom().randrange(2**32), rounds_a_launch * options.launches
        return cls(options.launches, options.budget, options.target, rounds, seed)


def rounds_for(target: float, pilot: Sequence[Block], cases: Sequence[Case]) -> int:
    """Return the rounds needed for the half-width of a 95 % interval of a block's time to reach a target.

    By the normal approximation n = (z · s / (target · mean))², with s from the pilot's plain blocks, or from
    the first kind by name; nine tenths of the cases need no more rounds. Blocks number the `cases`.
    """
    kinds = {block.kind for block in pilot}
    kind: BlockKind = "plain" if "plain" in kinds else min(kinds, default="plain")
    blocks = {number: of_case[kind] for number, of_case in by_case(pilot).items() if kind in of_case}
    times_of = [[one.iteration_ns(cases[number]) for one in of] for number, of in blocks.items()]
    spreads = [np.std(times, ddof=1) / np.mean(times) for times in times_of if len(times) > 1]
    if not spreads:
        return 1
    needed = (float(ndtri(0.975)) * np.quantile(spreads, 0.9) / target) ** 2
    return max(1, math.ceil(float(needed)))
