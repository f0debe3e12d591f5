"""Exact counts of a step: operators, FLOP, bytes, memory, CUDA launches, garbage collections."""
