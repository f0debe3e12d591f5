"""What each command of `nncore-bench` was asked for: checked, and frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from nncore_bench.options import Options


@dataclass(frozen=True)
class ReportOptions:
    """Hold what `report` was asked for: no run means the newest, two are set side by side.

    With `out` it is a page, or a folder of files in other formats, and takes any number of runs.
    `prices` are per hour by device; `typed` is the command.
    """

    runs: tuple[Path, ...]
    results: Path
    everything: bool
    out: Path | None = None
    formats: tuple[str, ...] = ("html",)
    prices: Mapping[str, float] = field(default_factory=dict)
    typed: str = ""


@dataclass(frozen=True)
class CompareOptions:
    """Hold what `compare` was asked for; `fail_above` is the margin above which it fails, if at all."""

    base: Path
    candidate: Path
    results: Path
    fail_above: float | None
    out: Path | None


@dataclass(frozen=True)
class ProfileOptions:
    """Hold what `profile` was asked for."""

    options: Options


@dataclass(frozen=True)
class GateOptions:
    """Hold what `gate` was asked for; without a base the merge base with main is meant.

    `again` are the words that were typed but for the choice of cases and the files to write.
    """

    base: str | None
    candidate: str | None
    margin: float
    alpha: float
    budget_s: float | None
    cases: str | None
    base_python: str | None
    candidate_python: str | None
    strict: bool
    fail_on_counters: bool
    json: Path | None
    summary: Path | None
    again: tuple[str, ...]
    options: Options


@dataclass(frozen=True)
class SelftestOptions:
    """Hold what `selftest` was asked for."""

    quick: bool
    gate: bool
    runs: int


@dataclass(frozen=True)
class AdviseOptions:
    """Hold what `advise` was asked for."""

    options: Options


Given: TypeAlias = (
    AdviseOptions | ReportOptions | CompareOptions | ProfileOptions | GateOptions | SelftestOptions
)
