"""Where things are kept on a host."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from harness.adapters.workspace import Workspace


@pytest.mark.parametrize(
    "state", ["/var/lib/qemu-ab-harness", "/home/somebody/with/a/very/long/path/to/state"]
)
def test_the_agents_socket_fits_wherever_the_state_is(state: str) -> None:
    root = Workspace.at(Path(state)).embed_root
    socket = root / "lib/qemu/channel/target" / f"domain-9999-{'x' * 20}" / "org.qemu.guest_agent.0"
    assert len(str(socket)) <= 107


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
