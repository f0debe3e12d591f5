"""The table of findings, from findings made up by hand."""

from dataclasses import replace
from io import StringIO
from typing import Any

import pandas as pd
import pytest
from made_up_runs import CPU_CASE, CUDA_CASE

from nncore_bench.cases import Case
from nncore_bench.findings.finding import NO_CUDA, Finding, found
from nncore_bench.findings.text import costliest, evidence, finding_table, next_step
from nncore_bench.text.table import Table

SKIPPED = Finding(check="copies-in-step", reasons=(NO_CUDA,))
LARGE = replace(CPU_CASE, batch_size=128)


def finding(name: str, case: Case = CPU_CASE, **changes: Any) -> Finding:  # noqa: ANN401 - its fields
    figures = {"operators": case.batch_size, "foreach_operators": 0}
    one = Finding("optimizer loop", "optimizer", figures, {}, None, "not profiled")
    return replace(one, check=name, case=case, **changes)


def table(*findings: Finding) -> Table:
    made = finding_table(findings)
    assert made is not None
    return made


def test_a_line_holds_all_cases_and_shows_where_it_costs_most() -> None:
    """Three cases, of which the second costs 41 µs a step."""
    costly = finding("loop", LARGE, gain_s=41e-6, basis="whole copy")
    made = table(finding("loop"), costly, finding("loop", CUDA_CASE, gain_s=7e-6))
    assert made.shown.to_dict("records") == [
        {
            "finding": "loop",
            "cases": "3",
            "worst case": LARGE.key,
            "evidence there": evidence(costly),
            "may save": "41.0 µs",
            "next step": next_step(costly),
        }
    ]
    assert "loop: at most the whole copy" in made.caption
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
    made = table(finding("a", gain_s=41e-6), finding("a", LARGE), SKIPPED)
    raw = pd.read_csv(StringIO(made.csv()), dtype=str, keep_default_na=False)
    assert raw["status"].tolist() == ["found", "found", "does not apply"]
    assert raw["batch_size"].tolist() == ["32", "128", ""]
    assert raw["gain_s"].tolist() == ["4.1e-05", "", ""]
    assert raw["finding"].tolist() == ["a", "a", "copies-in-step"]
    assert raw["reason"].tolist() == ["", "", "no case of this run ran on CUDA"]
    assert "Not checked, for reasons in the CSV: copies-in-step." in made.caption


def test_checks_that_do_not_apply_are_named_only_where_there_are_some() -> None:
    """Nothing is said of nothing."""
    assert "Not checked" not in table(finding("a")).caption


def test_where_nothing_was_found_the_table_is_not_for_the_screen() -> None:
    """Its lines are the reasons."""
    made = table(SKIPPED)
    assert not made.on_screen
    assert made.shown.to_dict("records") == [
        {"check": "copies-in-step", "why it does not apply": "no case of this run ran on CUDA"}
    ]
    assert made.raw["status"].tolist() == ["does not apply"]


def test_where_there_is_nothing_to_say_there_is_no_table() -> None:
    """Every check was made, and found nothing."""
    assert finding_table([]) is None


@pytest.mark.parametrize(
    ("one", "words", "step"),
    [
        (
            found(
                "optimizer loop",
                "optimizer",
                1e-6,
                "above fused",
                operators=1_036,
                foreach_operators=0,
                share=0.42,
            ),
            "dispatches 1,036 operators a step, in a plain loop over the tensors, 42 % of the step",
            "fused=True",
        ),
        (
            found("waits", {"loss": 3}, None, "", wait_times=3, busiest="loss at model.py:12", more_sites=1),
            "the host waits 3 times a step: loss at model.py:12 and 1 more",
            "read it every hundredth step",
        ),
        (
            found("float64", {"forward": 2, "loss": 0, "backward": 1}, None, "", moved_bytes=3_000),
            "calls with float64: forward 2, backward 1, moving 3,000 bytes",
            "make the inputs and the model float32",
        ),
        (
            found("copy", "copy", 6.04e-6, "whole copy", time_s=6.04e-6, share=0.3),
            "pageable batches take 6.0 µs to copy, 30 % of the feeding loop",
            "DataLoader(..., pin_memory=True)",
        ),
        (
            found("too many threads", "step", None, "threads", threads=4, cores=1),
            "takes 4 threads on 1 core",
            "--step-threads=1",
        ),
    ],
    ids=lambda value: value.sight if isinstance(value, Finding) else "",
)
def test_figures_become_words_with_their_units(one: Finding, words: str, step: str) -> None:
    """The unit follows from the end of a figure's name, and phases without a count are left out."""
    assert evidence(one) == words
    assert next_step(one).startswith(step)


def test_the_costliest_finding_makes_one_sentence() -> None:
    """And without one there is none."""
    sentence = costliest([SKIPPED, finding("a"), finding("b", LARGE, gain_s=2e-3)])
    assert sentence is not None
    assert sentence.endswith(f"(b, may save 2.00 ms in {LARGE.key})")
    assert costliest([SKIPPED]) is None


def test_it_prints_as_markdown() -> None:
    """A line of head, a rule and a line per finding."""
    text = table(finding("a"), finding("b")).markdown()
    assert text.startswith("## Findings, each with a next step\n")
    assert sum(line.startswith("|") for line in text.splitlines()) == 4
