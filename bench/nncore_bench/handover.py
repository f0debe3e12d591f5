"""Hand recorded blocks over to pytest-benchmark, through its public interface alone.

A clock replays the recorded times: `benchmark.pedantic` reads it at the start and at the end of each of its
rounds, and the difference it sees is the mean lap of one recorded block.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from nncore_bench.cases import Case


class CaseError(Exception):
    """The reason why a case has no times."""


@dataclass(frozen=True)
class HandOver:
    """The report of one test: block means in seconds and the row of the frame, or why there are none."""

    block_means_s: tuple[float, ...]
    row: Mapping[str, Any]
    check: Callable[[], str]
    stats: list[Any]
    case: Case
    failed: set[Case]
    """The cases of which a test of this session has already failed with the reason."""

    absent: str = ""
    """Why the case has no such phase, if it has none."""

    def clock(self) -> Callable[[], float]:
        """Return a timer that replays the block means, one between each pair of readings."""
        means = self.block_means_s or (0.0,)  # a case without times fails inside its only round
        # Every round starts at 0, so that its length comes out as it was recorded, to the last bit.
        readings = iter([reading for mean in means for reading in (0.0, mean)])

        def recorded_laps() -> float:
            return next(readings)

        return recorded_laps

    def to(self, benchmark: Any) -> None:  # noqa: ANN401 - pytest-benchmark's fixture, which has no types
        """Report to the fixture; a case without times fails the first of its tests, and skips the others."""
        if self.absent:
            pytest.skip(self.absent)
        benchmark.extra_info.update(self.row)
        missing = "" if self.block_means_s else str(self.row.get("reason") or "no round was finished")

        def target() -> None:
            if reason := self.check() if benchmark.disabled else missing:
                raise CaseError(reason)

        reason = ""
        try:
            benchmark.pedantic(target, rounds=max(1, len(self.block_means_s)))
        except CaseError as error:
            reason = str(error)
        if reason:
            self._refuse(reason)
        if benchmark.stats is not None:
            self.stats.append(benchmark.stats)

    def _refuse(self, reason: str) -> None:
        if self.case in self.failed:
            pytest.skip("its case failed: the first of its tests says why")
        self.failed.add(self.case)
        pytest.fail(reason, pytrace=False)
