"""The log-ratios of a case in one launch pair: one record from the worker to the verdict and the file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

STEP = "step"


@dataclass(frozen=True)
class PairRatios:
    """The log-ratios of a case in one launch pair, by phase, the whole step among them.

    `low` and `mean` are log-ratios, candidate over base, of smallest and mean laps: medians over the samples.
    The `mean` of the whole step is the ratio of sums, in which a slow call counts however rare it is and
    whatever phase it is in. `base_s` is the smallest lap of the base in seconds. `low_ns` and
    `mean_ns` are the smallest and the mean lap of each sample of the whole step, base and candidate, in
    nanoseconds by the clock.
    """

    low: Mapping[str, float]
    mean: Mapping[str, float]
    base_s: Mapping[str, float]
    low_ns: Sequence[tuple[float, float]]
    mean_ns: Sequence[tuple[float, float]]

    @property
    def shared_excess(self) -> float:
        """Return the share by which block means exceed smallest laps on both sides: the lesser of the two.

        It is what the machine adds to either, and stays as it is when the sides are exchanged.
        """
        lows, means = (zip(*of, strict=True) for of in (self.low_ns, self.mean_ns))
        sides = [sum(mean) / sum(low) - 1 for low, mean in zip(lows, means, strict=True)]
        return max(min(sides, default=0.0), 0.0)
