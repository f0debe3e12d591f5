"""The ranks of one training, each watched by itself: which one is late, and with what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from statistics import median

import numpy as np

from nncore_bench.estimate.observed import Observed, observed
from nncore_bench.runs import NANO
from nncore_bench.text.format import duration, percentage, plus_minus, unit_for
from nncore_bench.text.table import Column, Table
from nncore_bench.watch.fold import Watched, watched_of, windows_of
from nncore_bench.watch.marks import read_facts, read_marks
from nncore_bench.watch.phases import WAITING

SYNCHRONISED = "backward"
"""The phase in which ranks wait for each other, under DistributedDataParallel."""

TOGETHER = timedelta(minutes=1)
"""Ranks of one training begin within this; another one may have the same port."""

LATE = 0.02
"""A rank that is behind the others by a smaller share of the step is not called late."""

CAPTION = (
    "Before the others are waited for: all of a step but its backward pass, in which ranks exchange their"
    " gradients and the early ones wait; last: in how many of the steps that all ranks watched this one was"
    " the last to begin it."
)


@dataclass(frozen=True)
class OfRank:
    """What was seen in a rank; `own_ns` has, by step of the run, all of it but the phase that waits."""

    rank: int
    lines: Mapping[str, Observed]
    own_ns: Mapping[int, int]
    last: float = 0.0

    @property
    def own_s(self) -> float:
        """The mean time of its steps before it waits for the others."""
        return float(np.mean(list(self.own_ns.values()))) * NANO


def folders_of_ranks(folder: Path) -> dict[int, Path]:
    """Return the folders of the ranks that trained together with that of a folder, by rank."""
    group = read_facts(folder).get("group")
    if group is None:
        return {}
    found = {}
    for one in sorted(folder.parent.iterdir()):
        facts = read_facts(one)
        if facts.get("group") == group and abs(_begun(one) - _begun(folder)) < TOGETHER:
            found[int(facts["rank"])] = one
    return dict(sorted(found.items()))


def _begun(folder: Path) -> datetime:
    """Return when a run began, from the name of its folder."""
    return datetime.strptime(folder.name.split("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def ranks_of(folders: Mapping[int, Path]) -> list[OfRank]:
    """Return what was seen in ranks, less those in which nothing was."""
    watched = {
        rank: watched_of(windows_of(read_marks(folder), read_facts(folder).get("names", [])))
        for rank, folder in folders.items()
    }
    own = {rank: _own_ns(one) for rank, one in watched.items() if one.parts_ns}
    common = sorted(set.intersection(*map(set, own.values()))) if own else []
    last = [max(own, key=lambda rank: own[rank][step]) for step in common]
    return [
        OfRank(
            rank,
            {line.phase: line for line in observed(watched[rank])},
            of_rank,
            last.count(rank) / len(common) if common else 0.0,
        )
        for rank, of_rank in own.items()
    ]


def _own_ns(watched: Watched) -> dict[int, int]:
    found = {}
    for after, parts, whole in zip(watched.after, watched.parts_ns, watched.watched_ns, strict=True):
        for number, ns in enumerate(whole):
            found[after + number] = ns - (parts[SYNCHRONISED][number] if SYNCHRONISED in parts else 0)
    return found


def ranks_table(ranks: Sequence[OfRank]) -> Table | None:
    """Return a line for each rank; None for fewer than two."""
    if len(ranks) < 2:  # noqa: PLR2004 - one rank waits for nobody
        return None
    unit = unit_for([one.own_s for one in ranks])

    def of_phase(name: str) -> Column:
        return Column(
            f"{name} {unit.symbol}",
            f"{name.replace(' ', '_')}_s",
            lambda one: one.lines[name].mean if name in one.lines else None,
            lambda mean: "-" if mean is None else plus_minus(mean, unit.seconds),
        )

    columns = [
        Column("rank", "rank", attrgetter("rank")),
        of_phase("step"),
        Column(f"before the others are waited for {unit.symbol}", "own_s", attrgetter("own_s"), unit.text),
        of_phase(WAITING),
        of_phase("forward"),
        of_phase(SYNCHRONISED),
        Column("last in % of steps", "last", attrgetter("last"), percentage),
    ]
    return Table.of("ranks", "Ranks", CAPTION, columns, ranks)


def late_rank(ranks: Sequence[OfRank]) -> str:
    """Return which rank is late, by how much and with what, in one sentence; or that none is."""
    slow = max(ranks, key=attrgetter("own_s"))
    others = [one for one in ranks if one is not slow]
    behind_s = slow.own_s - median(one.own_s for one in others)
    if behind_s < LATE * slow.lines["step"].mean.value:
        return f"No rank is late: they begin to exchange gradients within {duration(abs(behind_s))}."
    names = [name for name in slow.lines if name not in ("step", SYNCHRONISED)]

    def more_s(name: str) -> float:
        return slow.lines[name].mean.value - median(
            one.lines[name].mean.value if name in one.lines else 0.0 for one in others
        )

    most = max(names, key=more_s)
    return (
        f"Rank {slow.rank} is late: it begins to exchange gradients {duration(behind_s)} after the others"
        f" (mean), last in {percentage(slow.last)} % of the steps; its {most} takes {duration(more_s(most))}"
        " longer than theirs."
    )
