"""Decide: estimates from laps, and rows from runs. Pure functions, numpy and scipy, never torch."""

from bench.verdict.estimates import Estimate, undisturbed
from bench.verdict.rows import Row, rows_of

__all__ = ["Estimate", "Row", "rows_of", "undisturbed"]
