"""A day with a GPU, made up whole: what would come back if everything were as it should be."""

import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec.structs
from day import GATE_FILE, PROBE_FILE, STAGES, Day, Gated, Measured
from made_up_columns import RULE, column, confirmed
from made_up_gpu_runs import GATED, good_runs
from made_up_probe import made_up_probe

from nncore_bench.cases import Case
from nncore_bench.estimate.source import Source
from nncore_bench.gate.decide import Decision
from nncore_bench.gate.outcome import Outcome
from nncore_bench.gate.text import gate_record
from nncore_bench.records import CaseProfile, CaseRecord
from nncore_bench.runs import Block, Run, RunFolder, plain_json


@dataclass
class MadeUpDay:
    """Hold a day that can be damaged before it is looked at; runs and their blocks are by stage."""

    endings: dict[str, str]
    probe: dict[str, Any]
    runs: dict[str, tuple[Run, list[Block]]]
    decisions: list[Decision]

    @classmethod
    def good(cls) -> "MadeUpDay":
        """Return a day on which every claim holds."""
        decisions = confirmed(*(column(1.0, name=name) for name in GATED))
        return cls(dict.fromkeys(STAGES, "exit code 0"), made_up_probe(), {**good_runs()}, decisions)

    def day(self) -> Day:
        """Return it as it is read back."""
        good = good_runs()
        runs = [
            _good_run(stage) if made is good.get(stage) else _measured(stage, *made)
            for stage, made in self.runs.items()
        ]
        return Day(self.endings, self.probe, runs, Gated(tuple(self.decisions), (8, 16), 100.0))

    def change_run(self, stage: str, change: Callable[[Run], Run]) -> None:
        """Put another run in the place of a stage's."""
        run, blocks = self.runs[stage]
        self.runs[stage] = (change(run), blocks)

    def change_record(self, stage: str, case: Case, change: Callable[[CaseRecord], CaseRecord]) -> None:
        """Put another record in the place of a case's."""

        def changed(run: Run) -> Run:
            cases = tuple(change(one) if one.case == case else one for one in run.cases)
            return msgspec.structs.replace(run, cases=cases)

        self.change_run(stage, changed)

    def change_blocks(self, stage: str, case: Case, change: Callable[[Block], Block]) -> None:
        """Put other blocks in the place of a case's or companion's."""
        run, blocks = self.runs[stage]
        numbers = [n for n, one in enumerate((*run.cases, *run.companions)) if one.case == case]
        self.runs[stage] = (run, [change(block) if block.case in numbers else block for block in blocks])

    def change_profile(self, stage: str, case: Case, change: Callable[[CaseProfile], CaseProfile]) -> None:
        """Put another profile in the place of a case's."""

        def changed(run: Run) -> Run:
            profiles = tuple(change(one) if one.case == case else one for one in run.profiles)
            return msgspec.structs.replace(run, profiles=profiles)

        self.change_run(stage, changed)

    def save(self, folder: Path) -> None:
        """Write it as both commands leave it: logs, probe.json, and an archive a stage."""
        lines = [f"== {stage}: {ending} after 9 s\n" for stage, ending in self.endings.items()]
        (folder / "first.log").write_text("".join(lines[:3]))
        (folder / "second.log").write_text("".join(lines[3:]))
        (folder / PROBE_FILE).write_bytes(plain_json(self.probe))
        with TemporaryDirectory() as place:
            for stage, (run, blocks) in self.runs.items():
                _write(Path(place) / stage, run, blocks)
            (Path(place) / GATE_FILE).parent.mkdir()
            (Path(place) / GATE_FILE).write_bytes(plain_json(gate_record(self._outcome())))
            for stage in (*self.runs, "gate"):
                with tarfile.open(folder / f"{stage}.tar.gz", "w:gz") as tar:
                    tar.add(Path(place) / stage, stage)

    def _outcome(self) -> Outcome:
        decisions = {decision.name: decision for decision in self.decisions}
        return Outcome(
            base="base",
            candidate="candidate",
            rule=RULE,
            cases=(),
            new={},
            changes={},
            decisions=decisions,
            phases={},
            causes={},
            seconds=100.0,
            pairs=(8, 16),
            measured={},
            discarded=(),
            interrupted=False,
        )


@cache
def _good_run(stage: str) -> Measured:
    """Return a run of a good day as it is read back, which takes a while and is never changed."""
    return _measured(stage, *good_runs()[stage])


def _measured(stage: str, run: Run, blocks: list[Block]) -> Measured:
    return Measured(stage, Source.of(run, blocks, None), blocks)


def _write(results: Path, run: Run, blocks: Sequence[Block]) -> None:
    folder = RunFolder.create(results, run.host, now=datetime(2025, 1, 2, tzinfo=UTC), short_id="ab12")
    folder.save(run)
    folder.save_round(0, blocks)
    folder.merge_rounds()
