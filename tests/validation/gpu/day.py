"""Read what came back of a day: its logs, the readings of the probe, the runs, and the gate's outcome."""

import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from nncore_bench.estimate.source import Source, read_source
from nncore_bench.gate.decide import Decision
from nncore_bench.runs import RUN_FILE, Block, read_blocks

STAGES = ("probe", "tests", "default", "advise", "resnet", "gate", "large", "profile")
"""Of both commands, in the order in which they run."""

PROBE_FILE = "probe.json"
GATE_FILE = "gate/gate.json"
ARCHIVES = "*.tar.gz"
WELL = "exit code 0"
ENDING = re.compile(r"^== (\w+): (skipped|exit code \d+)", re.MULTILINE)


class DayError(ValueError):
    """Say in one sentence why a folder holds nothing that can be checked."""


class Gated(msgspec.Struct, frozen=True):
    """Hold what is looked at of a gate's outcome, as `bench gate --json` writes it."""

    decisions: tuple[Decision, ...]
    pairs: tuple[int, int]
    seconds: float


@dataclass(frozen=True)
class Measured:
    """Hold one run: the stage that made it, what it says, and the blocks that this is from."""

    stage: str
    source: Source
    blocks: list[Block]


@dataclass(frozen=True)
class Day:
    """Hold all that came back; `endings` says by stage how it ended, `gate` is None where there was none."""

    endings: Mapping[str, str]
    probe: Mapping[str, Any]
    runs: list[Measured]
    gate: Gated | None

    def reading(self, *path: str) -> float | None:
        """Return a number of the probe, None where it was not read."""
        place: Any = self.probe
        for name in path:
            place = place.get(name) if isinstance(place, dict) else None
        return place if isinstance(place, int | float) else None


def read_day(folder: Path) -> Day:
    """Read a folder with logs, probe.json and archives; raises DayError and nncore_bench.runs.RunError."""
    if not folder.is_dir():
        raise DayError(f"{str(folder)!r} is no folder (name the one that holds what came back)")
    logs = "\n".join(log.read_text(errors="replace") for log in sorted(folder.glob("*.log")))
    with _unpacked(folder) as place:
        return Day(_endings(logs), _probe(folder / PROBE_FILE), _runs(place), _gate(place))


@contextmanager
def _unpacked(folder: Path) -> Iterator[Path]:
    """Give a folder with what the archives hold while it is needed."""
    with TemporaryDirectory() as place:
        for archive in sorted(folder.glob(ARCHIVES)):
            try:
                with tarfile.open(archive) as tar:
                    tar.extractall(place, filter="data")
            except (tarfile.TarError, EOFError, OSError) as error:
                cause = str(error).partition("\n")[0]
                raise DayError(f"{str(archive)!r} cannot be unpacked ({cause})") from None
        yield Path(place)


def _endings(logs: str) -> dict[str, str]:
    """Return by stage how it ended; of one that was run again, that it ended well if it ever did."""
    found: dict[str, str] = {}
    for stage, ending in ENDING.findall(logs):
        if found.get(stage) != WELL:
            found[stage] = ending
    return found


def _probe(file: Path) -> dict[str, Any]:
    """Return the readings; none where the probe left no file, which the claims about it then say."""
    try:
        found = json.loads(file.read_bytes()) if file.exists() else {}
    except ValueError as error:
        raise DayError(f"{str(file)!r} is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise DayError(f"{str(file)!r} holds no readings by name")
    return found


def _runs(place: Path) -> list[Measured]:
    found = []
    for file in sorted(place.glob(f"*/*/{RUN_FILE}")):
        source = read_source(file.parent)
        found.append(Measured(file.parent.parent.name, source, list(read_blocks(file.parent))))
    return found


def _gate(place: Path) -> Gated | None:
    file = place / GATE_FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=Gated) if file.exists() else None
    except msgspec.DecodeError as error:
        raise DayError(f"{GATE_FILE} is not what a gate writes ({error})") from None
