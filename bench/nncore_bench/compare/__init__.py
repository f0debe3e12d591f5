"""Two runs compared: ratios by phase, what is counted otherwise, and the causes of a difference."""
