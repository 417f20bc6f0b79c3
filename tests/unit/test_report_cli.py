"""`harness report` and `compare --format html`: pages of every workload, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from counted_run import make
from test_comparing import a_run

from harness.shell.cli.main import run_cli

Captured = pytest.CaptureFixture[str]
SEED = Path(__file__).resolve().parents[1] / "data" / "seed"


def test_a_runs_report_is_one_file(tmp_path: Path, capsys: Captured) -> None:
    run, page = a_run(tmp_path / "r"), tmp_path / "report.html"
    assert run_cli(["report", str(run), "-o", str(page)]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"harness: wrote {page}\n")
    text = page.read_text()
    assert "NEW is faster than OLD in both cells" in text
    assert "Measured under TCG (emulation)" in text
    assert "Not shown: fio gave no percentiles" in text
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_compare_prints_the_same_page(tmp_path: Path, capsys: Captured) -> None:
    run = str(a_run(tmp_path / "r"))
    assert run_cli(["report", run, "-o", "-"]) == 0
    page = capsys.readouterr().out
    assert run_cli(["compare", run, "--format", "html"]) == 0
    assert capsys.readouterr().out == page
    assert run_cli(["compare", run, "--format", "html", "--fail-on", "slower"]) == 0


def test_several_metrics_are_a_section_each(tmp_path: Path, capsys: Captured) -> None:
    run = str(a_run(tmp_path / "r"))
    assert run_cli(["report", run, "-o", "-", "--metric", "iops,bw"]) == 0
    page = capsys.readouterr().out
    assert '<section id="bw-bytes"' in page
    assert 'data-table="bw_bytes-0"' in page


def test_results_from_elsewhere_have_a_page(capsys: Captured) -> None:
    old, new = str(SEED / "old.csv"), str(SEED / "new.csv")
    assert run_cli(["compare", old, new, "--format", "html"]) == 0
    page = capsys.readouterr().out
    assert "No verdict on NEW against OLD, only estimates between" in page
    assert f"OLD: {old}" in page
    assert 'id="sessions"' not in page


def test_a_run_of_counts_has_a_page(tmp_path: Path, capsys: Captured) -> None:
    run = str(make(tmp_path / "r", lambda p: p.requests * (200 if p.variant == "OLD" else 300) + 10**6))
    assert run_cli(["report", run, "-o", "-"]) == 0
    page = capsys.readouterr().out
    assert (
        "NEW takes more instructions a request than OLD in both cells (+50.0%); no time was measured" in page
    )
    assert "memset" in page
    assert run_cli(["compare", run, "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert all(f'<data value="{cell["contender"]}">' in page for cell in cells)
    assert run_cli(["compare", run, "--format", "html"]) == 0
    assert capsys.readouterr().out == page


def test_a_report_replaces_a_report_and_nothing_else(tmp_path: Path, capsys: Captured) -> None:
    run, page, notes = str(a_run(tmp_path / "r")), tmp_path / "a.html", tmp_path / "notes.txt"
    notes.write_text("mine")
    assert run_cli(["report", run, "-o", str(page)]) == 0
    assert run_cli(["report", run, "-o", str(page)]) == 0
    capsys.readouterr()
    assert run_cli(["report", run, "-o", str(notes)]) == 2
    assert "exists, and is no report: it is not overwritten" in capsys.readouterr().err
    assert notes.read_text() == "mine"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (".", "is a directory"),
        ("missing/report.html", "missing is not a directory"),
        ("file/report.html", "file is not a directory"),
    ],
)
def test_where_no_report_can_be_is_said_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, output: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert run_cli(["report", "no-run", "-o", output]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "remedy: " in error


def test_what_is_no_run_has_no_report(tmp_path: Path, capsys: Captured) -> None:
    assert run_cli(["report", str(tmp_path), "-o", str(tmp_path / "x.html")]) == 2
    assert "is not a run directory" in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()
