"""The hand-over to pytest-benchmark and the progress line, without any measuring."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from nncore_bench.cases import Case
from nncore_bench.handover import HandOver
from nncore_bench.progress import ProgressLine, progress_text

CASE = Case("simplenn", "digits", "cpu", 1, "float32", "eager", 8, 32)
MEANS = (20.1e-6, 200.02e-6, 2.0003e-3, 0.1 + 0.2)


class Fixture:
    """What pytest-benchmark does in pedantic mode: read the timer around each call."""

    def __init__(self, timer: Callable[[], float], *, disabled: bool = False) -> None:
        self.timer = timer
        self.disabled = disabled
        self.extra_info: dict[str, Any] = {}
        self.stats: list[float] | None = None

    def pedantic(self, target: Callable[..., Any], *, rounds: int) -> None:
        if self.disabled:
            target()
            return
        self.stats = []
        for _ in range(rounds):
            start = self.timer()
            target()
            self.stats.append(self.timer() - start)


def handover(means: tuple[float, ...] = MEANS, reason: str = "", fault: str = "") -> HandOver:
    return HandOver(means, {"phase": "step", "reason": reason}, lambda: fault, [], CASE, set())


def test_the_fixture_sees_exactly_the_recorded_block_means() -> None:
    """To the last bit: the table, the JSON and our own file cannot differ."""
    recorded = handover()
    fixture = Fixture(recorded.clock())
    recorded.to(fixture)
    assert fixture.stats == list(MEANS)
    assert recorded.stats == [fixture.stats]
    assert fixture.extra_info["phase"] == "step"


def test_the_clock_has_a_name_since_pytest_benchmark_prints_it() -> None:
    """An object without a name would end up as UNSERIALIZABLE in the JSON."""
    assert handover().clock().__name__ == "recorded_laps"


def test_a_case_without_times_fails_with_its_reason() -> None:
    """Not an error with a traceback, never a time of zero, and the sentence once for each case."""
    recorded = handover((), reason="out of memory: 3 TB")
    with pytest.raises(pytest.fail.Exception, match="out of memory: 3 TB"):
        recorded.to(Fixture(recorded.clock()))
    with pytest.raises(pytest.skip.Exception, match="its case failed"):
        recorded.to(Fixture(recorded.clock()))
    other = replace(recorded, case=replace(CASE, batch_size=9))
    with pytest.raises(pytest.fail.Exception, match="3 TB"):
        other.to(Fixture(other.clock()))


@pytest.mark.parametrize("fault", ["", "the loss is nan"])
def test_with_benchmarks_disabled_the_case_is_run_once_and_checked(fault: str) -> None:
    """The check decides, and no time is reported."""
    recorded = handover((), fault=fault)
    fixture = Fixture(recorded.clock(), disabled=True)
    if fault:
        with pytest.raises(pytest.fail.Exception, match="the loss is nan"):
            recorded.to(fixture)
    else:
        recorded.to(fixture)
    assert fixture.stats is None
    assert recorded.stats == []


class Screen:
    """Collect what a terminal would show."""

    def __init__(self, *, isatty: bool) -> None:
        self.isatty = isatty
        self.written: list[str] = []

    def rewrite(self, line: str, **markup: bool) -> None:
        assert markup == {"erase": True}
        self.written.append("\r" + line)

    def write_line(self, line: str, **markup: bool) -> None:
        assert not markup
        self.written.append(line)


def test_the_progress_says_what_is_done_and_how_long_it_will_still_take() -> None:
    """Stage, rounds and seconds left, and nothing it does not know."""
    assert progress_text("campaign", 12, 40, 30.6) == "campaign: round 12 of 40, 31 s left"
    assert progress_text("warm-up", 3, 96, None) == "warm-up: case 3 of 96"
    assert progress_text("campaign", 2, 0, None) == "campaign: round 2 (pilot)"


def test_a_terminal_shows_one_line_and_a_log_one_line_every_ten_seconds() -> None:
    """A CI log is not filled with a line per round."""
    seconds = iter(float(n) for n in range(1000))
    log = Screen(isatty=False)
    in_log = ProgressLine(log, now=lambda: next(seconds))
    screen = Screen(isatty=True)
    on_screen = ProgressLine(screen)
    for number in range(1, 31):
        in_log("campaign", number, 30, 1.0)
        on_screen("campaign", number, 30, 1.0)
    assert 2 <= len(log.written) <= 6
    assert len(screen.written) == 30
    assert all(line.startswith("\r") for line in screen.written)
