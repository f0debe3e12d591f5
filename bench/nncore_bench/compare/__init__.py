"""Two runs compared: ratios by phase, changed counters, and the causes of a difference."""
