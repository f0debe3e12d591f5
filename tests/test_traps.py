"""The table of traps names tests that exist."""

import re
from pathlib import Path

HERE = Path(__file__).parent
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", (HERE / "traps.md").read_text())


def test_every_trap_is_held_by_a_test_that_exists() -> None:
    """30 rows, each with at least one test, and each test is defined where the table says."""
    rows = [line for line in (HERE / "traps.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 30
    assert all("::test_" in row for row in rows)
    missing = [
        f"{file}::{name}"
        for file, name in NAMED
        if not re.search(rf"^def {name}\(", (HERE / file).read_text(), re.MULTILINE)
    ]
    assert missing == []
