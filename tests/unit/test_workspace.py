"""Where things are kept on a host."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from harness.adapters import short_paths
from harness.adapters.scratch import left, scratch
from harness.adapters.workspace import Workspace
from harness.shell.cli.main import run_cli


@pytest.mark.parametrize(
    "state", ["/var/lib/qemu-ab-harness", "/home/somebody/with/a/very/long/path/to/state"]
)
def test_the_agents_socket_fits_wherever_the_state_is(state: str) -> None:
    root = Workspace.at(Path(state)).embed_root
    agent = root / "lib/qemu/channel/target" / f"domain-9999-{'x' * 20}" / "org.qemu.guest_agent.0"
    assert len(os.fsencode(agent)) <= 107


@pytest.fixture
def long_tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for temporary files that is too long for any socket below it."""
    place = tmp_path / ("x" * 100)
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return place


def test_the_agents_socket_fits_whatever_tmpdir_is(long_tmpdir: Path) -> None:
    test_the_agents_socket_fits_wherever_the_state_is(str(long_tmpdir / "state"))
    # Bytes count, not characters.
    test_the_agents_socket_fits_wherever_the_state_is("/var/lib/\N{SNOWMAN}\N{SNOWMAN}\N{SNOWMAN}/lv")


def test_a_socket_can_be_made_in_scratch_whatever_tmpdir_is(long_tmpdir: Path) -> None:
    assert str(long_tmpdir)
    with scratch(sockets=True) as place, socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place / "qtest"))
        (place / "lock").unlink()
        # Whoever cleans up looks there too: of a process that was killed long ago.
        os.utime(place, (0, 0))
        assert place in left()


def test_paths_that_are_too_long_are_refused_before_anything_is_started(
    long_tmpdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(short_paths, "_SHARED", long_tmpdir / "nowhere")
    state = long_tmpdir / "state"
    assert run_cli(["run", "fio/quick.yml", "--state-dir", str(state)]) == 2
    said = capsys.readouterr().err
    over = len(str(state / "lv")) - 27
    assert f"error: {state}: is {over} bytes too long for libvirt's UNIX sockets below it" in said
    assert "remedy: name one of at most 24 bytes (--state-dir)" in said
    assert f"error: {long_tmpdir}: is " in said
    assert "set a shorter TMPDIR, of at most" in said
    assert not state.exists()


def modes(directory: Path) -> dict[str, int]:
    return {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in directory.iterdir()}


def test_a_new_state_directory_lets_others_pass_and_not_look(tmp_path: Path) -> None:
    Workspace.at(tmp_path / "below" / "state").secure()
    assert modes(tmp_path / "below") == {"state": 0o711}


def test_one_from_before_is_closed_and_nothing_is_opened(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for name in ("builds", "disks", "manifests", "runs", "harness"):
        (state / name).mkdir(parents=True)
        (state / name).chmod(0o755)
    (state / "images").mkdir(mode=0o700)
    for name in ("accel.json", "history.duckdb"):
        (state / name).touch(0o644)
    state.chmod(0o755)
    Workspace.at(state).secure()
    assert modes(tmp_path) == {"state": 0o711}
    assert modes(state) == {
        "builds": 0o711,
        "disks": 0o711,
        "images": 0o700,
        "manifests": 0o700,
        "runs": 0o700,
        "harness": 0o755,
        "accel.json": 0o600,
        "history.duckdb": 0o600,
    }


def test_what_is_not_the_harnesss_is_left_as_it_is(tmp_path: Path) -> None:
    state, elsewhere = tmp_path / "srv", tmp_path / "elsewhere"
    for directory in (state / "photos", state / "runs", elsewhere):
        directory.mkdir(parents=True)
        directory.chmod(0o755)
    (state / "manifests").symlink_to(elsewhere)
    state.chmod(0o755)
    Workspace.at(state).secure()
    assert modes(tmp_path) == {"srv": 0o755, "elsewhere": 0o755}
    assert modes(state) == {"photos": 0o755, "runs": 0o700, "manifests": 0o755}


def test_the_state_of_another_user_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir(mode=0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    Workspace.at(tmp_path).secure()
    assert modes(tmp_path) == {"runs": 0o755}
