"""Steps whose work varies: their times are those of the average step, whatever the noise."""

import numpy as np
import pytest
from made_up_runs import record_of

from nncore_bench.cases import STEP_PHASES, Case
from nncore_bench.estimate.positions import even_steps, with_even_steps
from nncore_bench.estimate.rows import timed_rows
from nncore_bench.runs import Block, by_case

CASE = Case("./loop.py:Loop", "-", "cpu", 1, "float32", "eager", 8, "-")
WORK_NS = np.array([1000, 1000, 1000, 5000, 1000, 1000, 1000, 5000])
"""What the steps of a block take undisturbed: every fourth does more."""


def plain_blocks(noise: np.random.Generator | None = None, number: int = 12) -> list[Block]:
    """Return plain blocks of eight counted steps, each step up to half as long again by chance."""
    blocks = []
    for turn in range(number):
        more = np.ones(len(WORK_NS)) if noise is None else 1 + 0.5 * noise.random(len(WORK_NS)) ** 3
        laps = np.concatenate([[7000], np.round(WORK_NS * 100 * more)]).astype(np.int64)
        blocks.append(Block("plain", laps[:, None], None, int(laps[1:].sum()), launch=turn % 4, round=turn))
    return blocks


def test_steps_of_known_work_are_averaged_exactly() -> None:
    """Three of 100 µs to one of 500 µs: 200 µs each, in every block."""
    for block in even_steps(plain_blocks()):
        assert block.column("step") == pytest.approx(200_000, abs=1)


def test_a_varying_step_is_timed_by_its_average_and_any_other_by_its_smallest() -> None:
    """Noise that only lengthens steps is left out as always."""
    blocks = plain_blocks(np.random.default_rng(1), 40)
    varying = record_of(CASE, phases=("step",), correct={"varies": 1.0})
    (row,) = timed_rows([varying], by_case(with_even_steps(blocks, [varying])))
    assert row.time_s == pytest.approx(200e-6, rel=0.01)
    (usual,) = timed_rows([record_of(CASE, phases=("step",))], by_case(blocks))
    assert usual.time_s == pytest.approx(100e-6, rel=0.01)


def test_a_compiled_step_varies_as_the_plain_one_does() -> None:
    """It was not looked at, since looking would compile it again."""
    compiled = Case("./loop.py:Loop", "-", "cpu", 1, "float32", "compile", 8, "-")
    records = [record_of(CASE, correct={"varies": 1.0}), record_of(compiled), record_of(other())]
    blocks = [
        Block("plain", block.host, None, block.wall_ns, case=case, round=block.round)
        for case in range(3)
        for block in plain_blocks()
    ]
    even = [len({*block.column("step").tolist()}) == 1 for block in with_even_steps(blocks, records)]
    assert even == [True] * 24 + [False] * 12


def other() -> Case:
    return Case("./another.py:Loop", "-", "cpu", 1, "float32", "eager", 8, "-")


def test_a_part_that_some_steps_lack_is_averaged_over_all() -> None:
    """40 µs in every fourth step are 10 µs a step; the parts still add up to it."""
    parts = ("forward", "log", "other")
    laps = np.tile([100_000, 0, 10_000, 0], (9, 1))
    laps[4::4, 1] = 40_000
    block = Block("laps", laps.astype(np.int64), None, int(laps[1:].sum()), parts=parts)
    (even,) = even_steps([block])
    assert even.column("log") == pytest.approx(10_000, abs=2)
    assert even.each_ns == pytest.approx(120_000, abs=4)


def test_fetched_batches_have_no_positions() -> None:
    """The loader goes on from block to block, so that their mean counts."""
    laps = np.array([[9, 0, 9], [1000, 0, 50], [3000, 0, 50]])
    (even,) = even_steps([Block("feed", laps.astype(np.int64), None, 4100)])
    assert even.column("data").tolist() == [2000, 2000]


def test_the_parts_of_a_step_by_name() -> None:
    """Columns of parts that a case does not have go to `other`, and missing ones are empty."""
    laps = np.array([[1, 2, 3, 4]])
    block = Block("laps", laps.astype(np.int64), None, 10, parts=("forward", "clip", "other"))
    there = block.with_parts(("forward", "penalty", "other"))
    assert there.host.tolist() == [[1, 0, 5, 4]]
    assert there.laps == ("forward", "penalty", "other", "unattributed")
    assert block.with_parts(block.parts) is block
    assert Block("laps", laps[:, [0] * 6], None, 1).laps == (*STEP_PHASES, "unattributed")
