"""Columns of the gate whose ratio and spread are known exactly, and pairs of cases."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log

import numpy as np
from made_up_runs import CPU_CASE

from nncore_bench.cases import Case
from nncore_bench.gate.columns import Column
from nncore_bench.gate.decide import Decision, confirm
from nncore_bench.gate.ratios import PairRatios
from nncore_bench.gate.rule import Rule
from nncore_bench.gate.signflip import Floats

RULE = Rule(alpha_pass=0.05)


def pairs_of(ratio: float, deviation: float, pairs: int = 16) -> Floats:
    """Return log-ratios with exactly this mean and standard deviation, spread evenly and not in order."""
    even = np.random.default_rng(0).permutation(np.arange(pairs) - (pairs - 1) / 2)
    return log(ratio) + deviation * even / even.std(ddof=1)


def column(
    ratio: float,
    deviation: float = 0.005,
    *,
    mean: tuple[float, float] | None = None,
    pairs: int = 16,
    name: str = "a",
) -> Column:
    """Return a column of a known ratio; `mean` is the ratio and deviation of its block means, if others."""
    low = pairs_of(ratio, deviation, pairs)
    return Column(name, "case", low, low if mean is None else pairs_of(*mean, pairs), RULE.margin)


def confirmed(*columns: Column, rule: Rule = RULE) -> list[Decision]:
    return list(confirm(columns, rule, np.random.default_rng(0)).values())


def case_of(name: str, device: str = "cpu") -> Case:
    return replace(CPU_CASE, variant=name, device=device)


def measured(low: Mapping[str, Sequence[float]], *, mean_factor: float = 1.0) -> list[PairRatios]:
    """Return pairs with these low log-ratios by phase; those of block means are a multiple of them."""
    pairs = [dict(zip(low, values, strict=True)) for values in zip(*low.values(), strict=True)]
    return [
        PairRatios(pair, {phase: mean_factor * y for phase, y in pair.items()}, {}, (), ()) for pair in pairs
    ]
