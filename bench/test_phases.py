"""The suite: one test per case and phase.

All of them are measured together, in rounds, before the first test runs (README, "How it measures"); a test
hands the recorded blocks of its phase to pytest-benchmark.
"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from nncore_bench.handover import HandOver


@pytest.mark.usefixtures(
    "phase", "subject", "device", "threads", "precision", "variant", "batch_size", "hidden"
)  # its parameters in files
def test_phase(recorded: HandOver, benchmark: BenchmarkFixture) -> None:
    """Report the recorded blocks of a phase; with --benchmark-disable run the case once and check it."""
    recorded.to(benchmark)
