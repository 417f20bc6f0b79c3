"""fio/fio.sh by hand: what it refuses, and what it has fio do."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

FIO_SH = Path(__file__).resolve().parents[2] / "fio" / "fio.sh"
FAKE_FIO = """#!/bin/sh
for argument; do echo "$argument"; done >"$RECORD"
echo '{"fio version": "fake"}'
echo 'a word of fio' >&2
exit "$CODE"
"""


@dataclass(frozen=True)
class Script:
    """The script with a fio that only keeps its arguments."""

    path: str
    record: Path

    def run(self, *arguments: str, code: int = 0, stdin: bool = False) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": self.path, "RECORD": str(self.record), "CODE": str(code)}
        start = ["-s", "--"] if stdin else [str(FIO_SH)]
        return subprocess.run(
            ["sh", *start, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            input=FIO_SH.read_text() if stdin else "",
        )

    def fio_arguments(self) -> list[str]:
        return self.record.read_text().splitlines()


@pytest.fixture
def script(tmp_path: Path) -> Script:
    fio = tmp_path / "bin" / "fio"
    fio.parent.mkdir()
    fio.write_text(FAKE_FIO)
    fio.chmod(0o755)
    return Script(f"{fio.parent}:/usr/sbin:/usr/bin:/sbin:/bin", tmp_path / "arguments")


@dataclass(frozen=True)
class Device:
    """A block device that is never opened, and the I/O scheduler it has already."""

    path: str
    scheduler: str


@pytest.fixture
def device(tmp_path: Path) -> Device:
    for path in sorted(Path("/dev").iterdir()):
        if stat.S_ISBLK(path.stat().st_mode):
            break
    else:
        path = tmp_path / "device"
        try:
            os.mknod(path, 0o600 | stat.S_IFBLK, os.makedev(7, 0))
        except PermissionError:
            pytest.skip("there is no block device here, and only root may make one")
    offered = Path(f"/sys/class/block/{path.name}/queue/scheduler")
    words = offered.read_text().split() if offered.exists() else ["none"]
    return Device(str(path), next((w.strip("[]") for w in words if w.startswith("[")), words[0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no --target given"),
        (["--target", ""], "no --target given"),
        (["--target", "/nonexistent/x"], "/nonexistent/x is not a block device"),
        (["--target", "/etc/passwd"], "/etc/passwd is not a block device"),
        (["--target", "/dev/null"], "/dev/null is not a block device"),
        (["--target", "/"], "/ is not a block device"),
        (["--colour", "red"], "unknown option --colour"),
        (["--target=/dev/vdb"], "unknown option --target=/dev/vdb"),
        (["/dev/vdb"], "unknown option /dev/vdb"),
        (["--target"], "--target needs a value"),
        (["--target", "/dev/null", "--bs"], "--bs needs a value"),
        (["--target", "/dev/null", "--runtime", "1.5"], "not fractions"),
        (["--target", "/dev/null", "--ramp", "0.5s"], "not fractions"),
    ],
)
def test_what_it_cannot_measure_is_refused(arguments: list[str], message: str, script: Script) -> None:
    done = script.run(*arguments)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith("fio.sh: ")
    assert message in done.stderr
    assert not script.record.exists()


@pytest.mark.parametrize("pattern", ["write", "randwrite", "rw", "randrw", "trim", "unheard-of"])
def test_a_pattern_that_writes_needs_leave_to_destroy(pattern: str, script: Script, device: Device) -> None:
    done = script.run("--target", device.path, "--rw", pattern)
    assert (done.returncode, done.stdout) == (64, "")
    assert f"{pattern} overwrites {device.path}; add --destroy-data" in done.stderr
    assert not script.record.exists()


def test_without_fio_it_says_which_package(tmp_path: Path) -> None:
    sh = shutil.which("sh")
    assert sh
    done = subprocess.run(
        [sh, FIO_SH, "--target", "/dev/null"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": str(tmp_path)},
    )
    assert (done.returncode, done.stdout) == (64, "")
    assert "install the package 'fio'" in done.stderr


@pytest.mark.parametrize("stdin", [False, True], ids=["file", "stdin"])
def test_a_cell_becomes_one_fio_run_with_nothing_but_its_json_on_stdout(
    script: Script, device: Device, *, stdin: bool
) -> None:
    cell = ["--rw", "randread", "--bs", "128k", "--iodepth", "8", "--numjobs", "2", "--ioengine", "io_uring"]
    times = ["--runtime", "1500ms", "--ramp", "500ms", "--scheduler", device.scheduler]
    done = script.run("--target", device.path, *cell, *times, stdin=stdin)
    assert (done.returncode, done.stdout) == (0, '{"fio version": "fake"}\n')
    found = script.fio_arguments()
    assert {
        f"--filename={device.path}",
        "--rw=randread",
        "--bs=128k",
        "--iodepth=8",
        "--numjobs=2",
        "--ioengine=io_uring",
        "--runtime=1500ms",
        "--ramp_time=500ms",
        "--time_based",
        "--direct=1",
        "--group_reporting",
        "--output-format=json",
        "--allow_file_create=0",
        "--readonly",
    } <= set(found)
    assert "" not in found


def test_with_leave_to_destroy_fio_may_write(script: Script, device: Device) -> None:
    asked = ["--rw", "randwrite", "--destroy-data", "--scheduler", device.scheduler]
    assert script.run("--target", device.path, *asked).returncode == 0
    found = script.fio_arguments()
    assert "--rw=randwrite" in found
    assert "--readonly" not in found


@pytest.mark.parametrize("code", [0, 1, 2, 137])
def test_fios_exit_code_is_passed_on(code: int, script: Script, device: Device) -> None:
    done = script.run("--target", device.path, "--scheduler", device.scheduler, code=code)
    assert done.returncode == code
    assert done.stderr == "a word of fio\n"


def test_a_link_to_a_device_is_a_device(script: Script, device: Device, tmp_path: Path) -> None:
    link = tmp_path / "virtio-disk0"
    link.symlink_to(device.path)
    assert script.run("--target", str(link), "--scheduler", device.scheduler).returncode == 0
    assert f"--filename={link}" in script.fio_arguments()


def test_help_names_every_option_and_needs_nothing() -> None:
    done = subprocess.run(["sh", FIO_SH, "--help"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    for option in ("target", "rw", "bs", "iodepth", "numjobs", "ioengine", "runtime", "ramp", "scheduler"):
        assert f"--{option} " in done.stdout
    assert "--destroy-data" in done.stdout
