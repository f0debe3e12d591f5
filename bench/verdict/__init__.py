"""Decide: estimates from laps, and rows from runs. Pure functions, numpy and scipy, never torch."""

from bench.verdict.estimates import Estimate, undisturbed
from bench.verdict.results import companion_rows, rows_of
from bench.verdict.rows import Row

__all__ = ["Estimate", "Row", "companion_rows", "rows_of", "undisturbed"]
