"""Measure where the time of a PyTorch training step goes, and report it with its uncertainty."""

from nncore_bench.notebook import measure_step
from nncore_bench.watch.phases import phase
from nncore_bench.watching import Watch

__all__ = ["Watch", "measure_step", "phase"]
