"""The gate's rule: margins, error rates and numbers of pairs, fixed before anything is measured."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from nncore_bench.gate.signflip import DRAWS, FEWEST_PAIRS, smallest_p

Kind: TypeAlias = Literal["case", "phase", "device", "suite"]
SUITE = "suite"
TAIL_MARGIN = 0.05
"""Block means have at least this margin; a narrower one is for undisturbed times alone."""


@dataclass(frozen=True)
class Rule:
    """Shares, and numbers of launch pairs, fixed before anything is measured.

    A case, a phase or a device may be slower by `margin` and still pass, the mean over all cases, which is
    known better, by `suite_margin`. `alpha` is the share of runs of identical code in which anything at all
    may be called slower, `alpha_pass` that of the two-sided interval that proves "same". The second stage has
    at least `second_pairs`, and at most `most_pairs` however much of the budget is left.
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
        for name in ("first_pairs", "second_pairs"):
            if getattr(self, name) < FEWEST_PAIRS:
                raise ValueError(
                    f"{name}: {getattr(self, name)} leaves no spread to judge by (give 2 or more)"
                )
        if smallest_p(self.second_pairs) > self.alpha:
            raise ValueError(self._out_of_reach)

    @property
    def _out_of_reach(self) -> str:
        smallest = smallest_p(self.second_pairs)
        if self.alpha < 1 / DRAWS:
            return (
                f"alpha: {self.alpha} is below 1 in {DRAWS:,}, the smallest p of the test (give a larger one)"
            )
        return (
            f"second_pairs: {self.second_pairs} pairs give no p below {smallest:.2g}, so nothing could be"
            f" slower at alpha {self.alpha} (give more pairs, or a larger alpha)"
        )

    @property
    def mean_margin(self) -> float:
        """The margin of block means in every column: they are there for tails."""
        return max(self.margin, TAIL_MARGIN)

    def margin_of(self, kind: Kind) -> float:
        """Return the margin of a kind of column."""
        return self.suite_margin if kind == SUITE else self.margin
