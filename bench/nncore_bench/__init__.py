"""Measure where the time of a PyTorch training step goes, and report it with its uncertainty."""

from nncore_bench.notebook import measure_step

__all__ = ["measure_step"]
