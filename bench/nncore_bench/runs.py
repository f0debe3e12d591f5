"""Runs: the stored form of a measurement, and how it is written and read back.

A run is a folder. `run.json` and one small file of laps per finished round are written as the campaign
goes, each under a temporary name that is then renamed, so that a run that is killed keeps every round it
had finished. At the end the rounds are merged into `samples.npz`.
"""

import io
import json
import os
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from nncore_bench.cases import BLOCK_LAPS, OTHER, STEP_PHASES, UNATTRIBUTED, BlockKind, Case
from nncore_bench.errors import UserError
from nncore_bench.records import CaseProfile, CaseRecord, Notice

SCHEMA_VERSION = 2
RUN_FILE = "run.json"
SAMPLES_FILE = "samples.npz"
BENCHMARK_FILE = "benchmark.json"
OUR_KEY = "nncore_bench"
"""The key of our part of pytest-benchmark's file."""

ROUNDS_FOLDER = "rounds"

Nanoseconds: TypeAlias = npt.NDArray[np.int64]
NANO = 1e-9

UNREADABLE = (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile, zlib.error)
"""The errors that numpy raises for a damaged file."""


class RunError(UserError):
    """The reason, in one sentence, why a folder or file cannot be used as a run."""


class Code(msgspec.Struct, frozen=True):
    """The measured code: its working directory, its commit, and whether it was changed."""

    path: str
    commit: str
    dirty: bool

    @property
    def certain(self) -> bool:
        """Whether the commit identifies the code: it is known, and nothing was changed since."""
        return self.commit not in ("", "unknown") and not self.dirty


class Campaign(msgspec.Struct, frozen=True):
    """The account of a campaign's wall-clock seconds.

    `measured_s` is spent inside counted iterations, `leading_s` in the leading iteration of each block,
    which is stored but not counted; the rest of `wall_s` is restoring state, messages and files. `seed`
    seeds every random order. `memory_bytes` is the memory of all processes at the end, which is their peak:
    the allocator policy keeps it from shrinking.
    """

    wall_s: float
    measured_s: float
    leading_s: float
    warm_up_s: float
    rounds_planned: int
    rounds_done: int
    target: float
    seed: int = 0
    memory_bytes: int | None = None


class Run(msgspec.Struct, frozen=True):
    """Everything that is recorded of a run except its laps."""

    id: str
    host: str
    started: str
    state: Literal["running", "finished", "interrupted"]
    options: dict[str, Any]
    code: Code
    machine: dict[str, Any]
    cases: tuple[CaseRecord, ...]
    companions: tuple[CaseRecord, ...] = ()
    """The references measured in the same rounds; blocks number them on after the cases."""

    campaign: Campaign | None = None
    notices: tuple[Notice, ...] = ()
    profiles: tuple[CaseProfile, ...] = ()
    schema_version: int = SCHEMA_VERSION


def laps_of(kind: BlockKind, parts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the laps that an iteration of a kind of block has, for a step of these parts."""
    return (*parts, UNATTRIBUTED) if kind == "laps" else BLOCK_LAPS[kind]


@dataclass(frozen=True)
class Block:
    """The laps of some consecutive iterations of one case, the leading one first.

    `host` has shape [iterations, laps] in nanoseconds of the host's clock; `device` has the same shape,
    or is None where the device is the host. `wall_ns` is the time of the counted iterations between two
    synchronisations, and `waited_ns` the part in which other programs had the core, which is not stored.
    `case`, `launch` and `round` are its position in the campaign, which its worker does not know; `parts` are
    those of its step.
    """

    kind: BlockKind
    host: Nanoseconds
    device: Nanoseconds | None
    wall_ns: int
    waited_ns: int = 0
    case: int = 0
    launch: int = 0
    round: int = 0
    parts: tuple[str, ...] = STEP_PHASES

    @property
    def laps(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        return laps_of(self.kind, self.parts)

    def with_parts(self, parts: tuple[str, ...]) -> "Block":
        """Return the block with columns for these parts of a step; laps of any others go to OTHER."""
        if self.kind != "laps" or parts == self.parts:
            return self
        here = laps_of(self.kind, parts)
        to = [here.index(name if name in here else OTHER) for name in self.laps]

        def moved(laps: Nanoseconds) -> Nanoseconds:
            summed = np.zeros((len(laps), len(here)), np.int64)
            for column, lap in zip(to, laps.T, strict=True):
                summed[:, column] += lap
            return summed

        device = None if self.device is None else moved(self.device)
        return replace(self, host=moved(self.host), device=device, parts=parts)

    @property
    def turn(self) -> tuple[int, int]:
        """The launch and round, which neighbouring blocks of other cases and kinds share."""
        return self.launch, self.round

    @property
    def iterations(self) -> int:
        """The number of counted iterations, without the leading one."""
        return len(self.host) - 1

    def column(self, phase: str) -> Nanoseconds:
        """Return the counted host laps of a phase."""
        return self.host[1:, self.laps.index(phase)]

    def device_column(self, phase: str) -> Nanoseconds | None:
        """Return the counted device laps of a phase, or None where the device is the host."""
        return None if self.device is None else self.device[1:, self.laps.index(phase)]

    @property
    def wall_mean_ns(self) -> float:
        """The mean time of a counted iteration by the wall clock."""
        return self.wall_ns / self.iterations

    @property
    def each_ns(self) -> Nanoseconds:
        """The time of each counted iteration by the host's clock."""
        each: Nanoseconds = self.host[1:].sum(axis=1)
        return each

    def iteration_ns(self, case: Case) -> float:
        """Return the time of the block's fastest iteration, or its mean by the wall clock.

        The mean is taken on a device, where the host runs ahead, and in a feeding loop, where batches are
        fetched ahead in bursts.
        """
        mean = case.on_device or self.kind == "feed"
        return self.wall_mean_ns if mean else float(self.each_ns.min())


BlocksOfCase: TypeAlias = Mapping[BlockKind, Sequence[Block]]


def by_case(blocks: Iterable[Block]) -> Mapping[int, BlocksOfCase]:
    """Return blocks by case number and kind, in the order of rounds; empty for missing ones."""
    found: dict[int, dict[BlockKind, list[Block]]] = defaultdict(lambda: defaultdict(list))
    for block in sorted(blocks, key=lambda block: block.round):
        found[block.case][block.kind].append(block)
    return found


_INDEX = np.dtype(
    [(name, "i4") for name in ("case", "launch", "round", "kind")]
    + [("iterations", "i8"), ("wall_ns", "i8"), ("has_device", "i1")]
)
_KINDS: tuple[BlockKind, ...] = tuple(BLOCK_LAPS)


def pack(blocks: Sequence[Block]) -> dict[str, npt.NDArray[Any]]:
    """Turn blocks into two arrays: an index row per block, and all laps one after another."""
    index = np.array(
        [
            (b.case, b.launch, b.round, _KINDS.index(b.kind), len(b.host), b.wall_ns, b.device is not None)
            for b in blocks
        ],
        dtype=_INDEX,
    )
    flat = [part.ravel() for b in blocks for part in (b.host, b.device) if part is not None]
    return {"index": index, "laps_ns": np.concatenate(flat) if flat else np.empty(0, np.int64)}


def unpack(
    index: npt.NDArray[Any], laps_ns: Nanoseconds, parts: Sequence[tuple[str, ...]] = ()
) -> Iterator[Block]:
    """Turn the two arrays of `pack` back into blocks; `parts` are those of each case's step, if given."""
    position = 0
    for row in index:
        kind = _KINDS[row["kind"]]
        numbers = {name: int(row[name]) for name in ("case", "launch", "round")}
        own = parts[numbers["case"]] if parts else STEP_PHASES
        shape = (1 + int(row["has_device"]), int(row["iterations"]), len(laps_of(kind, own)))
        host, *device = laps_ns[position : position + prod(shape)].reshape(shape)
        position += prod(shape)
        yield Block(kind, host, device[0] if device else None, int(row["wall_ns"]), **numbers, parts=own)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file atomically: readers see the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def unwritable(results: Path, error: OSError) -> str:
    """Return the sentence for a results folder that cannot be written."""
    return (
        f"--step-results: {str(results)!r} cannot be written ({error.strerror}; name a folder you may write)"
    )


def new_folder(results: Path, host: str, *, now: datetime, short_id: str) -> Path:
    """Create `results/<UTC time>-<host>-<short id>/`; raise RunError when that cannot be done."""
    path = results / f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{host}-{short_id}"
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise RunError(unwritable(results, error)) from None
    return path


class RunFolder:
    """Write one run into its folder while it is measured."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: Sequence[CaseRecord] = ()

    @classmethod
    def create(cls, results: Path, host: str, *, now: datetime, short_id: str) -> "RunFolder":
        """Create `results/<UTC time>-<host>-<short id>/`; raise RunError when that cannot be done."""
        path = new_folder(results, host, now=now, short_id=short_id)
        (path / ROUNDS_FOLDER).mkdir()
        return cls(path)

    def save(self, run: Run) -> None:
        """Write `run.json`."""
        self._records = (*run.cases, *run.companions)
        replace_file(self.path / RUN_FILE, msgspec.json.format(msgspec.json.encode(run), indent=1))

    def save_round(self, number: int, blocks: Sequence[Block]) -> None:
        """Write the laps of one finished round."""
        self._save_npz(self.path / ROUNDS_FOLDER / f"{number:05d}.npz", blocks)

    def merge_rounds(self) -> None:
        """Merge the files of the rounds into `samples.npz`, then remove them."""
        blocks = list(read_blocks(self.path, self._records))
        self._save_npz(self.path / SAMPLES_FILE, blocks)
        for part in (self.path / ROUNDS_FOLDER).glob("*.npz"):
            part.unlink()
        (self.path / ROUNDS_FOLDER).rmdir()

    @staticmethod
    def _save_npz(path: Path, blocks: Sequence[Block]) -> None:
        stream = io.BytesIO()
        np.savez_compressed(stream, allow_pickle=False, **pack(blocks))
        replace_file(path, stream.getvalue())


def read_run(path: Path) -> Run:
    """Read the record of a run from its folder or from its `run.json`; raise RunError in one sentence."""
    file = path / RUN_FILE if path.is_dir() else path
    try:
        run = msgspec.json.decode(file.read_bytes(), type=Run)
    except OSError as error:
        raise RunError(f"{str(path)!r} is not a run: {file.name} cannot be read ({error.strerror})") from None
    except msgspec.DecodeError as error:
        raise RunError(f"{str(file)!r} is not a run record of schema {SCHEMA_VERSION} ({error})") from None
    refuse_other_schema(file, run.schema_version)
    return run


def refuse_other_schema(file: Path, version: object) -> None:
    """Raise RunError for a file of another schema version."""
    if version != SCHEMA_VERSION:
        raise RunError(
            f"{str(file)!r} has schema version {version}, and this version reads {SCHEMA_VERSION}"
            " (read it with the version of nncore-bench that wrote it)"
        )


def read_blocks(path: Path, records: Sequence[CaseRecord] = ()) -> Iterator[Block]:
    """Read the blocks of a run's folder: from `samples.npz`, or from its rounds where it was cut short.

    `records` are those of its cases and companions, by which blocks are numbered.
    """
    parts = [record.parts for record in records]
    merged = path / SAMPLES_FILE
    files: Iterable[Path] = [merged] if merged.exists() else sorted((path / ROUNDS_FOLDER).glob("[0-9]*.npz"))
    for file in files:
        try:
            # numpy leaves a file open that it cannot read, unless somebody else closes it.
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                blocks = list(unpack(arrays["index"], arrays["laps_ns"], parts))
        except UNREADABLE as error:
            raise RunError(f"{str(file)!r} holds no laps that can be read ({error})") from None
        yield from blocks


def found_run(run: Path, results: Path) -> Path:
    """Return the run as typed or, for the bare name that reports print, in the results folder."""
    return results / run if not run.exists() and (results / run).exists() else run


def newest_run(results: Path) -> Path:
    """Return the newest run of a results folder; its name begins with the time."""
    runs = sorted({file.parent for name in (RUN_FILE, BENCHMARK_FILE) for file in results.glob(f"*/{name}")})
    if not runs:
        raise RunError(f"{str(results)!r} holds no run (make one: pytest bench/ --benchmark-only)")
    return runs[-1]


def plain_json(value: Any) -> bytes:  # noqa: ANN401 - whatever JSON can hold
    """Return a value as indented JSON text, the way pytest-benchmark writes its own file."""
    return json.dumps(value, indent=4, ensure_ascii=True, default=str).encode()
