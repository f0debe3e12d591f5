"""`nncore-bench report --out`: a page or files of one run or many, or one sentence."""

from pathlib import Path

import pytest
from made_up_runs import saved

from nncore_bench import __main__ as command

PAGE = "report.html"


def report(*arguments: object) -> int:
    return command.main(["report", *map(str, arguments)])


def test_a_page_is_written_where_it_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a folder that is made for it, and with the command that made it."""
    out = tmp_path / "pages" / PAGE
    assert report(saved(tmp_path, 1), "--out", out, "--price", "cpu=0.1", "--price", "cuda=2.5") == 0
    assert capsys.readouterr().out == f"written: {out}\n"
    text = out.read_text(encoding="utf-8")
    assert "--price cuda=2.5</pre>" in text
    assert "give --price" not in text


def test_a_broken_run_among_many_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others make the page."""
    runs = [saved(tmp_path, day) for day in (1, 2, 3)]
    (runs[1] / "run.json").write_text("{")
    assert report(*runs, "--out", tmp_path / PAGE) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"left out: '{runs[1]}/run.json' is not a run record")
    assert '"ratios"' in (tmp_path / PAGE).read_text(encoding="utf-8")


def test_formats_make_a_folder_of_files(tmp_path: Path) -> None:
    """Of which html is one."""
    assert report(saved(tmp_path, 1), "--out", tmp_path / "out", "--format", "html,csv") == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {PAGE, "phases.csv"} <= names
    assert not [name for name in names if name.endswith((".md", ".svg"))]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--out", "x.html", "--format", "pdf"],
            "--format: 'pdf' is not one of html, md, csv, svg, png, tex",
        ),
        (["--out", "x.html", "--price", "tpu=1"], "--price: 'tpu=1' is not DEVICE=PRICE"),
        (["--out", "x.html", "--price", "cuda=free"], "--price: 'cuda=free' is not DEVICE=PRICE"),
        (["--format", "csv"], "nothing is written without --out"),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 2, before a run is read."""
    assert report("no-such-run", *arguments) == 2
    assert sentence in capsys.readouterr().err


def test_runs_none_of_which_can_be_read_are_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And no page is made."""
    assert report(tmp_path / "a", tmp_path / "b", "--out", tmp_path / PAGE) == 2
    assert "none of the 2 runs can be read" in capsys.readouterr().err
    assert not (tmp_path / PAGE).exists()


def test_a_page_that_cannot_be_written_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one sentence that names the file."""
    (tmp_path / "file").write_text("")
    assert report(saved(tmp_path, 1), "--out", tmp_path / "file" / PAGE) == 2
    assert "cannot be used (" in capsys.readouterr().err
