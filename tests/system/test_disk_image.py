"""Guests from a disk image: its own boot loader, prepared by a playbook, reached by SSH or agent."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, harness, run_alone, wait_for_host
from tiny import NAME, TINY, accepted, guests, sessions, wait_until

from cloud_image import cloud_image

pytest_plugins = ["tiny_fixtures"]
pytestmark = [pytest.mark.system, pytest.mark.usefixtures("no_guest_left")]

PATIENCE = 3600


@pytest.fixture(scope="session")
def debian() -> Path:
    """A disk image as its users know it."""
    return cloud_image()


def write_experiment(place: Path, guest: dict[str, Any], rest: str = "") -> Path:
    """Write the smallest experiment with such a guest."""
    path = place / f"{NAME}.yml"
    settings = json.dumps({"memory": "1GiB", "vcpus": 2} | guest)
    path.write_text(TINY.replace("{memory: 512MiB, vcpus: 1}", settings) + f"accel: tcg\n{rest}")
    return path


def left_over(state: Path) -> list[Path]:
    """Return the disks and keys that a run has left on this host."""
    keys = Path(tempfile.gettempdir()).glob("ab-*/id_ed25519")
    return [*(state / "guest").glob("*"), *(state / "images").glob(".*"), *keys]


def content(path: Path) -> tuple[str, int]:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_mtime_ns


def run(experiment: Path, state: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    return run_alone(
        str(experiment),
        "--no-provision",
        "--state-dir",
        str(state),
        "--run-dir",
        str(directory),
        timeout=PATIENCE,
    )


def facts(directory: Path) -> list[dict[str, Any]]:
    return [record["boots"][-1]["facts"] for record in sessions(directory)]


def test_a_cloud_image_by_ssh(debian: Path, fresh_state: Path, place: Path) -> None:
    before = content(debian)
    experiment = write_experiment(place, {"image": str(debian), "connection": "ssh"})
    done = run(experiment, fresh_state, place / "run")
    assert done.returncode == 0, done.stderr
    assert "guest_fio: Copy fio.sh" in done.stderr, "put in place by the playbook"
    assert content(debian) == before, "never written"
    assert left_over(fresh_state) == []
    (copy,) = (fresh_state / "images").glob("disk-*/disk.qcow2")
    assert copy.stat().st_mode & 0o077 == 0, "a private image stays private"

    assert len(accepted(place / "run")) == 2
    for found in facts(place / "run"):
        assert found["guest"]["distribution"].startswith("Debian GNU/Linux 12")
        assert found["image_sha256"] == before[0]
        assert "restrict=on" in " ".join(found["argv"]), "it reaches nobody while it is measured"
    record = json.loads((place / "run" / "run.json").read_text())
    assert record["guest_image"]["source"] == str(debian)
    assert record["guest_image"]["fio_script"].endswith("fio.sh")
    shown = harness("show", str(place / "run"))
    assert "Debian GNU/Linux 12" in shown.stdout
    assert "no verdict" not in shown.stdout, "two boots differ in their ports and in nothing else"
    secret = [
        path for path in (place / "run").rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()
    ]
    assert secret == []


@pytest.mark.slow
def test_a_raw_image_by_its_agent(debian: Path, fresh_state: Path, place: Path) -> None:
    image = place / "disk.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(debian), str(image)], check=True)
    before = content(image)
    experiment = write_experiment(place, {"image": str(image)}, "disk: {backend: file, size: 64MiB}\n")
    done = run(experiment, fresh_state, place / "run")
    assert done.returncode == 0, done.stderr
    assert content(image) == before
    assert len(accepted(place / "run")) == 2
    for found in facts(place / "run"):
        assert "virtio-net-pci" not in " ".join(found["argv"]), "no network, where the agent is all"


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_nothing_to_the_next_one(
    debian: Path, fresh_state: Path, place: Path
) -> None:
    experiment = write_experiment(place, {"image": str(debian), "connection": "ssh"})
    directory = place / "run"
    wait_for_host()
    command = [sys.executable, "-m", "harness", "run", str(experiment), "--no-provision"]
    killed = subprocess.Popen(
        [*command, "--state-dir", str(fresh_state), "--run-dir", str(directory)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: (directory / "sessions").exists() and guests(), PATIENCE)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert left_over(fresh_state), "nobody was left to tidy up"
    done = run_alone("--resume", str(directory), "--state-dir", str(fresh_state), timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "left behind by a run that was killed" in done.stderr
    assert left_over(fresh_state) == []
    assert len(accepted(directory)) == 2

    (copy,) = (fresh_state / "images").glob("disk-*/disk.qcow2")
    copy.chmod(0o644)
    with copy.open("ab") as stream:
        stream.write(b"x")
    refused = run_alone("--resume", str(directory), "--state-dir", str(fresh_state))
    assert refused.returncode == 1
    assert "changed since the run began" in refused.stderr


@pytest.mark.parametrize(
    ("guest", "said"),
    [
        ({"prepare": False}, ["its agent did not answer", "qemu-guest-agent has to be installed"]),
        ({"connection": "ssh"}, ["the guest that is to be prepared did not answer", "cloud-init"]),
    ],
)
def test_an_image_that_never_answers(
    guest: dict[str, Any], said: list[str], fresh_state: Path, place: Path
) -> None:
    image = place / "blank.raw"
    image.write_bytes(bytes(2**20))
    experiment = write_experiment(place, {"image": str(image)} | guest, "timeouts: {boot: 4s}\n")
    done = run(experiment, fresh_state, place / "run")
    assert done.returncode == 1
    message = " ".join(done.stderr.split())
    assert "within 4 s of its start" in message
    for words in said:
        assert words in message
    assert left_over(fresh_state) == []
