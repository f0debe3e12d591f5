"""Measure where the time of a PyTorch training step goes, and report it with its uncertainty."""

from nncore_bench.notebook import measure_step
from nncore_bench.watch.phases import phase

__all__ = ["measure_step", "phase"]
