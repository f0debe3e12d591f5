"""Measure where the time of a PyTorch training step goes, and report it with its uncertainty."""
