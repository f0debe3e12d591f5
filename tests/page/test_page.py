"""The page in words: what it holds, what it leaves out, and that text stays text."""

import json
import re
from dataclasses import replace
from pathlib import Path

import msgspec.structs
import pandas as pd
import pytest
from made_up_runs import CPU_CASE, CUDA_CASE, blocks_of, cases_of, cuda_blocks_of, record_of, run_of

from nncore_bench.cases import Case
from nncore_bench.estimate.cells import cells_of
from nncore_bench.estimate.results import rows_of
from nncore_bench.estimate.source import Source
from nncore_bench.page.figures import phase_figure, throughput_figures
from nncore_bench.page.figures_of_runs import ratio_figure
from nncore_bench.page.page import Material, page, sections_of
from nncore_bench.page.publish import publish, summary
from nncore_bench.records import CaseProfile
from nncore_bench.runs import Block, Run
from nncore_bench.text.table import MOST_SUMMARY_BYTES

EVIL = "</script><script>window.evil = 1</script>'\"<b>"
MOST_BYTES = 2 * 2**20


def source(run: Run, blocks: list[Block]) -> Source:
    return Source(run, rows_of(run, blocks), [], None)


def of_cases(*cases: Case, factor: float = 1.0, **changes: object) -> Source:
    """Return a run of some cases on the CPU, in which all takes so many times as long as usual."""
    run = run_of([record_of(case) for case in cases], **changes)
    blocks = [
        replace(block, case=number)
        for number in range(len(cases))
        for block in blocks_of(launches=(factor, factor * 1.01))
    ]
    return source(run, blocks)


def on_both() -> Source:
    run = run_of([record_of(CPU_CASE), record_of(CUDA_CASE)])
    return source(run, [*blocks_of(), *cuda_blocks_of(1)])


def specs_in(text: str) -> dict[str, dict[str, object]]:
    """Return the pictures that a page holds."""
    found: dict[str, dict[str, object]] = json.loads(re.search(r"const specs = (.*);\n", text)[1])  # type: ignore[index]
    return found


def test_a_page_is_one_small_file_that_loads_nothing() -> None:
    """No address outside of the script that draws, which asks for none, and a policy that forbids any."""
    text = page(Material([of_cases(CPU_CASE)], "nncore-bench report"))
    assert len(text.encode()) < MOST_BYTES
    own = text.partition("<script>")[0]
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", own)
    assert "default-src 'none'" in own
    assert "nncore-bench report" in text


def test_the_verdict_comes_first_with_why_and_what_next() -> None:
    """Before any section."""
    text = page(Material([on_both()], "a command"))
    head = text[: text.index('<section id="worth">')]
    for word in ("Verdict", "Why", "Next", "Quality"):
        assert f"<dt>{word}</dt>" in head


def test_what_is_missing_is_said_with_how_to_get_it() -> None:
    """CUDA, profiles, prices and a run to compare with."""
    text = page(Material([of_cases(CPU_CASE)], "a command"))
    for sentence in (
        "No crossover: no CUDA results in this run",
        "no case was profiled (--step-profile",
        "give --price",
        "name an older one before it",
    ):
        assert sentence in text


def test_names_with_markup_are_text() -> None:
    """In the host, the subject, the commit and the command: escaped in HTML, and no tag in the script."""
    case = replace(CPU_CASE, subject=EVIL)
    evil = of_cases(case)
    run = msgspec.structs.replace(
        evil.run, host=EVIL, code=msgspec.structs.replace(evil.run.code, commit=EVIL)
    )
    text = page(Material([Source(run, evil.rows, evil.beside, None)], f"python {EVIL}"))
    assert "<script>window.evil" not in text
    assert "<b>" not in text
    assert "&lt;script&gt;window.evil" in text


def test_every_figure_on_the_page_is_a_figure_of_the_frame() -> None:
    """The points of the throughput picture are the rows' samples per second."""
    both = on_both()
    (picture,) = throughput_figures(cells_of(both.rows))
    (points,) = picture.spec["datasets"].values()
    assert "dashed" not in picture.alternative
    steps = {row.case.device: row for row in both.rows if row.phase == "step"}
    assert {point["device"]: point["samples"] for point in points} == {
        device: row.samples_per_s for device, row in steps.items()
    }


def test_two_runs_show_what_changed_and_more_their_history() -> None:
    """A line of the median over cases of 1.00, 1.01 to 1.04 times the first run's step; none of two runs."""
    runs = [of_cases(*cases_of(["cpu"]), factor=1 + 0.01 * n, id=f"run-{n}") for n in range(5)]
    pictures = specs_in(page(Material(runs, "a command")))
    assert {"ratios", "history"} <= set(pictures)
    (points,) = pictures["history"]["datasets"].values()  # type: ignore[attr-defined] # JSON
    assert [point["name"] for point in points] == [f"run-{n}" for n in range(5)]
    assert [point["time"] for point in points] == pytest.approx([1.0, 1.01, 1.02, 1.03, 1.04], rel=1e-6)
    other = of_cases(CPU_CASE, machine={"cpu_model": "Another CPU"}, id="other")
    text = page(Material([runs[0], other], "a command"))
    assert "history" not in specs_in(text)
    assert "The two differ in cpu_model (Made-up CPU against Another CPU)" in text
    assert "missing from B" in text


def test_variants_of_a_run_are_told_as_advice(tmp_path: Path) -> None:
    """What each gains on the plain case of its size; thread counts alone are told elsewhere."""
    fused = replace(CPU_CASE, variant="fused")
    run = run_of([record_of(CPU_CASE), record_of(fused), record_of(replace(CPU_CASE, threads=2, hidden=512))])
    blocks = [*blocks_of(launches=(1.0, 1.01)), *blocks_of(1, launches=(0.5, 0.505))]
    made = Source.of(run, blocks, tmp_path)
    ((base, (gain,)),) = made.gains.items()
    assert (base, gain.case, gain.judgement) == (CPU_CASE, fused, "faster")
    assert gain.speed_up is not None
    assert gain.speed_up.value == pytest.approx(2.0, rel=1e-3)
    text = page(Material([made], "a command"))
    assert "Best by itself: fused, 2.00" in text
    assert 'id="table-advice"' in text
    assert "nncore-bench advise" not in text.partition('<section id="faster">')[2]
    assert "side by side: nncore-bench advise" in page(Material([of_cases(CPU_CASE)], "a command"))


def test_advice_is_of_what_was_measured(tmp_path: Path) -> None:
    """Not of a device that was skipped, nor on a plain case that failed, nor of a step nobody asked for."""
    fused = replace(CPU_CASE, variant="fused")
    skipped = [
        record_of(case, status="skipped", reason="no CUDA")
        for case in (CUDA_CASE, replace(CUDA_CASE, variant="fused"))
    ]
    blocks = [*blocks_of(launches=(1.0, 1.01)), *blocks_of(1, launches=(0.5, 0.505))]
    usual = Source.of(run_of([record_of(CPU_CASE), record_of(fused), *skipped]), blocks, tmp_path)
    assert set(usual.gains) == {CPU_CASE}
    failed = run_of([record_of(CPU_CASE, status="failed", reason="no memory"), record_of(fused)])
    assert not Source.of(failed, blocks, tmp_path).gains
    inference = run_of([record_of(case, phases=("inference",)) for case in (CPU_CASE, fused)])
    kept = [block for block in blocks if block.kind == "inference"]
    assert not Source.of(inference, kept, tmp_path).gains


def test_what_never_pays_is_no_number_in_json(tmp_path: Path) -> None:
    """Infinity is none there."""
    run = run_of([record_of(CPU_CASE), record_of(replace(CPU_CASE, variant="fused"))])
    blocks = [*blocks_of(launches=(1.0, 1.01)), *blocks_of(1, launches=(1.5, 1.51))]
    report = Material([Source.of(run, blocks, tmp_path)], "a command").report
    ((record,),) = [table.records() for table in report.tables if table.name == "advice"]
    assert record["pays_after"] is None
    assert record["speed_up"] == pytest.approx(1 / 1.5, rel=1e-2)


def test_pictures_of_many_cases_show_those_that_matter_and_say_so() -> None:
    """Of 50 ratios the 48 farthest from 1, on either side, in their order; of shares the first 48."""
    ratios = [0.98 + 0.001 * n for n in range(50)]
    frame = pd.DataFrame({"case": [str(n) for n in range(50)], "ratio": ratios, "low": 0.9, "high": 1.2})
    picture = ratio_figure(frame.assign(outcome="ok"))
    assert picture is not None
    shown = max(picture.spec["datasets"].values(), key=len)
    assert [int(one["case"]) for one in shown] == [*range(20), *range(22, 50)]
    assert "50 cases" in picture.alternative
    assert "the 48 that differ most" in picture.alternative
    shares = phase_figure(cells_of(of_cases(*(replace(CPU_CASE, batch_size=n) for n in range(1, 51))).rows))
    assert shares is not None
    assert "48 cases (shown are the first 48 of 50)" in shares.alternative


def test_each_picture_has_its_words() -> None:
    """For whoever cannot see it."""
    sections = sections_of(Material([on_both(), on_both()], "a command"))
    figures = [figure for section in sections for figure in section.figures]
    assert {figure.name for figure in figures} >= {"throughput_128", "shares", "speed_up", "ratios"}
    for figure in figures:
        assert len(figure.alternative) > 20
        assert "$schema" not in figure.spec


def test_formats_are_files_of_their_own(tmp_path: Path) -> None:
    """Tables as text, pictures drawn without a browser."""
    written = publish(Material([on_both()], "a command"), tmp_path, ("md", "csv", "svg", "png", "tex"))
    names = {path.name for path in written}
    assert {
        "summary.md",
        "phases.md",
        "phases.csv",
        "phases.tex",
        "throughput_128.svg",
        "crossover.csv",
    } <= names
    assert (tmp_path / "throughput_128.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "shares.svg").read_text()
    assert "\\begin{tabular}" in (tmp_path / "phases.tex").read_text()


def test_a_summary_has_its_limit() -> None:
    """The sentences always, of the tables as many as fit."""
    many = of_cases(*(replace(CPU_CASE, batch_size=n) for n in range(1, 300)))
    report = Material([many], "a command").report
    text = summary(report)
    assert len(text.encode()) <= MOST_SUMMARY_BYTES
    assert report.sentences[0][:40] in text


def test_traces_are_linked_as_seen_from_the_page(tmp_path: Path) -> None:
    """Where they are there."""
    run, pages = tmp_path / "results" / "a run", tmp_path / "pages"
    (run / "traces").mkdir(parents=True)
    (run / "traces" / "one.json.gz").write_bytes(b"")
    made = of_cases(CPU_CASE)
    profiles = tuple(
        CaseProfile(CPU_CASE, 1, 1e-3, (), (), trace=f"traces/{name}.json.gz") for name in ("one", "gone")
    )
    with_traces = replace(made, run=msgspec.structs.replace(made.run, profiles=profiles), folder=run)
    text = page(Material([with_traces], "a command"), pages)
    assert 'href="../results/a%20run/traces/one.json.gz"' in text
    assert "gone.json.gz" not in text
