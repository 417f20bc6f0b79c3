"""What goes wrong on the way: with real builds, real guests and the command that people use."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import ROOT, harness
from tiny import TINY, accepted, sessions, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["tiny_fixtures"]
pytestmark = [pytest.mark.system, pytest.mark.usefixtures("provisioned", "no_guest_left")]

TCG = "accel: tcg\nbaseline: OLD"


def write(place: Path, text: str) -> str:
    path = place / "experiment.yml"
    path.write_text(text)
    return str(path)


def test_a_kernel_that_is_none_ends_the_run_after_two_sessions_of_a_variant(
    place: Path, image: dict[str, str]
) -> None:
    kernel = place / "kernel"
    kernel.write_bytes(b"this is no kernel\n" * 1000)
    text = TINY.replace("baseline: OLD", TCG).replace("blocks: 1", "blocks: 6")
    text = text.replace("vcpus: 1", f"vcpus: 1, kernel: {kernel}, initrd: {image['initrd']}")
    run = place / "run"
    done = harness("run", write(place, text), "--no-provision", "--run-dir", str(run))
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "OLD" in done.stderr
    assert "in a row gave nothing" in done.stderr
    assert 2 <= len(sessions(run)) <= 4
    head = json.loads((run / "run.json").read_text())
    assert head["state"] == "failed"
    assert head["stopped"] in done.stderr


@pytest.fixture(scope="module")
def fruitless(provisioned: Path) -> Iterator[tuple[Path, str]]:
    """A run on a disk of the user's own, smaller than one block: nobody can know before fio does."""
    assert provisioned.exists()
    with tempfile.TemporaryDirectory(prefix="ab-test-") as directory:
        place = Path(directory)
        place.chmod(0o755)
        disk, run = place / "small.raw", place / "run"
        disk.write_bytes(b"x" * 65536)
        disk.chmod(0o644)
        text = TINY.replace("baseline: OLD", TCG).replace("bs: 4k", "bs: 1m")
        text += f"disk: {{backend: file, path: {disk}, aio: threads}}\n"
        done = harness("run", write(place, text), "--no-provision", "--run-dir", str(run))
        assert done.returncode == 1
        assert disk.read_bytes() == b"x" * 65536
        yield run, done.stderr


def test_fio_that_fails_in_the_guest_is_recorded_as_failed(fruitless: tuple[Path, str]) -> None:
    run, err = fruitless
    assert "Traceback" not in err
    assert len(sessions(run)) == 2
    for record in sessions(run):
        assert record["state"] == "done", "the guest did nothing wrong"
        (entry,) = record["iterations"]
        assert (entry["state"], entry["exit_code"]) == ("failed", 1)
        assert "fio ended with exit code 1" in entry["reason"]
        assert entry["reason"] in err


def test_fio_that_fails_in_the_guest_is_quoted(fruitless: tuple[Path, str]) -> None:
    (entry,) = sessions(fruitless[0])[0]["iterations"]
    assert entry["reason"] == "fio ended with exit code 1: fio: blocksize is larger than data set range"


@pytest.fixture
def tiny_disk(place: Path) -> Iterator[Path]:
    mountpoint = place / "disk"
    mountpoint.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k,mode=755", "none", mountpoint], check=True)
    yield mountpoint
    subprocess.run(["umount", "--lazy", mountpoint], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(b"x" * 4096):
            pass
    return filler


def test_a_full_disk_ends_the_run_and_space_lets_it_go_on(place: Path, tiny_disk: Path) -> None:
    run = tiny_disk / "run"
    experiment = write(place, TINY.replace("baseline: OLD", TCG))
    arguments = ["run", experiment, "--no-provision", "--run-dir", str(run)]
    with subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            wait_until(lambda: accepted(run) or process.poll() is not None)
            filler = fill(tiny_disk)
            _out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1, err
    assert f"cannot write {run}" in err
    assert "No space left on device" in err
    assert "remedy:" in err
    assert "Traceback" not in err
    kept = accepted(run)
    assert kept == [0]
    assert list(run.glob("**/.*.tmp")) == [], "half-written files are left behind"

    shown = json.loads(harness("show", str(run), "--json").stdout)["run"]
    assert shown["state"] in {"failed", "interrupted"}, "whatever the disk still took, it does not run"
    assert shown["stopped"]

    filler.unlink()
    done = harness("run", "--resume", str(run))
    assert done.returncode == 0, done.stderr
    assert accepted(run) == [0, 1]
    assert json.loads((run / "run.json").read_text())["state"] == "finished"


def changed_copy(manifest: dict[str, Any], place: Path, variant: str) -> str:
    """Move a build into a place of its own, and change its binary behind the record's back."""
    build = manifest["builds"][variant]
    binary, launcher = place / "qemu-system-x86_64", place / "launcher"
    shutil.copy2(build["binary"], binary)
    started = Path(build["emulator"]).read_text()
    exec_line = 'exec "$prefix/usr/bin/qemu-system-x86_64"'
    assert exec_line in started
    launcher.write_text(started.replace(exec_line, f"exec {binary}"))
    launcher.chmod(0o755)
    with binary.open("ab") as stream:
        stream.write(b"changed")
    build |= {"kind": "path", "emulator": str(launcher), "binary": str(binary)}
    return hashlib.sha256(binary.read_bytes()).hexdigest()


def test_a_changed_binary_is_refused_and_the_accelerator_is_found_out_once(
    place: Path, fresh_state: Path
) -> None:
    """A host that was never asked: the first run boots a guest under KVM, where there is such a device."""
    path = fresh_state / "manifests" / "tiny.json"
    manifest = json.loads(path.read_text())
    recorded = manifest["builds"]["NEW"]["sha256"]
    untouched = path.read_bytes()
    found = changed_copy(manifest, place, "NEW")
    path.write_text(json.dumps(manifest))
    arguments = ("--no-provision", "--state-dir", str(fresh_state))

    first = harness("run", write(place, TINY), *arguments, "--run-dir", str(place / "first"))
    assert first.returncode == 1, first.stderr
    assert recorded[:12] in first.stderr
    assert found[:12] in first.stderr
    assert "harness provision" in first.stderr
    assert "Traceback" not in first.stderr
    assert accepted(place / "first") in ([], [0]), "nothing that the changed binary did counts"
    asked = "finding out whether KVM works here"
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    assert (asked in first.stderr) == usable

    path.write_bytes(untouched)
    # The same state directory: what was found out is remembered. A guest factor gets its column.
    text = TINY.replace("iodepth: 8", "iodepth: 8, aio: [native, threads]")
    text += "disk: {backend: file, format: qcow2, size: 64MiB, iothreads: 0}\n"
    second = harness("run", write(place, text), *arguments, "--run-dir", str(place / "second"))
    assert second.returncode == 0, second.stderr
    assert asked not in second.stderr
    heads = [json.loads((place / run / "run.json").read_text()) for run in ("first", "second")]
    assert heads[0]["accel_reason"] == heads[1]["accel_reason"]
    assert heads[0]["accel"] in {"kvm", "tcg"}
    if heads[0]["accel"] == "tcg":
        assert heads[0]["accel_reason"] in second.stdout

    assert accepted(place / "second") == [0, 1, 2, 3]
    table = harness("compare", str(place / "second"), "--format", "commit").stdout.splitlines()
    assert table[0].split() == ["RW", "BLKSIZE", "IODEPTH", "AIO", "OLD", "NEW", "CHANGE"]
    assert [line.split()[3] for line in table[1:]] == ["native", "threads"]
    for record in sessions(place / "second"):
        argv = " ".join(record["boots"][0]["facts"]["argv"])
        assert f'"aio":"{record["guest"]["aio"]}"' in argv
        assert '"driver":"qcow2"' in argv
        assert "iothread" not in argv
