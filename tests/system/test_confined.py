"""What a run writes: its state directory, its run directory, a device that was named for it; nothing else."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support import ROOT, harness, run_alone, wait_for_host
from tiny import TINY, accepted

from harness.adapters.workspace import Workspace
from loop_device import LoopDevice, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest_plugins = ["tiny_fixtures"]
pytestmark = [
    pytest.mark.system,
    pytest.mark.devices,
    pytest.mark.usefixtures("no_guest_left", "provisioned"),
]

READ_ONLY = """\
set -eu
mount --make-rprivate /
for kept; do mount --bind "$kept" "$kept"; done
mount -t tmpfs tmpfs /run/lock
# libvirt's own, whatever its root is.
mkdir -p /run/libvirt
mount -t tmpfs tmpfs /run/libvirt
while read -r _ _ _ _ place _; do
    case " $* /run/lock /run/libvirt /proc " in *" $place "*) continue ;; esac
    case $place in /proc/*) continue ;; esac
    mount -o remount,bind,ro "$place" 2>/dev/null || echo "not read-only: $place" >&2
done </proc/self/mountinfo
if touch /etc/ab-test /var/ab-test /root/ab-test /tmp/ab-test /dev/shm/ab-test 2>/dev/null; then exit 99; fi
exec "$PYTHON" -m harness run "$EXPERIMENT" --no-provision --run-dir "$RUN"
"""
"""Everything is read-only for the run but the directories that are its arguments."""


def test_nothing_is_written_outside_state_and_run_directory(place: Path) -> None:
    state, runs, temporary = Workspace.at().state, place / "runs", place / "tmp"
    for directory in (runs, temporary):
        directory.mkdir()
    experiment = place / "tiny.yml"
    experiment.write_text(f"{TINY}disk: {{backend: file, size: 16MiB}}\n")
    wait_for_host()
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", str(state), str(runs), str(temporary)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ
        | {"PYTHON": sys.executable, "EXPERIMENT": str(experiment), "RUN": str(runs / "r")}
        | {"TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "not read-only" not in done.stderr
    assert accepted(runs / "r") == [0, 1]
    # What is needed for a while goes where such things go, and is gone.
    assert list(temporary.iterdir()) == []
    # And nobody else on this host reads any of it.
    assert stat.S_IMODE((runs / "r").stat().st_mode) == 0o700
    assert stat.S_IMODE(state.stat().st_mode) == 0o711
    seen = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in state.iterdir()}
    open_to_all = {name for name, mode in seen.items() if mode & 0o066}
    assert open_to_all <= {"harness", "test-images"}


@pytest.fixture
def device() -> Iterator[LoopDevice]:
    made = LoopDevice()
    yield made
    made.close()


def content(device: LoopDevice) -> str:
    return hashlib.sha256(device.image.read_bytes()).hexdigest()


def experiment(device: LoopDevice, place: Path, rw: str) -> Path:
    allowed = f", destroy_data: {device.by_id}" if "write" in rw else ""
    path = place / "tiny.yml"
    text = TINY.replace("rw: randread", f"rw: {rw}")
    path.write_text(f"{text}disk: {{backend: block, path: {device.by_id}{allowed}}}\n")
    return path


def test_a_device_is_written_that_is_free_and_named(device: LoopDevice, place: Path) -> None:
    before = content(device)
    file = experiment(device, place, "randwrite")
    done = run_alone(str(file), "--no-provision", "--run-dir", str(place / "r"), timeout=900)
    assert done.returncode == 0, done.stderr
    assert accepted(place / "r") == [0, 1]
    assert content(device) != before


def test_somebodys_data_is_refused_and_only_read_when_only_read(device: LoopDevice, place: Path) -> None:
    run("mkfs.ext4", "-q", device.node)
    before = content(device)
    for verb in (["check"], ["run", "--no-provision", "--run-dir", str(place / "w")]):
        done = harness(verb[0], str(experiment(device, place, "randwrite")), *verb[1:])
        assert done.returncode == 2
        assert f"{device.by_id}: {device.name} holds data of the type ext4" in done.stderr
        assert f"wipefs -a {device.node}" in done.stderr
    assert not (place / "w").exists()
    mounted = place / "mounted"
    mounted.mkdir()
    run("mount", "-o", "ro", device.node, str(mounted))
    try:
        file = experiment(device, place, "randread")
        done = run_alone(str(file), "--no-provision", "--run-dir", str(place / "r"), timeout=900)
    finally:
        run("umount", str(mounted))
    assert done.returncode == 0, done.stderr
    assert f"{device.name} is mounted on {mounted}: what is done there is measured too" in done.stderr
    assert "<readonly/>" in next((place / "r").glob("sessions/*/domain.xml")).read_text()
    assert content(device) == before
