"""The command line as people and scripts meet it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.shell.cli.main import _VERBS, run_cli

ROOT = Path(__file__).resolve().parents[2]
QUICK = str(ROOT / "fio" / "quick.yml")
SEED = ROOT / "tests" / "data" / "seed"
BUILDS = "builds:\n  OLD: {package: qemu, suite: a}\n  NEW: {package: qemu, suite: b}\n"

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize("verb", _VERBS)
def test_every_verb_has_help_that_teaches(verb: str, capsys: Captured) -> None:
    assert run_cli([verb, "--help"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty"),
        ("a: [1,", "not valid YAML"),
        ("- a\n", "the file holds a list"),
        (f"name: x\n{BUILDS}", "baseline"),
        (f"name: x\n{BUILDS}baseline: OLD\nmatrx: {{}}\n", "did you mean matrix?"),
        (f"name: x\n{BUILDS}baseline: OLD\nmatrix: {{bs: 4q}}\n", "matrix.bs"),
        (f"name: x\n{BUILDS}baseline: OLD\nmatrix: {{iodepth: 0}}\n", "matrix.iodepth"),
    ],
)
def test_bad_experiments_are_refused_with_exit_code_2(
    text: str, expected: str, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "x.yml"
    path.write_text(text)
    assert run_cli(["check", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert expected in captured.err
    assert str(path) in captured.err


def test_all_errors_come_at_once(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "x.yml"
    path.write_text(f"name: x\n{BUILDS}matrix: {{bs: 4q, iodepth: 0}}\n")
    assert run_cli(["check", str(path)]) == 2
    error = capsys.readouterr().err
    assert all(key in error for key in ("baseline", "matrix.bs", "matrix.iodepth"))


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path, capsys: Captured) -> None:
    assert run_cli(["check", str(tmp_path)]) == 2
    assert run_cli(["check", str(tmp_path / "absent.yml")]) == 2
    error = capsys.readouterr().err
    assert "is a directory" in error
    assert "does not exist" in error


def test_plan_as_json_has_what_scripts_rely_on(tmp_path: Path, capsys: Captured) -> None:
    assert run_cli(["plan", QUICK, "--json", "--state-dir", str(tmp_path)]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert {"seed", "sessions", "iterations", "expected"} <= set(plan)
    assert {"wall_seconds", "fio_seconds", "mde"} <= set(plan["expected"])
    assert len(plan["sessions"]) == 16
    assert len(plan["iterations"]) == 64


def test_a_budget_chooses_the_protocol_and_a_short_one_is_refused(tmp_path: Path, capsys: Captured) -> None:
    state = ["--state-dir", str(tmp_path)]
    assert run_cli(["plan", QUICK, "--budget", "40m", "--json", *state]) == 0
    assert json.loads(capsys.readouterr().out)["expected"]["wall_seconds"] <= 40 * 60
    assert run_cli(["plan", QUICK, "--budget", "1m", *state]) == 2
    assert "too short" in capsys.readouterr().err


def test_the_seeds_table_is_reproduced_to_the_byte(capsys: Captured) -> None:
    assert run_cli(["compare", str(SEED / "old.csv"), str(SEED / "new.csv"), "--format", "commit"]) == 0
    captured = capsys.readouterr()
    assert captured.out == (SEED / "table.txt").read_text()
    assert "no verdict" in captured.err


def test_fail_on_unclear_fails_where_no_verdict_is_possible(capsys: Captured) -> None:
    results = [str(SEED / "old.csv"), str(SEED / "new.csv")]
    assert run_cli(["compare", *results, "--fail-on", "unclear"]) == 4
    assert run_cli(["compare", *results, "--fail-on", "slower"]) == 0
    assert capsys.readouterr().out


def test_schema_is_json(capsys: Captured) -> None:
    assert run_cli(["schema"]) == 0
    assert "builds" in json.loads(capsys.readouterr().out)["properties"]


@pytest.mark.parametrize(
    "arguments",
    [["run"], ["run", QUICK, "--resume", "x"], ["run", "--resume", "x", "--blocks", "2"], ["nonsense"]],
)
def test_wrong_usage_ends_with_exit_code_2(arguments: list[str], capsys: Captured) -> None:
    assert run_cli(arguments) == 2
    assert capsys.readouterr().out == ""


def test_resume_of_something_else_is_refused(tmp_path: Path, capsys: Captured) -> None:
    assert run_cli(["run", "--resume", str(tmp_path), "--state-dir", str(tmp_path / "s")]) == 2
    assert "no run.json" in capsys.readouterr().err


def test_builds_that_are_not_there_are_all_named_before_anything_is_touched(
    tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "x.yml"
    path.write_text(
        "name: x\nbuilds: {OLD: {path: /nonexistent/q}, NEW: {path: /etc/passwd}}\nbaseline: OLD\n"
    )
    assert run_cli(["run", str(path), "--state-dir", str(tmp_path / "state")]) == 2
    error = capsys.readouterr().err
    assert "/nonexistent/q does not exist" in error
    assert "/etc/passwd is not executable" in error
    assert not (tmp_path / "state").exists()


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from harness.shell.cli.main import run_cli; run_cli(['--help']);"
        "heavy = {'pandas', 'pydantic', 'libvirt', 'scipy', 'rich'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
