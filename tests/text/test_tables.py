"""A table as Markdown is the one that tabulate makes, without its padding."""

import pandas as pd
import pytest
import tabulate

from nncore_bench.text.table import Table


def test_markdown_is_that_of_tabulate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words to the left and numbers to the right, each column as wide as its widest cell."""
    shown = pd.DataFrame({"phase": ["loss", "step "], "time µs": ["9", "1,204 ± 3"], "x": ["", "n/a"]})
    monkeypatch.setattr(tabulate, "MIN_PADDING", 0)
    sides = ["left", "right", "right"]
    expected = shown.to_markdown(index=False, disable_numparse=True, colalign=sides)
    assert Table("a", "Title", "Caption.", shown, shown).markdown() == f"## Title\n\n{expected}\n\nCaption.\n"
