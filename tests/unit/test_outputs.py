"""Where results go that the user names with -o and its like: nothing is destroyed that is no older result.

No test names /dev/null or /dev/stdout itself: whoever breaks this, as root, would break the machine.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import counted_run
import pytest
from test_build_trend import EXPERIMENT, steady
from test_comparing import a_run

from fuzz.watch import watched
from harness.adapters.outputs import check_output, write_output
from harness.core.errors import HarnessError, InputError
from harness.shell.cli.main import run_cli

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(a_run(tmp_path_factory.mktemp("runs") / "r", created="2026-01-01T02:00:00+00:00"))


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(counted_run.make(tmp_path_factory.mktemp("runs") / "releases", steady, EXPERIMENT))


@pytest.fixture(scope="module")
def history(run: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    store = ["--store", str(tmp_path_factory.mktemp("history") / "h.duckdb")]
    assert run_cli(["history", "add", run, *store]) == 0
    return ["history", "report", *store]


@pytest.fixture(params=["export", "report", "history", "bundle", "plot"])
def verb(request: pytest.FixtureRequest) -> tuple[list[str], str]:
    """Return a verb that writes a result, up to the file's name, and what that name ends in."""
    get = request.getfixturevalue
    match request.param:
        case "export":
            return ["export", get("run"), "--format", "csv", "-o"], ".csv"
        case "report":
            return ["report", get("run"), "-o"], ".html"
        case "history":
            return [*get("history"), "-o"], ".html"
        case "bundle":
            return ["export", get("run"), "--bundle"], ".tar.zst"
        case _:
            return ["compare", get("releases"), "--trend", "--plot"], ".svg"


def test_a_link_stays_one_and_its_target_is_written(verb: tuple[list[str], str], tmp_path: Path) -> None:
    arguments, suffix = verb
    (tmp_path / "elsewhere").mkdir()
    link, target = tmp_path / f"latest{suffix}", tmp_path / "elsewhere" / f"r{suffix}"
    link.symlink_to(target)
    # The first time it leads to what is not there yet.
    for _time in range(2):
        assert run_cli([*arguments, str(link)]) == 0
        assert link.is_symlink()
        assert target.stat().st_size > 100
        assert list((tmp_path / "elsewhere").iterdir()) == [target]


@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_file_is_written_into(
    verb: tuple[list[str], str], tmp_path: Path, *, linked: bool
) -> None:
    arguments, suffix = verb
    pipe, seen = tmp_path / f"pipe{suffix}", tmp_path / "seen"
    os.mkfifo(pipe)
    named = tmp_path / f"link{suffix}" if linked else pipe
    if linked:
        named.symlink_to(pipe)
    with seen.open("wb") as file, subprocess.Popen(["cat", str(pipe)], stdout=file) as reader:
        try:
            # Who looks into a pipe waits for ever.
            with watched(most_seconds=30, most_cpu_seconds=60):
                assert run_cli([*arguments, str(named)]) == 0
            assert pipe.is_fifo()
            assert named.is_symlink() == linked
            reader.wait(10)
        finally:
            reader.kill()
    assert seen.stat().st_size > 100
    assert set(tmp_path.iterdir()) == {pipe, named, seen}


@pytest.mark.parametrize("arguments", [["export", "--format", "csv"], ["report"]])
def test_what_stands_in_the_file_that_stdout_is_stays(run: str, arguments: list[str], tmp_path: Path) -> None:
    """Named as /dev/stdout is, by a link; it is another open file here, since stdout is pytest's."""
    link, output = tmp_path / "stdout", tmp_path / "all"
    output.write_text("before\n")
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    link.symlink_to(f"/proc/self/fd/{descriptor}")
    try:
        assert run_cli([*arguments, run, "-o", str(link)]) == 0
        os.write(descriptor, b"after\n")
    finally:
        os.close(descriptor)
    assert link.is_symlink()
    lines = output.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert len(lines) > 4


def test_a_link_to_what_is_no_report_is_no_way_around(run: str, tmp_path: Path, capsys: Captured) -> None:
    notes, link = tmp_path / "notes.txt", tmp_path / "report.html"
    notes.write_text("mine")
    link.symlink_to(notes)
    assert run_cli(["report", run, "-o", str(link)]) == 2
    assert "exists, and is no report" in capsys.readouterr().err
    assert notes.read_text() == "mine"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("directory", "is a directory"),
        ("link-to-directory", "is a directory"),
        ("missing/x", "missing is not a directory"),
        ("dangling", "nowhere is not a directory"),
        ("circle", "is a link that leads in a circle"),
    ],
)
def test_where_nothing_can_be_written_is_said_first(
    verb: tuple[list[str], str], output: str, words: str, tmp_path: Path, capsys: Captured
) -> None:
    arguments, suffix = verb
    (tmp_path / f"directory{suffix}").mkdir()
    (tmp_path / f"link-to-directory{suffix}").symlink_to(f"directory{suffix}")
    (tmp_path / f"dangling{suffix}").symlink_to(f"nowhere/x{suffix}")
    (tmp_path / f"circle{suffix}").symlink_to(f"circle{suffix}")
    before = sorted(tmp_path.rglob("*"))
    assert run_cli([*arguments, str(tmp_path / f"{output}{suffix}")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert "\n  remedy: " in captured.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("part", ["run.json", "host.jsonl", "sessions/000-OLD/session.json", "sessions/new"])
def test_a_run_is_not_written_over(part: str, verb: tuple[list[str], str], tmp_path: Path) -> None:
    arguments, suffix = verb
    other = a_run(tmp_path / "other", blocks=1)
    before = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
    link = tmp_path / f"link{suffix}"
    link.symlink_to(other / part)
    assert run_cli([*arguments, str(link)]) == 2
    assert {path: path.read_bytes() for path in other.rglob("*") if path.is_file()} == before
    # What only lies beside its parts is the user's.
    assert run_cli([*arguments, str(other / f"result{suffix}")]) == 0


def test_a_disk_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_block_device", lambda _path: True)
    with pytest.raises(InputError, match="is a disk, whose content would be lost"):
        check_output(tmp_path / "sdx", "table.csv")


def test_what_cannot_be_written_into_is_named() -> None:
    readable, writable = os.pipe()
    try:
        with pytest.raises(HarnessError, match=f"cannot write /proc/self/fd/{readable}: Bad file descriptor"):
            write_output(Path(f"/proc/self/fd/{readable}"), b"x")
    finally:
        os.close(readable)
        os.close(writable)
