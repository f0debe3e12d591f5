"""The torch.profiler pass: its trace, and which operator, phase and module each moment belongs to."""
