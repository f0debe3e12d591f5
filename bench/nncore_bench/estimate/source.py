"""Reading a run back: from its folder, its `run.json`, or a `benchmark.json` alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec

from nncore_bench.cases import Case, Place
from nncore_bench.estimate.ceilings import Ceilings, ceilings_of
from nncore_bench.estimate.cells import Cells, cells_of, without_skipped
from nncore_bench.estimate.gains import Gain, variants_in
from nncore_bench.estimate.positions import with_even_steps
from nncore_bench.estimate.results import rows_of
from nncore_bench.estimate.rows import Row, timed_rows
from nncore_bench.runs import (
    BENCHMARK_FILE,
    OUR_KEY,
    RUN_FILE,
    Block,
    Run,
    RunError,
    by_case,
    read_blocks,
    read_run,
    refuse_other_schema,
)

HINT = "(give the folder of a run, such as one in results)"


@dataclass(frozen=True)
class Source:
    """A run, its rows and those of its companions (`beside`), and its folder and blocks if it has them.

    Everything derived from these is computed once, on first use.
    """

    run: Run
    rows: Sequence[Row]
    beside: Sequence[Row] = ()
    folder: Path | None = None
    blocks: Sequence[Block] = ()

    @classmethod
    def of(cls, run: Run, blocks: Sequence[Block], folder: Path | None) -> "Source":
        """Compute the rows of a run from its blocks."""
        blocks = with_even_steps(blocks, (*run.cases, *run.companions))
        beside = timed_rows(run.companions, by_case(blocks), first=len(run.cases))
        return cls(run, rows_of(run, blocks), beside, folder, blocks)

    def by_name(self) -> "Source":
        """Return the source with subjects from files named without their folders."""
        run = msgspec.structs.replace(
            self.run,
            cases=tuple(msgspec.structs.replace(one, case=one.case.by_name) for one in self.run.cases),
            profiles=tuple(msgspec.structs.replace(one, case=one.case.by_name) for one in self.run.profiles),
        )
        return replace(self, run=run, rows=[replace(row, case=row.case.by_name) for row in self.rows])

    @cached_property
    def gains(self) -> Mapping[Case, Sequence[Gain]]:
        """Return the gains of variants by plain case; none without blocks."""
        return variants_in(self.run.cases, self.blocks) if self.blocks else {}

    @cached_property
    def ceilings(self) -> Mapping[Place, Ceilings]:
        """Return the ceilings of the machine by place."""
        return ceilings_of(self.run.companions, self.beside)

    @cached_property
    def all_cells(self) -> Cells:
        """Return the rows by case and phase."""
        return cells_of(self.rows)

    @cached_property
    def cells(self) -> Cells:
        """Return the rows of the cases that were tried."""
        return without_skipped(self.all_cells)


def read_source(path: Path) -> Source:
    """Read a folder with `run.json` or `benchmark.json`, or one of these files; raise RunError otherwise."""
    if not path.exists():
        raise RunError(f"{str(path)!r} does not exist {HINT}")
    inside = (path / name for name in (RUN_FILE, BENCHMARK_FILE) if (path / name).exists())
    file = next(inside, None) if path.is_dir() else path
    if file is None:
        raise RunError(f"{str(path)!r} is not a run: it has neither {RUN_FILE} nor {BENCHMARK_FILE} {HINT}")
    folder = file.parent
    if file.name == RUN_FILE:
        run = read_run(folder)
        blocks = list(read_blocks(folder, (*run.cases, *run.companions)))
        if blocks or not (folder / BENCHMARK_FILE).exists():
            return Source.of(run, blocks, folder)
        file = folder / BENCHMARK_FILE  # published without its laps
    return _from_benchmarks(file, folder if file.name == BENCHMARK_FILE else None)


def _from_benchmarks(file: Path, folder: Path | None) -> Source:
    """Read the rows that the tests left in pytest-benchmark's file."""
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise RunError(f"{str(file)!r} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise RunError(f"{str(file)!r} is not JSON ({error})") from None
    ours = content.get(OUR_KEY) if isinstance(content, dict) else None
    if not isinstance(ours, dict):
        raise RunError(f"{str(file)!r} is not a run of this suite: it has no key {OUR_KEY!r}")
    refuse_other_schema(file, ours.get("schema_version"))
    try:
        run = msgspec.convert(ours.get("run"), Run)
        records = [*(test["extra_info"] for test in content["benchmarks"]), *ours.get("rows", [])]
        rows = [Row.of(record) for record in records]
        beside = [Row.of(record) for record in ours.get("companions", [])]
    except (msgspec.ValidationError, KeyError, TypeError) as error:
        raise RunError(f"{str(file)!r} does not hold the rows of a run ({error})") from None
    return Source(run, _completed(run, rows, file), beside, folder)


def _completed(run: Run, rows: Sequence[Row], file: Path) -> list[Row]:
    """Return the rows in the order of the run, adding the ones that the file lacks."""
    found = {(row.case, row.phase): row for row in rows}
    ok = {record.case for record in run.cases if record.status == "ok"}
    missing = f"no result of it is in {file.name}"
    return [
        found.get((row.case, row.phase)) or (replace(row, reason=missing) if row.case in ok else row)
        for row in rows_of(run, [])
    ]
