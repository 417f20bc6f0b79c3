"""Real block devices: loop devices with what people keep on theirs, none of which may be overwritten."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.adapters.disk_guard import DiskGuard
from harness.core.errors import InputError, Problem
from harness.core.experiment import load_experiment
from loop_device import SIZE, LoopDevice, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.devices

HEAD = "name: t\nbuilds: {OLD: {path: /old}, NEW: {path: /new}}\nbaseline: OLD\n"


class Device(LoopDevice):
    """A loop device, and what the guard says of it."""

    def guard(self, rw: str = "randwrite") -> DiskGuard:
        destroy = f", destroy_data: {self.by_id}" if "write" in rw else ""
        disk = f"{{backend: block, path: {self.by_id}{destroy}}}"
        text = f"{HEAD}disk: {disk}\nmatrix: {{rw: {rw}}}\n"
        return DiskGuard(load_experiment(text, "t.yml"), "t.yml")

    def problems(self, rw: str = "randwrite") -> list[Problem]:
        with pytest.raises(InputError) as caught:
            self.guard(rw).check()
        return list(caught.value.problems)

    def refused(self) -> list[str]:
        found = self.problems()
        assert all(problem.where == "t.yml: disk.path" and problem.remedy for problem in found)
        return [problem.message.removeprefix(f"{self.by_id}: {self.name} ") for problem in found]


@pytest.fixture
def device() -> Iterator[Device]:
    made = Device()
    yield made
    made.close()


def test_an_empty_device_may_be_written(device: Device) -> None:
    assert device.guard().check() == []
    device.guard().check_again()


def test_a_file_system(device: Device) -> None:
    run("mkfs.ext4", "-q", device.node)
    (problem,) = device.problems()
    assert problem.message == f"{device.by_id}: {device.name} holds data of the type ext4"
    assert f"wipefs -a {device.node}" in str(problem.remedy)
    run("wipefs", "-a", device.node)
    device.guard().check()


def test_everything_is_said_at_once(device: Device, tmp_path: Path) -> None:
    run("mkfs.ext4", "-q", device.node)
    place = tmp_path / "a place"
    place.mkdir()
    run("mount", device.node, str(place))
    try:
        assert device.refused() == [f"is mounted on {place}", "holds data of the type ext4"]
        # Reads do no harm, but are not alone.
        assert device.guard("read").check() == [
            f"{device.by_id}: {device.name} is mounted on {place}: what is done there is measured too"
        ]
    finally:
        run("umount", str(place))


def test_a_mount_that_only_another_namespace_sees(device: Device, tmp_path: Path) -> None:
    run("mkfs.ext4", "-q", device.node)
    script = 'mount "$1" "$2" && echo there && read -r line'
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script, "sh", device.node, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "there\n"
        assert f"is mounted on {tmp_path}" in device.refused()
        other.communicate("\n")


def test_swap(device: Device) -> None:
    run("mkswap", device.node)
    assert device.refused() == ["holds data of the type swap"]
    run("swapon", device.node)
    try:
        assert device.refused() == ["is used as swap", "holds data of the type swap"]
    finally:
        run("swapoff", device.node)


@pytest.mark.parametrize(("label", "kinds"), [("dos", {"dos"}), ("gpt", {"gpt", "PMBR"})])
def test_a_partition_table(device: Device, label: str, kinds: set[str]) -> None:
    run("sfdisk", "-q", "--no-reread", "--no-tell-kernel", device.node, text=f"label: {label}\n,,L\n")
    assert set(device.refused()) == {f"holds a partition table of the type {kind}" for kind in kinds}


def lvm(device: Device) -> None:
    """Write the label of a physical volume, as pvcreate does."""
    body = struct.pack("<I8s32s", 32, b"LVM2 001", b"x" * 32).ljust(512 - 20, b"\0")
    checksum = ~zlib.crc32(body, ~0xF597A6CF & 0xFFFFFFFF) & 0xFFFFFFFF
    device.put((512, struct.pack("<8sQI", b"LABELONE", 1, checksum) + body))


def raid(device: Device) -> None:
    """Write the superblock of a member of an array, as mdadm does (metadata 1.2)."""
    block = bytearray(256)
    struct.pack_into("<II", block, 0, 0xA92B4EFC, 1)
    struct.pack_into("<16s32s", block, 16, b"u" * 16, b"host:0")
    struct.pack_into("<QQQ", block, 128, 2048, SIZE // 512 - 2048, 8)
    total = sum(struct.unpack("<64I", block))
    struct.pack_into("<I", block, 216, ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF)
    device.put((4096, bytes(block)))


def zfs(device: Device) -> None:
    """Write the uberblocks of a member of a pool."""
    labels = (0, 256 * 1024, SIZE - 512 * 1024, SIZE - 256 * 1024)
    places = (label + (128 + number) * 1024 for label in labels for number in range(128))
    device.put(*((place, struct.pack("<Q", 0x00BAB10C)) for place in places))


def luks(device: Device) -> None:
    device.put((0, b"LUKS\xba\xbe" + struct.pack(">H", 1)))


@pytest.mark.parametrize(
    ("write", "kind"),
    [(lvm, "LVM2_member"), (raid, "linux_raid_member"), (zfs, "zfs_member"), (luks, "crypto_LUKS")],
)
def test_what_is_part_of_something_larger(device: Device, write: Callable[[Device], None], kind: str) -> None:
    write(device)
    assert device.refused() == [f"holds data of the type {kind}"]


def test_who_claims_it(device: Device) -> None:
    descriptor = os.open(device.node, os.O_RDONLY | os.O_EXCL)
    try:
        (message,) = device.refused()
        assert message.startswith("is claimed by somebody else")
    finally:
        os.close(descriptor)


def test_who_has_it_open(device: Device) -> None:
    wait = "import sys; print(file=sys.stderr, flush=True); sys.stdin.read()"
    with Path(device.node).open("rb") as stream:
        # Another QEMU claims nothing: it only has the device open.
        other = subprocess.Popen(
            [sys.executable, "-c", wait], stdin=subprocess.PIPE, stdout=stream, stderr=subprocess.PIPE
        )
    try:
        # Before it says something it may still have its parent's name.
        assert other.stderr
        other.stderr.readline()
        (message,) = device.refused()
        assert message.startswith(f"is held open by process {other.pid} (python")
    finally:
        other.communicate()


def test_read_only(device: Device) -> None:
    run("blockdev", "--setro", device.node)
    try:
        assert device.refused() == ["is read-only"]
    finally:
        # Otherwise it stays so for whoever has this loop device next.
        run("blockdev", "--setrw", device.node)


def test_behind_another_loop_device(device: Device) -> None:
    upper = run("losetup", "--find", "--show", device.node)
    try:
        assert f"is behind the loop device {upper}" in device.refused()
    finally:
        run("losetup", "-d", upper)


def test_the_name_leads_elsewhere_by_now(device: Device) -> None:
    other = Device()
    try:
        guard = device.guard()
        guard.check()
        device.by_id.unlink()
        device.by_id.symlink_to(other.node)
        with pytest.raises(InputError, match="is another device than at the start of the run"):
            guard.check()
    finally:
        other.close()


def test_another_device_under_the_same_name_and_number(device: Device) -> None:
    guard = device.guard()
    guard.check()
    run("losetup", "-d", device.node)
    run("losetup", device.node, str(device.image))
    with pytest.raises(InputError, match="is another device than at the start of the run"):
        guard.check()


def test_what_is_no_device_any_more(device: Device) -> None:
    guard = device.guard()
    device.by_id.unlink()
    with pytest.raises(InputError, match=f"{device.by_id}: No such file or directory"):
        guard.check()
