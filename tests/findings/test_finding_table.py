"""The table of findings, from findings made up by hand."""

from dataclasses import replace
from io import StringIO
from typing import Any

import pandas as pd
from made_up_runs import CPU_CASE, CUDA_CASE

from nncore_bench.cases import Case
from nncore_bench.findings.findings import Finding, NotApplicable
from nncore_bench.findings.text import finding_table
from nncore_bench.text.table import Table

NO_CUDA = NotApplicable("copies-in-step", "no case of this run ran on CUDA")
LARGE = replace(CPU_CASE, batch_size=128)


def finding(name: str, case: Case = CPU_CASE, **changes: Any) -> Finding:  # noqa: ANN401 - its fields
    usual: dict[str, Any] = {
        "phase": "optimizer",
        "evidence": f"dispatches {case.batch_size} operators",
        "next_step": "fuse them",
        "gain_s": None,
        "gain": "unknown: not profiled",
    }
    return Finding(name, case, **(usual | changes))


def table(*findings: Finding, not_applicable: tuple[NotApplicable, ...] = ()) -> Table:
    made = finding_table(findings, not_applicable)
    assert made is not None
    return made


def test_a_line_holds_all_cases_and_shows_where_it_costs_most() -> None:
    """Three cases, of which the second costs 41 µs a step."""
    costly = finding("loop", LARGE, gain_s=41e-6, gain="above two dispatches")
    made = table(finding("loop"), costly, finding("loop", CUDA_CASE, gain_s=7e-6))
    assert made.shown.to_dict("records") == [
        {
            "finding": "loop",
            "cases": "3",
            "worst case": LARGE.key,
            "evidence there": "dispatches 128 operators",
            "may save": "41.0 µs",
            "next step": "fuse them",
        }
    ]
    assert "loop: above two dispatches" in made.caption
    assert (made.name, made.on_screen) == ("findings", True)


def test_the_costliest_finding_comes_first_and_the_unknown_last() -> None:
    """Nought is known, too."""
    made = table(finding("a"), finding("b", gain_s=0.0), finding("c", gain_s=2e-3), finding("d", gain_s=3e-6))
    assert made.shown["finding"].tolist() == ["c", "d", "b", "a"]
    assert made.shown["may save"].tolist() == ["2.00 ms", "3.00 µs", "0.00 µs", "unknown"]


def test_of_cases_whose_cost_is_unknown_the_first_is_shown() -> None:
    """In the order of the run."""
    assert table(finding("a", LARGE), finding("a")).shown["worst case"].tolist() == [LARGE.key]


def test_the_files_have_every_case_and_every_reason() -> None:
    """Whole numbers stay whole, seconds are seconds, and unknown is empty."""
    made = table(finding("a", gain_s=41e-6), finding("a", LARGE), not_applicable=(NO_CUDA,))
    raw = pd.read_csv(StringIO(made.csv()), dtype=str, keep_default_na=False)
    assert raw["status"].tolist() == ["found", "found", "does not apply"]
    assert raw["batch_size"].tolist() == ["32", "128", ""]
    assert raw["gain_s"].tolist() == ["4.1e-05", "", ""]
    assert raw["finding"].tolist() == ["a", "a", "copies-in-step"]
    assert raw["reason"].tolist() == ["", "", NO_CUDA.reason]
    assert "Not checked, for reasons in the CSV: copies-in-step." in made.caption


def test_checks_that_do_not_apply_are_named_only_where_there_are_some() -> None:
    """Nothing is said of nothing."""
    assert "Not checked" not in table(finding("a")).caption


def test_where_nothing_was_found_the_table_is_not_for_the_screen() -> None:
    """Its lines are the reasons."""
    made = table(not_applicable=(NO_CUDA,))
    assert not made.on_screen
    assert made.shown.to_dict("records") == [
        {"check": "copies-in-step", "why it does not apply": "no case of this run ran on CUDA"}
    ]
    assert made.raw["status"].tolist() == ["does not apply"]


def test_where_there_is_nothing_to_say_there_is_no_table() -> None:
    """Every check was made, and found nothing."""
    assert finding_table([], []) is None


def test_it_prints_as_markdown() -> None:
    """A line of head, a rule and a line per finding."""
    text = table(finding("a"), finding("b")).markdown()
    assert text.startswith("## Findings, each with a next step\n")
    assert sum(line.startswith("|") for line in text.splitlines()) == 4
