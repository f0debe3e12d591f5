"""Estimates with intervals: rows of a run from its laps, ceilings, drift between runs. Pure functions."""
