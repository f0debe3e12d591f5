"""Facts of the machine: processor, limits, GPU, software, its state around a run, and what to warn about."""
