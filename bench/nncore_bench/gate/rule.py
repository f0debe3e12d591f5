"""The gate's rule: margins, error rates and numbers of pairs, fixed before anything is measured."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from nncore_bench.gate.signflip import smallest_p

Kind: TypeAlias = Literal["case", "phase", "device", "suite"]
SUITE = "suite"
TAIL_MARGIN, LOUD_TAIL_MARGIN = 0.05, 0.10
"""The least margin of block means, and the most that a loud machine makes of it.

A narrower one applies to undisturbed times alone.
"""

QUIET_EXCESS = 0.15
"""Block means exceed smallest laps by 1 to 15 % in the recorded gates, few of which met a loud hour."""


@dataclass(frozen=True)
class Rule:
    """Shares, and numbers of launch pairs, fixed before anything is measured.

    A case, a phase or a device that is slower by up to `margin` still passes; the mean over all cases, which
    is known better, has `suite_margin`. `alpha` is the share of runs of identical code in which anything may
    be called slower, and at each stage that in which anything may be called faster; 1 - `alpha_pass` is the
    coverage of the two-sided interval that proves "same". The second stage has at least `second_pairs`, and
    at most `most_pairs` however much of the budget is left.
    """

    margin: float = 0.05
    alpha: float = 0.005
    alpha_pass: float = 0.02
    first_pairs: int = 8
    second_pairs: int = 16
    most_pairs: int = 64
    suite_margin: float = 0.015

    def __post_init__(self) -> None:
        for name in ("margin", "alpha", "alpha_pass", "suite_margin"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(
                    f"{name}: {getattr(self, name)} is not a share between 0 and 1 (example: 0.05)"
                )
        if self.alpha < (smallest := smallest_p(self.second_pairs)):
            raise ValueError(
                f"alpha: {self.alpha} is below 1 in {1 / smallest:,.0f}, the smallest p of the test"
                f" with {self.second_pairs} pairs (give a larger one)"
            )

    def mean_margin(self, shared_excess: float = 0.0) -> float:
        """Return the margin of block means, which reveal tails; it is never less than `margin`.

        `shared_excess` is by how much they exceed the smallest laps on both sides. Up to QUIET_EXCESS it is
        TAIL_MARGIN; half of what a loud machine adds beyond that is added to it, up to LOUD_TAIL_MARGIN.
        """
        loud = TAIL_MARGIN + max(shared_excess - QUIET_EXCESS, 0.0) / 2
        return max(self.margin, min(loud, LOUD_TAIL_MARGIN))

    def margin_of(self, kind: Kind) -> float:
        """Return the margin of a kind of column."""
        return self.suite_margin if kind == SUITE else self.margin
