"""Whether changes of the size that the self-test promises are seen: planted in recorded runs and pairs.

    python tests/validation/promises.py --series DIR [DIR...]
    python tests/validation/promises.py --gates FILE.json.xz [FILE.json.xz...] [--tries 200]

A series is what series.py left: each run promises what `compare` will see of each case, and the other runs
of the series get that much slower. Gates are series of the scenario `same`: some of their screening pairs
promise what a gate will see, and a gate drawn from the others gets that much in one case.
"""

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd

sys.path += [str(Path(__file__).parent / name) for name in ("gates", "series")]

from arms import ONE_CASE
from gates import SAME
from judge_gates import joined, read_gates
from replay_gates import Effect, case_of, drawn, pairs_of

from nncore_bench.compare.explain import MARGIN
from nncore_bench.estimate.drift import drift_free_ratio
from nncore_bench.estimate.estimates import launch_spread, moderated
from nncore_bench.estimate.rows import Row
from nncore_bench.estimate.source import read_source
from nncore_bench.gate.decide import Verdict
from nncore_bench.gate.ratios import STEP
from nncore_bench.selftest.checks import bounds
from nncore_bench.selftest.resolution import seen_by_compare, seen_by_gate

SCREENED = 8
"""The launch pairs that the self-test's promise is made of."""


def main() -> None:
    """Print a line for each series."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--series", nargs="*", type=Path, default=[])
    parser.add_argument("--gates", nargs="*", type=Path, default=[])
    parser.add_argument("--tries", type=int, default=200, help="gates to draw for each load")
    given = parser.parse_args()
    lines = [*map(of_series, given.series), *(of_gates(given.gates, given.tries) if given.gates else ())]
    print(pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True))  # noqa: T201 - the edge


def line(name: str, promised: Sequence[float], seen: Sequence[bool]) -> dict[str, str]:
    low, middle, high = np.quantile(promised, [0.05, 0.5, 0.95])
    return {
        "recorded": name,
        "promised % (5 and 95 % of them)": f"{100 * middle:.1f} ({100 * low:.1f} to {100 * high:.1f})",
        "seen": bounds(sum(seen), len(seen)),
    }


def of_series(out: Path) -> dict[str, str]:
    """Plant what a run promises in every other run of its series."""
    runs = [
        {row.case: row for row in read_source(path.parent).rows if row.phase == STEP}
        for path in sorted(out.glob("[0-9]*/ours/*/run.json"))
    ]
    promised, seen = [], []
    for base, other in permutations(runs, 2):
        deviations = moderated([row.relative_deviation for row in base.values()])
        for (case, row), deviation in zip(base.items(), deviations, strict=True):
            if deviation is not None and case in other:
                promised.append(seen_by_compare(deviation.error))
                seen.append(is_suspect(row, other[case], promised[-1]))
    return line(f"compare, {out.name}", promised, seen)


def is_suspect(base: Row, other: Row, more: float) -> bool:
    """Tell whether `compare` calls a run suspect that is slower by a share."""
    ratio = drift_free_ratio(base, replace(other, time_s=(other.time_s or 0.0) * (1 + more)))
    return ratio is not None and ratio.value >= 1 + MARGIN and ratio.exceeds(1) is True


def of_gates(files: Sequence[Path], tries: int) -> Iterator[dict[str, str]]:
    """Plant what some pairs promise in gates drawn from the others."""
    for gates in joined([read_gates(path) for path in files], pooled=True):
        if gates.scenario != SAME:
            continue
        recorded = pairs_of(gates.records)
        promised, seen = [], []
        for seed in range(tries):
            coins = random.Random(seed)  # noqa: S311 - coins, and no secret
            order = coins.sample(recorded, len(recorded))
            screened, left = order[:SCREENED], order[SCREENED:]
            keys = list(screened[0])
            shown = [np.array([pair[key]["low"][STEP] for pair in screened]) for key in keys]
            deviations = dict(zip(keys, moderated([launch_spread(logs) for logs in shown]), strict=True))
            key = next(k for k in keys if (case_of(k).batch_size, case_of(k).hidden) == ONE_CASE)
            if (deviation := deviations[key]) is not None:
                promised.append(seen_by_gate(deviation.error))
                outcome = drawn(left, Effect(promised[-1]), seed)
                seen.append(outcome.decisions[key].verdict == Verdict.SLOWER)
        yield line(f"gate, load {gates.load}", promised, seen)


if __name__ == "__main__":
    main()
