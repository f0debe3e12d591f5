"""Runs made up of laps with known answers, for tests of what is told of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from nncore_bench.cases import BLOCK_LAPS, DOES_NOT_APPLY, STEP_PHASES, BlockKind, Case
from nncore_bench.estimate.results import rows_of
from nncore_bench.estimate.source import Source
from nncore_bench.options import Options
from nncore_bench.records import CaseRecord
from nncore_bench.report.report import Report, render
from nncore_bench.runs import Block, Campaign, Code, Nanoseconds, Run, RunFolder
from nncore_bench.text.table import Table

MICROSECOND = 1_000  # in nanoseconds, the unit of laps
ITERATIONS = 5  # the leading one and four that count
LEADING = 1_000_000_000  # a second: wherever the leading iteration is counted, every number is absurd

STEP_LAPS = {
    "zero_grad": 20 * MICROSECOND,
    "forward": 130 * MICROSECOND,
    "loss": 30 * MICROSECOND,
    "backward": 190 * MICROSECOND,
    "optimizer": 280 * MICROSECOND,
    "unattributed": 10 * MICROSECOND,
}
"""A step of 660 µs, 650 of them in its phases."""

OTHER_LAPS = {"data": 40 * MICROSECOND, "copy": 0, "rest": 660 * MICROSECOND, "inference": 100 * MICROSECOND}

CPU_CASE = Case("simplenn", "digits", "cpu", 1, "float32", "eager", 32, 128)
CUDA_CASE = replace(CPU_CASE, device="cuda", threads=DOES_NOT_APPLY)


def cases_of(
    devices: Sequence[str], threads: Sequence[int] = (1,), sizes: Sequence[int] = (32, 128)
) -> list[Case]:
    """Return a small grid of the usual subject."""
    given = {"devices": devices, "threads": threads, "batch_sizes": sizes, "hidden": (128, 512)}
    texts = {f"step_{name}": ",".join(map(str, values)) for name, values in given.items()}
    return Options.build(texts).cases(all_threads=1)


def record_of(case: Case, **changes: Any) -> CaseRecord:  # noqa: ANN401 - fields of the record
    """Return a case that went well, with all of its phases, unless changed."""
    return CaseRecord(**({"case": case, "phases": case.phases()} | changes))


def run_of(records: Iterable[CaseRecord], **changes: Any) -> Run:  # noqa: ANN401 - fields of the run
    """Return a finished run of these cases."""
    usual: dict[str, Any] = {
        "id": "20250102T030405Z-anvil-ab12",
        "host": "anvil",
        "started": "2025-01-02T03:04:05+00:00",
        "state": "finished",
        "options": {"devices": ["cpu", "cuda"], "quick": False},
        "code": Code("project", "0123abc", dirty=False),
        "machine": {"cpu_model": "Made-up CPU", "cores_logical": 2, "allocator_policy": "MALLOC_TOP_PAD_=1"},
        "cases": tuple(records),
        "campaign": Campaign(20.0, 15.0, 1.0, 4.0, 8, 8, 0.01),
    }
    return Run(**(usual | changes))


def block_of(  # noqa: PLR0913 - the fields of a block
    kind: BlockKind,
    *,
    laps: Mapping[str, int],
    case: int = 0,
    launch: int = 0,
    number: int = 0,
    device_laps: Mapping[str, int] | None = None,
    wall_ns: int | None = None,
) -> Block:
    """Return a block whose counted iterations all are alike; the leading one takes a second a lap."""
    host = constant(kind, laps)
    device = None if device_laps is None else constant(kind, device_laps)
    wall = int(host[1:].sum()) if wall_ns is None else wall_ns
    return Block(kind, host, device, wall, 0, case, launch, number)


def constant(kind: BlockKind, laps: Mapping[str, int]) -> Nanoseconds:
    """Return laps of shape [iterations, laps] that repeat, after a leading iteration of absurd length."""
    row = [laps[name] for name in BLOCK_LAPS[kind]]
    return np.array([[LEADING] * len(row), *[row] * (ITERATIONS - 1)], dtype=np.int64)


def blocks_of(
    case: int = 0, *, launches: Sequence[float] = (1.0,), rounds: int = 2, scale: float = 1.0
) -> list[Block]:
    """Return the blocks of a CPU case; each launch is that many times as slow as the known laps."""
    return [
        block
        for launch, factor in enumerate(launches)
        for number in range(rounds)
        for block in _round(case, launch, number * len(launches) + launch, factor * scale)
    ]


def _round(case: int, launch: int, number: int, factor: float) -> list[Block]:
    laps = {name: round(time * factor) for name, time in (STEP_LAPS | OTHER_LAPS).items()}
    laps["step"] = sum(laps[name] for name in STEP_LAPS)
    kinds: tuple[BlockKind, ...] = ("laps", "plain", "feed", "inference")
    return [block_of(kind, laps=laps, case=case, launch=launch, number=number) for kind in kinds]


def cuda_blocks_of(case: int = 0, *, launches: Sequence[float] = (1.0,), rounds: int = 2) -> list[Block]:
    """Return the blocks of a CUDA case: spans on the device twice as long as the host takes to enqueue."""
    blocks = []
    for launch, factor in enumerate(launches):
        for number in range(rounds):
            for block in _round(case, launch, number * len(launches) + launch, factor):
                spans = None if block.kind in ("plain", "inference") else block.host * 2
                blocks.append(replace(block, device=spans, wall_ns=block.wall_ns * 2))
    return blocks


STEP_NS = sum(STEP_LAPS.values())
PHASES_NS = sum(STEP_LAPS[name] for name in STEP_PHASES)


def told(run: Run, blocks: list[Block]) -> Report:
    """Return the report of a run with these laps."""
    return render(Source(run, rows_of(run, blocks)))


def table_of(report: Report, name: str) -> Table:
    """Return a table by its name."""
    return next(table for table in report.tables if table.name == name)


def names_of(report: Report) -> list[str]:
    """Return the names of all tables."""
    return [table.name for table in report.tables]


def line(report: Report, name: str, number: int = 0) -> dict[str, str]:
    """Return a line of a table as it is shown, by column."""
    return {str(column): str(cell) for column, cell in table_of(report, name).shown.iloc[number].items()}


def saved(results: Path, day: int, *, state: str = "finished", merge: bool = True) -> Path:
    """Save a run of one case, and return its folder."""
    folder = RunFolder.create(results, "anvil", now=datetime(2025, 1, day, tzinfo=UTC), short_id="ab12")
    folder.save(run_of([record_of(CPU_CASE)], id=folder.path.name, state=state))
    for number in range(2):
        folder.save_round(number, [block for block in blocks_of() if block.round == number])
    if merge:
        folder.merge_rounds()
    return folder.path
