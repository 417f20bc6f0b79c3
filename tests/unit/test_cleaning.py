"""`harness clean`: what is dead and carries the marks goes; what is alive, or anybody's else, stays."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.adapters import short_paths
from harness.adapters.leftovers import MARK, emulators_left
from harness.adapters.results.run_layout import is_unborn
from harness.adapters.scratch import scratch
from harness.adapters.workspace import Workspace
from harness.core.leftovers import Cleaned, Leftover, LeftoverFate, LeftoverKind
from harness.shell.cli.main import run_cli

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("host_lock")

DAY_AGO = time.time() - 86400


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host of one's own: its lock, its directory for temporary files, its state directory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(short_paths, "_SHARED", tmp_path / "tmp")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "s").mkdir()
    return tmp_path


def clean(place: Path, *arguments: str) -> int:
    return run_cli(["clean", "--state-dir", str(place / "s"), *arguments])


def found(place: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    """Return the names of what is met, and their fates."""
    assert clean(place, "--json", *arguments) == 0
    return {one["name"]: one["fate"] for one in json.loads(capsys.readouterr().out)["leftovers"]}


def embed_root(place: Path) -> Path:
    return Workspace.at(place / "s").embed_root


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    return path


def dead_things(place: Path) -> list[Path]:
    """Return one of each kind of file and directory that a killed run leaves."""
    state, run, lv = place / "s", place / "runs" / "r", embed_root(place)
    write(run / "run.json")
    write(place / "tmp" / "ab-scratch-dead" / "lock")
    return [
        place / "tmp" / "ab-scratch-dead",
        write(state / "guest" / "root.qcow2").parent,
        write(lv / "log" / "qemu" / "qemu-ab-x-000-OLD.log"),
        write(lv / "lib" / "qemu" / "domain-1-qemu-ab-x" / "monitor.sock").parent,
        write(state / "disks" / "1GiB.raw.part"),
        write(state / "manifests" / ".x.json.77.tmp"),
        write(state / "builds" / ".making-source-q-1" / "x").parent,
        write(run / "sessions" / "000-OLD" / ".session.json.77.tmp"),
        write(place / "runs" / "unborn" / "experiment.yml").parent,
    ]


def living_things(place: Path) -> list[Path]:
    """Return what only looks like it, or belongs to somebody else."""
    state, run, lv = place / "s", place / "runs" / "r", embed_root(place)
    return [
        write(place / "tmp" / "scratch-dead" / "lock"),
        write(place / "tmp" / "ab-scratch-just-made" / "x"),
        write(lv / "log" / "qemu" / "my-own-guest.log"),
        write(lv / "lib" / "qemu" / "domain-1-mine" / "monitor.sock"),
        write(state / "disks" / "1GiB.raw"),
        write(state / "manifests" / ".x.json.tmp"),
        write(run / "sessions" / "000-OLD" / "session.json"),
        write(run / "sessions" / "000-OLD" / ".notes.tmp"),
        write(place / "runs" / "mine" / "experiment.yml"),
    ]


def test_every_kind_is_found_listed_and_removed(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dead, living = dead_things(alone), living_things(alone)
    (alone / "runs" / "unborn" / "sessions").mkdir()
    # Without an argument those in ./runs are looked into, and called so.
    names = {str(path.relative_to(alone)) if alone / "runs" in path.parents else str(path) for path in dead}
    listed = found(alone, capsys, "--dry-run")
    assert listed == dict.fromkeys(names, "would be removed")
    assert all(path.exists() for path in dead)
    assert found(alone, capsys) == dict.fromkeys(names, "removed")
    assert not any(path.exists() for path in dead)
    assert all(path.exists() for path in living)


def test_nothing_to_do_is_said(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert clean(alone) == 0
    assert capsys.readouterr().out == "nothing is left behind\n"


def test_what_a_run_that_goes_on_needs_is_left_alone_and_its_process_named(
    alone: Path, host_lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guest, run = write(alone / "s" / "guest" / "root.qcow2"), alone / "runs" / "r"
    half = write(run / ".run.json.77.tmp")
    write(run / "run.json")
    (run / "sessions").mkdir()
    dead = write(alone / "tmp" / "ab-scratch-dead" / "lock")
    with host_lock.open("w") as host, (run / ".lock").open("w") as writer, scratch() as mine:
        fcntl.flock(host, fcntl.LOCK_EX)
        fcntl.flock(writer, fcntl.LOCK_EX)
        for arguments in (("--dry-run",), ()):
            assert clean(alone, *arguments) == 0
            out = capsys.readouterr().out
            assert f"this host is in use by process {os.getpid()}" in out
            assert f"left alone: runs/r, written by process {os.getpid()}" in out
        assert mine.exists()
    assert guest.exists()
    assert half.exists()
    assert not dead.exists(), "it is nobody's, whoever else runs"


def test_a_directory_that_is_no_more_than_somebodys_experiment_is_no_run(tmp_path: Path) -> None:
    write(tmp_path / "mine" / "experiment.yml")
    assert not is_unborn(tmp_path / "mine")
    (tmp_path / "mine" / "sessions").mkdir()
    assert is_unborn(tmp_path / "mine")
    write(tmp_path / "mine" / "sessions" / "x")
    assert not is_unborn(tmp_path / "mine")
    assert not is_unborn(tmp_path / "nowhere")


def test_a_run_directory_that_is_not_there_is_an_error(
    alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert clean(alone, "runs/nowhere") == 2
    assert "runs/nowhere: does not exist" in capsys.readouterr().err


def half_written_of(run: Path) -> Path:
    """Make a run directory with a file that its writer did not finish, or is about to; return that."""
    write(run / "run.json")
    return write(run / "sessions" / "000-OLD" / ".session.json.77.tmp")


def test_of_a_directory_of_runs_each_is_looked_at_by_itself_and_nothing_else(
    alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = alone / "fleet"
    dead, going_on = half_written_of(place / "dead"), half_written_of(place / "going-on")
    (place / "unborn" / "counts").mkdir(parents=True)
    others = [
        write(place / ".page.html.77.tmp"),
        write(place / "somebodys" / ".editor.77.tmp"),
        # Another program's, and a run within a run: it may have a writer of its own.
        write(place / "project" / "run.json").with_name(".cache.77.tmp"),
        half_written_of(place / "dead" / "aa"),
        write(place / "dead" / "plots" / ".pool.svg.77.tmp"),
    ]
    write(others[2])
    with (place / "going-on" / ".lock").open("w") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        # The same run twice is one run.
        assert clean(alone, "fleet", "fleet/dead") == 0
    out = capsys.readouterr().out
    assert f"left alone: fleet/going-on, written by process {os.getpid()}" in out
    assert out.count("removed") == 2
    assert not dead.exists()
    assert not (place / "unborn").exists()
    assert going_on.exists()
    assert all(path.exists() for path in others)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("project", "is no run directory, and holds none"),
        # One level down, where `harness clean DIR` does not go.
        (".", "is no run directory, and holds none"),
        ("notes.txt", "is not a directory"),
        ("runs/nowhere", "does not exist"),
    ],
)
def test_what_is_no_run_directory_is_refused_and_nothing_touched(
    alone: Path, name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    half = half_written_of(alone / "runs" / "r")
    others = [write(alone / "project" / ".x.77.tmp"), write(alone / "project" / "sub" / ".y.77.tmp")]
    write(alone / "notes.txt")
    scratch_directory = write(alone / "tmp" / "ab-scratch-dead" / "lock")
    assert clean(alone, "runs/r", name) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"error: {name}: {words}" in captured.err
    assert "\n  remedy: name a run directory" in captured.err
    assert all(path.exists() for path in (half, scratch_directory, *others))


def test_a_start_that_got_no_further_than_its_directory_is_no_error(alone: Path) -> None:
    (alone / "runs" / "r").mkdir(parents=True)
    assert clean(alone, "runs/r") == 0
    assert (alone / "runs" / "r").exists()


SLEEPER = "import time; time.sleep(300)"


@pytest.fixture
def pretender(alone: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with the command line of a guest's QEMU, which does not end when it is asked to."""
    program = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); {SLEEPER}"
    secret = f'{{"file":"{embed_root(alone)}/lib/qemu/domain-1/master-key.aes"}}'
    argv = [sys.executable, "-c", program, "-name", "guest=qemu-ab-x-000-OLD", "-object", secret]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def test_a_qemu_that_nobody_knows_is_ended_by_force(
    alone: Path, pretender: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    assert emulators_left(alone / "other", "qemu-ab-") == [], "of another state directory"
    assert clean(alone) == 0
    assert f"process  removed  {pretender.pid} (" in capsys.readouterr().out
    assert pretender.wait(10) == -9


def test_what_a_playbook_left_is_ended_once_its_directory_is_nobodys(
    alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with scratch() as directory:
        worker = subprocess.Popen(
            [sys.executable, "-c", SLEEPER], env={MARK: str(directory)}, stdout=subprocess.DEVNULL
        )
        assert str(worker.pid) not in " ".join(found(alone, capsys))
        assert worker.poll() is None
    assert any(name.startswith(f"{worker.pid} (") for name in found(alone, capsys))
    assert worker.wait(10) == -15


def test_a_scratch_directory_without_a_lock_goes_once_it_is_old(alone: Path) -> None:
    young, old = (alone / "tmp" / f"ab-scratch-{name}" for name in ("young", "old"))
    for path in (young, old):
        path.mkdir()
    os.utime(old, (DAY_AGO, DAY_AGO))
    assert clean(alone) == 0
    assert (young.exists(), old.exists()) == (True, False)


def test_what_cannot_be_removed_is_told_and_ends_with_1(
    alone: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(alone / "s" / "disks" / "1GiB.raw.part")

    def refuse(_path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert clean(alone) == 1
    out = capsys.readouterr().out
    assert "failed" in out
    assert "Permission denied" in out


def test_the_table_has_a_row_for_each_leftover() -> None:
    done = Cleaned(
        (
            Leftover(LeftoverKind.GUEST, "qemu-ab-x", LeftoverFate.REMOVED),
            Leftover(LeftoverKind.FILE, "/s/a", LeftoverFate.FAILED, "Permission denied"),
        ),
        ("runs/r, written by process 7",),
    )
    assert list(done.lines()) == [
        "KIND   FATE     WHAT",
        "guest  removed  qemu-ab-x",
        "file   failed   /s/a: Permission denied",
        "left alone: runs/r, written by process 7",
    ]
    assert done.failed
