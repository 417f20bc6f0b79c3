"""What a verb does with its stdout and stderr: closed early or from the start, full, of another encoding."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fakes import FakeLab, campaign, new_run, raise_at
from harness.core.errors import GuestError
from harness.core.experiment.protocol import Protocol
from harness.shell.cli.main import run_cli

ROOT = Path(__file__).resolve().parents[2]
SEED = ROOT / "tests" / "data" / "seed"
UNCLEAR = ("compare", str(SEED / "old.csv"), str(SEED / "new.csv"), "--fail-on", "unclear")
CLOSED_EARLY = '| head -c0; exit "${PIPESTATUS[0]}"'
# "Ω" is not in this encoding.
LATIN = {"PYTHONIOENCODING": "iso-8859-1"}

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a run directory in which one session of NEW died; not to be changed."""
    made = new_run(tmp_path_factory.mktemp("runs") / "run", blocks=8)
    campaign(made, FakeLab(raise_at(30, GuestError)), protocol=Protocol(retries=0))
    return str(made.path)


@pytest.fixture
def no_utf8(run: str, tmp_path: Path) -> str:
    """Return a name of the run directory with a byte that begins no character."""
    link = tmp_path / os.fsdecode(b"run\xff")
    link.symlink_to(run)
    return str(link)


def harness(*arguments: str, redirection: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the real command with a redirection of the shell's."""
    return subprocess.run(
        ["bash", "-c", f'"$@" {redirection}', "-", sys.executable, "-m", "harness", *arguments],
        capture_output=True,
        check=False,
        timeout=60,
        cwd=ROOT,
        env=os.environ | environment,
    )


# Closed and full


def test_a_reader_that_closes_the_pipe_early_is_no_error() -> None:
    # A reader that is gone before anything is written, so that no buffer of the pipe takes it.
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "harness", "schema"],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
        cwd=ROOT,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("redirection", [CLOSED_EARLY, ">&-"])
def test_a_verdict_outlives_the_reader_of_the_table(redirection: str) -> None:
    done = harness(*UNCLEAR, redirection=redirection)
    assert (done.returncode, done.stdout, done.stderr) == (4, b"", b"")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_the_result_comes_where_nothing_takes_messages(run: str, redirection: str) -> None:
    verb = ("compare", run, "--format", "csv")
    shown = harness(*verb)
    assert b"harness: warning: " in shown.stderr
    done = harness(*verb, redirection=redirection)
    assert (done.returncode, done.stdout) == (0, shown.stdout)


def test_a_pipe_named_as_a_file_may_be_closed_early_too(run: str) -> None:
    done = harness("export", run, "--format", "csv", "-o", "/dev/stdout", redirection=CLOSED_EARLY)
    assert done.returncode == 0
    assert b"error" not in done.stderr


def test_a_full_disk_behind_stdout_is_an_error_in_words() -> None:
    done = harness("schema", redirection=">/dev/full")
    assert (done.returncode, done.stderr) == (1, b"error: No space left on device\n")


def test_a_pipe_that_is_closed_elsewhere_is_an_error_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def refused(_value: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("harness.shell.cli.schema.print_json", refused)
    assert run_cli(["schema"]) == 1
    assert capsys.readouterr().err == "error: Broken pipe\n"


# Encodings


def test_a_character_that_the_encoding_has_not_is_escaped(tmp_path: Path) -> None:
    done = harness("show", str(new_run(tmp_path / "run", run_id="10Ω").path), **LATIN)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"10\\u03a9" in done.stdout


@pytest.mark.parametrize("verb", [["report"], ["export", "--format", "markdown"]])
def test_what_is_a_file_is_utf8_on_stdout_too(run: str, verb: list[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert run_cli([*verb, run, "-o", str(file)]) == 0
    done = harness(*verb, run, "-o", "-", **LATIN)
    assert (done.returncode, done.stdout) == (0, file.read_bytes())


def test_json_takes_a_file_name_that_is_no_utf8(run: str, no_utf8: str, capsys: Captured) -> None:
    assert run_cli(["compare", run, no_utf8, "--json"]) == 0
    assert "run\ufffd" in str(json.loads(capsys.readouterr().out))


def test_a_name_that_is_no_utf8_is_said_readably(tmp_path: Path, capsys: Captured) -> None:
    assert run_cli(["check", str(tmp_path / os.fsdecode(b"x\xff.yml")), "--json"]) == 2
    [problem] = json.loads(capsys.readouterr().out)
    assert problem["where"] == f"{tmp_path}/x\ufffd.yml"


# Paths


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["export", "RUN", "--format", "csv", "-o", ""], "--output"),
        (["report", "RUN", "-o", ""], "--output"),
        (["history", "list", "--store", ""], "--store"),
        (["history", "report", "-o", ""], "--output"),
        (["builds", "list", "--state-dir", ""], "--state-dir"),
        (["run", "--resume", ""], "--resume"),
        (["show", ""], "RUN_DIR"),
    ],
)
def test_an_empty_path_is_refused(run: str, arguments: list[str], option: str, capsys: Captured) -> None:
    assert run_cli([run if one == "RUN" else one for one in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert option in captured.err
    assert "the path is empty" in captured.err


def test_a_dash_is_stdout(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_cli(["export", run, "--format", "csv"]) == 0
    table = capsys.readouterr().out
    assert run_cli(["export", run, "--format", "csv", "-o", "-"]) == 0
    assert capsys.readouterr().out == table
    store = str(tmp_path / "store.duckdb")
    finished = new_run(tmp_path / "run", blocks=8, created="2026-01-01T02:00:00+00:00")
    campaign(finished, FakeLab())
    assert run_cli(["history", "add", str(finished.path), "--store", store]) == 0
    capsys.readouterr()
    assert run_cli(["history", "report", "--store", store, "-o", "-"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("<!DOCTYPE html>")
    assert page.rstrip().endswith("</html>")
    assert not (tmp_path / "-").exists()


def test_several_formats_do_not_fit_into_stdout(run: str, capsys: Captured) -> None:
    assert run_cli(["export", run, "--format", "csv", "--format", "json", "-o", "-"]) == 2
    assert "several formats go into a directory" in capsys.readouterr().err
