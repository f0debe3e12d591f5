"""Decide: estimates from laps, and rows from runs. Pure functions, numpy and scipy, never torch."""

from nncore_bench.verdict.estimates import Estimate, undisturbed
from nncore_bench.verdict.results import companion_rows, rows_of
from nncore_bench.verdict.rows import Row

__all__ = ["Estimate", "Row", "companion_rows", "rows_of", "undisturbed"]
