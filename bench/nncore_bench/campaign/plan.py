"""The plan of a campaign: its budget, the length of its blocks and the rounds that a target needs."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from nncore_bench.cases import FED, STEP_PHASES, BlockKind, Case, is_part, kind_of
from nncore_bench.options import Options
from nncore_bench.records import CaseRecord
from nncore_bench.runs import Block, by_case
from nncore_bench.worker import messages
from nncore_bench.worker.blocks import least_iterations

BLOCK_S: dict[BlockKind, float] = {
    "laps": 0.040,
    "plain": 0.040,
    "feed": 0.012,
    "inference": 0.008,
    "kernels": 0.060,
    "cold": 0.040,
}
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


def steps_per_block(record: CaseRecord, reply: messages.Prepared) -> dict[BlockKind, int]:
    """Return the iterations of a block of each kind, from how long the fastest of the warm-up took.

    The smallest lap of a block depends on how many it has. So it has the nearest power of 2, which is the
    same in nearly all runs; where steps vary, so are the positions of a block.
    """
    wanted = {
        kind: record.block_share * BLOCK_S[kind] / reply.seconds[kind]
        for kind in record.kinds
        if kind in reply.seconds
    }
    return {
        kind: max(least_iterations(reply.seconds[kind]), 2 ** round(math.log2(max(iterations, 1.0))))
        for kind, iterations in wanted.items()
    }


def phases_had(record: CaseRecord, reply: messages.Prepared) -> tuple[str, ...]:
    """Return those of the wanted phases that a case turned out to have, and all parts of an own step."""
    had = [phase for phase in record.phases if kind_of(phase) in reply.seconds]
    if reply.parts == STEP_PHASES:
        return tuple(had)
    parts = reply.parts if any(phase == "step" or is_part(phase) for phase in had) else ()
    others = [phase for phase in had if not is_part(phase)]
    fed = [phase for phase in others if phase in FED]
    return (*fed, *parts, *(phase for phase in others if phase not in FED))
