"""A series goes on where it stopped, with its runs in an order that is random and the same again."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from series import LOG_FILE, RECORD_FILE, Settings, go_on, order_of
from slices import SeriesError


class Sessions:
    """Stand in for sessions: each leaves a log, and the one with a given number fails as it is told."""

    def __init__(self, failing: int = 0, failure: BaseException | int = 0) -> None:
        self.failing = failing
        self.failure = failure
        self.begun: list[str] = []

    def __call__(self, _number: int, _command: Sequence[str], log: Path) -> int:
        log.write_text("said")
        self.begun.append(f"{log.parent.parent.name}/{log.parent.name.removesuffix('.unfinished')}")
        if len(self.begun) != self.failing:
            return 0
        if isinstance(self.failure, int):
            return self.failure
        raise self.failure


def finished(out: Path) -> list[str]:
    """Return the parts that are there, each with its record and what its session said."""
    assert len(list(out.glob(f"*/*/{RECORD_FILE}"))) <= len(list(out.glob(f"*/*/{LOG_FILE}")))
    return sorted(str(path.parent.relative_to(out)) for path in out.glob(f"*/*/{RECORD_FILE}"))


ALL_OF_THREE = [f"00{number}/{part}" for number in (1, 2, 3) for part in ("ours", "plain")]


@pytest.mark.parametrize("killed_in", range(1, 7))
def test_it_goes_on_where_it_stopped(tmp_path: Path, killed_in: int) -> None:
    """Whichever session it was killed in, that one is measured again, and none that was finished."""
    first, second = Sessions(killed_in, KeyboardInterrupt()), Sessions()
    with pytest.raises(KeyboardInterrupt):
        go_on(tmp_path, Settings(), 3, first)
    assert finished(tmp_path) == sorted(first.begun[:-1])
    go_on(tmp_path, Settings(), 3, second)
    assert finished(tmp_path) == ALL_OF_THREE
    assert [*first.begun[:-1], *second.begun] == [
        f"00{number}/{part}" for number in (1, 2, 3) for part in order_of(0, number)
    ]
    assert not list(tmp_path.glob("*/*.unfinished"))


def test_a_slice_is_of_so_many_runs_at_most(tmp_path: Path) -> None:
    """Two of three, then the last, then none."""
    assert [go_on(tmp_path, Settings(), 3, Sessions(), at_most=2) for _ in range(3)] == [2, 1, 0]
    assert finished(tmp_path) == ALL_OF_THREE


def test_a_session_that_fails_ends_the_series_and_is_no_result(tmp_path: Path) -> None:
    """What it said is named."""
    with pytest.raises(SeriesError, match=rf"run 2 ended with 1 \(read .*{LOG_FILE}"):
        go_on(tmp_path, Settings(), 3, Sessions(failing=3, failure=1))
    assert len(finished(tmp_path)) == 2


def test_the_order_is_random_and_the_same_again() -> None:
    """Over many runs each part is first about as often."""
    orders = [order_of(0, number) for number in range(200)]
    assert orders == [order_of(0, number) for number in range(200)]
    assert 70 < sum(order[0] == "ours" for order in orders) < 130
