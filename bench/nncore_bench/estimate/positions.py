"""Steps whose work varies, made comparable: position by position of their blocks.

Every block starts from the same state, so the step at one position always does the same work. The smallest
lap of a block would be that of its lightest step. Here each position has a low estimate of its own, the
smallest of all blocks; the average of these is the undisturbed step, and each lap is scaled by how the
average compares with its position, so that what follows may take the smallest lap of a block as always.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nncore_bench.records import VARIES, CaseRecord
from nncore_bench.runs import Block, Nanoseconds

if TYPE_CHECKING:
    from nncore_bench.cases import BlockKind

NOTHING = 1.0
"""Nanoseconds added to every lap, since a part that some steps do not have takes none."""


def with_even_steps(blocks: Sequence[Block], records: Sequence[CaseRecord]) -> list[Block]:
    """Return the blocks, those of varying steps on the CPU with laps as of average ones; others as they are.

    On a device laps are averaged over a block anyway. Batches that are fetched go on from block to block and
    have no positions; each of their laps becomes the mean of its block.
    """
    subjects = {_work_of(record) for record in records if record.correct.get(VARIES)}
    varying = {
        number
        for number, record in enumerate(records)
        if _work_of(record) in subjects and not record.case.on_device
    }
    if not varying:
        return list(blocks)
    alike: dict[tuple[int, BlockKind], list[Block]] = {}
    for block in blocks:
        alike.setdefault((block.case, block.kind), []).append(block)
    evened: Mapping[int, Block] = {
        id(block): even
        for (case, _), of_kind in alike.items()
        if case in varying
        for block, even in zip(of_kind, even_steps(of_kind), strict=True)
    }
    return [evened.get(id(block), block) for block in blocks]


def _work_of(record: CaseRecord) -> tuple[str, int]:
    """Return what the variants of a case share, of which the compiled ones do not look at their work."""
    return record.case.subject, record.case.batch_size


def even_steps(blocks: Sequence[Block]) -> list[Block]:
    """Return blocks of one kind with laps as of average steps, cut to the shortest of them."""
    if blocks[0].kind == "feed":
        return [replace(block, host=_means(block.host)) for block in blocks]
    shortest = min(len(block.host) for block in blocks)
    laps = np.array([block.host[1:shortest] for block in blocks]) + NOTHING  # [blocks, positions, columns]
    lowest = laps.min(axis=0)
    scaled = laps * (lowest.mean(axis=0) / lowest) - NOTHING
    return [
        replace(block, host=np.concatenate([block.host[:1], np.round(own).astype(np.int64)]))
        for block, own in zip(blocks, scaled, strict=True)
    ]


def _means(laps: Nanoseconds) -> Nanoseconds:
    counted = np.broadcast_to(laps[1:].mean(axis=0), laps[1:].shape)
    return np.concatenate([laps[:1], np.round(counted).astype(np.int64)])
