"""Tell people what was measured: tables and sentences from runs. Never torch, never measuring."""

from bench.report.facts import named
from bench.report.source import Source, read_source
from bench.report.tables import Table
from bench.report.versus import compare
from bench.report.whole import Report, render, write_tables

__all__ = ["Report", "Source", "Table", "compare", "named", "read_source", "render", "write_tables"]
