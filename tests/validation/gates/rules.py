"""What other tools would say of the same samples: each rule says whether one case got slower.

They see more than they would have on their own: samples of both sides taken in turn, in the same minutes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats: TypeAlias = npt.NDArray[np.float64]
Rule: TypeAlias = Callable[["Samples"], bool]

CRITERION_NOISE = 0.01
CRITERION_DRAWS = 1000
ASV_FACTOR = 1.1
ASV_P = 0.002


@dataclass(frozen=True)
class Samples:
    """Hold smallest and mean lap of the blocks of one case, each of shape [samples], base and candidate."""

    low: tuple[Floats, Floats]
    mean: tuple[Floats, Floats]


def mean_5(samples: Samples) -> bool:
    """Say what pytest-benchmark's `--benchmark-compare-fail=mean:5%` says."""
    base, candidate = samples.mean
    return float(candidate.mean() / base.mean()) > 1.05


def min_5(samples: Samples) -> bool:
    """Say what pytest-benchmark's `--benchmark-compare-fail=min:5%` says."""
    base, candidate = samples.low
    return float(candidate.min() / base.min()) > 1.05


def mann_whitney(samples: Samples) -> bool:
    """Say whether a one-sided Mann-Whitney test of the blocks' means finds p below 5 %."""
    base, candidate = samples.mean
    return float(stats.mannwhitneyu(candidate, base, alternative="greater").pvalue) < 0.05


def asv(samples: Samples) -> bool:
    """Say what `asv compare` says: medians apart by its factor of 1.1, and a Mann-Whitney p below 0.2 %."""
    base, candidate = samples.mean
    apart = float(np.median(candidate) / np.median(base)) > ASV_FACTOR
    return apart and float(stats.mannwhitneyu(candidate, base).pvalue) < ASV_P


def criterion(samples: Samples) -> bool:
    """Say what criterion.rs says: p below 5 %, the interval of the mean's change above its noise of 1 %."""
    base, candidate = samples.mean
    random = np.random.default_rng(0)
    drawn = [
        one[random.integers(0, len(one), (CRITERION_DRAWS, len(one)))].mean(axis=1)
        for one in (base, candidate)
    ]
    lower = float(np.quantile(drawn[1] / drawn[0], 0.025)) - 1
    return lower > CRITERION_NOISE and float(stats.ttest_ind(candidate, base, equal_var=False).pvalue) < 0.05


RULES: Mapping[str, Rule] = {
    "pytest-benchmark mean:5%": mean_5,
    "pytest-benchmark min:5%": min_5,
    "Mann-Whitney, p < 5 %": mann_whitney,
    "asv (factor 1.1)": asv,
    "criterion (noise 1 %)": criterion,
}
