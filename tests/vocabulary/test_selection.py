"""Cases are chosen as pytest's -k chooses tests."""

import pytest

from nncore_bench.errors import UserError
from nncore_bench.selection import selection

NAMES = ("cpu-t1-float32-eager-b1-h32", "cpu-t1-float32-eager-b32-h512", "cuda-float32-eager-b32-h32")


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("b32", (1, 2)),
        ("B32-H512", (1,)),
        ("not cuda", (0, 1)),
        ("cpu and b32", (1,)),
        ("cuda or h512", (1, 2)),
        ("not (cuda or h512)", (0,)),
        ("not not cuda", (2,)),
        ("cpu and not b32 or cuda", (0, 2)),
    ],
)
def test_an_expression_chooses_by_parts_of_names(text: str, chosen: tuple[int, ...]) -> None:
    """With and before or, and not before both."""
    matches = selection("--cases", text)
    assert tuple(number for number, name in enumerate(NAMES) if matches(name)) == chosen


@pytest.mark.parametrize("text", ["", "and", "b32 and", "(b32", "b32)", "b32 cuda", "not", "()"])
def test_what_is_no_expression_is_refused(text: str) -> None:
    """In one sentence with an example."""
    with pytest.raises(UserError, match=r"--cases: .* is not an expression \(example"):
        selection("--cases", text)
