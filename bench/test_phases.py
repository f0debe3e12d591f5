"""The suite: one test per case and phase.

All of them are measured together, in rounds, before the first test runs (README, "How it measures"); a test
hands the recorded blocks of its phase to pytest-benchmark.
"""

from pytest_benchmark.fixture import BenchmarkFixture

from nncore_bench.handover import HandOver


def test_phase(recorded: HandOver, benchmark: BenchmarkFixture) -> None:
    """Report the recorded blocks of a phase; with --benchmark-disable run the case once and check it."""
    recorded.to(benchmark)
