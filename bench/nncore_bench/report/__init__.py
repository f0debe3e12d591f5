"""Tell people what was measured: tables and sentences from runs. Never torch, never measuring."""

from nncore_bench.report.facts import named
from nncore_bench.report.source import Source, read_source
from nncore_bench.report.tables import Table
from nncore_bench.report.versus import side_by_side, versus_table
from nncore_bench.report.whole import Report, render, write_tables
from nncore_bench.report.why import Comparison, compare_cases, screen_lines, write_comparison

__all__ = [
    "Comparison",
    "Report",
    "Source",
    "Table",
    "compare_cases",
    "named",
    "read_source",
    "render",
    "screen_lines",
    "side_by_side",
    "versus_table",
    "write_comparison",
    "write_tables",
]
