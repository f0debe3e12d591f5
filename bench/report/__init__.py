"""Tell people what was measured: tables and sentences from runs. Never torch, never measuring."""

from bench.report.facts import named
from bench.report.source import Past, Source, read_past, read_source
from bench.report.tables import Table
from bench.report.versus import side_by_side
from bench.report.whole import Report, render, write_tables
from bench.report.why import Comparison, compare_cases, screen_lines, write_comparison

__all__ = [
    "Comparison",
    "Past",
    "Report",
    "Source",
    "Table",
    "compare_cases",
    "named",
    "read_past",
    "read_source",
    "render",
    "screen_lines",
    "side_by_side",
    "write_comparison",
    "write_tables",
]
