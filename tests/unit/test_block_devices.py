"""What stands for and against a device, on a made-up host: partitions, volumes, arrays, other namespaces."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from harness.adapters.disk_guard import DiskGuard
from harness.adapters.host.block_devices import BlockDevices
from harness.core.device_use import Use, UseKind, problems_of_taking, problems_of_writing, remarks_on_reading
from harness.core.errors import HarnessError, InputError
from harness.core.experiment import load_experiment

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "name: t\nbuilds: {OLD: {path: /old}, NEW: {path: /new}}\nbaseline: OLD\n"
ADDRESS = "0000:01:00.0"


class Host:
    """A made-up /sys, /proc and /dev."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.devices = BlockDevices(root)
        self._minor = 0
        self.put("proc/swaps", "Filename Type Size Used Priority\n")
        self.process("self", "mnt:[1]", "1 1 0:2 / / rw - tmpfs tmpfs rw\n")

    def put(self, path: str, text: str = "") -> Path:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        return place

    def device(self, name: str, on: str = "") -> str:
        """Make a device, or a partition of one; return its number."""
        place = self.root / "sys/devices" / on / name
        (place / "holders").mkdir(parents=True)
        (place / "slaves").mkdir()
        self._minor += 1
        (place / "dev").write_text(f"8:{self._minor}\n")
        (place / "ro").write_text("0\n")
        if on:
            (place / "partition").write_text("1\n")
        for link in (f"sys/class/block/{name}", f"sys/dev/block/8:{self._minor}"):
            (self.root / link).parent.mkdir(parents=True, exist_ok=True)
            (self.root / link).symlink_to(place)
        self.put(f"dev/{name}")
        return f"8:{self._minor}"

    def stack(self, upper: str, *lower: str) -> None:
        for name in lower:
            (self.root / "sys/class/block" / name / "holders" / upper).touch()
            (self.root / "sys/class/block" / upper / "slaves" / name).touch()

    def process(self, pid: str, namespace: str, mounts: str) -> None:
        self.put(f"proc/{pid}/mountinfo", mounts)
        (self.root / "proc" / pid / "ns").mkdir(parents=True)
        (self.root / "proc" / pid / "ns/mnt").symlink_to(namespace)

    def uses(self, name: str) -> set[tuple[str, str, str]]:
        return {(use.kind.value, use.device, use.detail) for use in self.devices.uses(name)}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    # The content of devices is the integration tests' business.
    monkeypatch.setattr(BlockDevices, "_signatures", lambda _self, _name: [])
    return Host(tmp_path)


def mounted(number: str, where: str, source: str = "none") -> str:
    return f"9 1 {number} / {where} rw shared:1 - ext4 {source} rw\n"


def test_a_device_that_nobody_uses(host: Host) -> None:
    host.device("sda")
    host.device("sdb")
    assert host.uses("sda") == set()


def test_partitions_and_everything_stacked_upon_them(host: Host) -> None:
    host.device("sda")
    one, _two = host.device("sda1", on="sda"), host.device("sda2", on="sda")
    volume = host.device("dm-0")
    host.stack("dm-0", "sda2")
    host.put("sys/class/block/dm-0/dm/name", "vg-data\n")
    host.put("sys/class/block/dm-0/dm/uuid", "LVM-abc\n")
    host.process("7", "mnt:[1]", "")
    host.process("8", "mnt:[2]", mounted(one, "/in\\040a\\040container") + mounted(volume, "/data"))
    assert host.uses("sda") == {
        ("mounted", "sda1", "/in a container"),
        ("mounted", "dm-0", "/data"),
        ("held", "sda2", "the LVM volume vg-data (dm-0)"),
    }
    # The neighbour's use is not the partition's own; that of its volume is.
    assert host.uses("sda1") == {("mounted", "sda1", "/in a container")}


def test_what_a_volume_lies_on(host: Host) -> None:
    number = host.device("sda")
    for name in ("sdb", "md0"):
        host.device(name)
    host.stack("md0", "sda", "sdb")
    host.process("8", "mnt:[2]", mounted(number, "/below"))
    assert host.uses("md0") == {("mounted", "sda", "/below")}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"md/level": "raid1"}, "the RAID array md0 (raid1)"),
        ({"bcache/state": ""}, "the bcache device md0"),
        ({"dm/name": "secret", "dm/uuid": "CRYPT-LUKS2-1"}, "the encrypted device secret (md0)"),
        ({"dm/name": "mpatha", "dm/uuid": "mpath-1"}, "the multipath device mpatha (md0)"),
        ({"dm/name": "x"}, "the device-mapper device x (md0)"),
        ({}, "md0"),
    ],
)
def test_who_holds_it_is_named(host: Host, files: dict[str, str], words: str) -> None:
    host.device("sda")
    host.device("md0")
    host.stack("md0", "sda")
    for name, text in files.items():
        host.put(f"sys/class/block/md0/{name}", text)
    assert host.uses("sda") == {("held", "sda", words)}


def test_a_file_system_with_a_number_of_its_own_is_known_by_its_source(host: Host) -> None:
    host.device("sda")
    (host.root / "dev/mapper").mkdir()
    (host.root / "dev/mapper/data").symlink_to(host.root / "dev/sda")
    host.process("8", "mnt:[2]", mounted("0:44", "/btrfs", "/dev/mapper/data"))
    assert host.uses("sda") == {("mounted", "sda", "/btrfs")}


def test_swap_loop_devices_and_read_only(host: Host) -> None:
    host.device("sda")
    host.device("loop3")
    host.put("proc/swaps", "Filename Type Size Used Priority\n/dev/sda partition 8 0 -2\n")
    host.put("sys/class/block/loop3/loop/backing_file", "/dev/sda\n")
    host.put("sys/class/block/sda/ro", "1\n")
    assert host.uses("sda") == {
        ("swap", "sda", ""),
        ("loop", "sda", "/dev/loop3"),
        ("read-only", "sda", ""),
    }


def test_a_user_who_may_not_look(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.device("sda")

    def forbidden(*_arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", forbidden)
    assert host.devices.uses("sda", privileged=False) == []
    with pytest.raises(HarnessError, match=r"dev/sda: Permission denied") as caught:
        host.devices.uses("sda")
    assert "root" in str(caught.value.remedy)


@pytest.mark.parametrize("kind", UseKind)
def test_every_use_speaks_against_writing_and_has_a_remedy(kind: UseKind) -> None:
    (problem,) = problems_of_writing("/dev/disk/by-id/x", [Use(kind, "sda", "DETAIL")], "t.yml: disk.path")
    assert problem.message.startswith("/dev/disk/by-id/x: sda ")
    assert problem.remedy
    assert "{" not in problem.message + problem.remedy


def test_reads_are_told_what_disturbs_them_and_no_more() -> None:
    uses = [Use(kind, "sda", "/x") for kind in UseKind]
    remarks = remarks_on_reading("/dev/sda", uses)
    assert "/dev/sda: sda is mounted on /x: what is done there is measured too" in remarks
    assert not any("holds" in remark or "read-only" in remark for remark in remarks)


def test_a_device_is_not_taken_from_the_host_that_uses_it_even_to_read() -> None:
    refused = problems_of_taking("/dev/sda", [Use(kind, "sda", "/x") for kind in UseKind], "w")
    assert len(refused) == len(UseKind) - 2  # its content and a write protection do not matter


# -- NVMe at a PCI address -----------------------------------------------------------------------------------


@pytest.fixture
def nvme(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    numbers = {name: host.device(name) for name in ("nvme0n1", "nvme0n2", "sdb")}
    for name in ("nvme0n1", "nvme0n2"):
        host.put(f"sys/bus/pci/devices/{ADDRESS}/nvme/nvme0/{name}/x")
    names = {f"/dev/disk/by-id/{n}": k for n, k in (("one", "nvme0n1"), ("other", "sdb"))}

    def name_of(_devices: BlockDevices, path: Path) -> str:
        if str(path) not in names:
            raise FileNotFoundError(2, os.strerror(2))
        return names[str(path)]

    monkeypatch.setattr(BlockDevices, "name_of", name_of)
    host.put("numbers", str(numbers))
    return host


def guard(host: Host, more: str = "", rw: str = "write", address: str = ADDRESS) -> DiskGuard:
    disk = f"{{backend: nvme, path: '{address}'{more}}}"
    experiment = load_experiment(f"{HEAD}disk: {disk}\nmatrix: {{rw: {rw}}}\n", "t.yml")
    return DiskGuard(experiment, "t.yml", devices=host.devices)


def refused(checked: DiskGuard) -> list[str]:
    with pytest.raises(InputError) as caught:
        checked.check()
    assert all(problem.remedy for problem in caught.value.problems)
    return [f"{problem.where}: {problem.message}" for problem in caught.value.problems]


def test_the_id_has_to_be_that_of_the_device_at_the_address(nvme: Host) -> None:
    guard(nvme, ", destroy_data: /dev/disk/by-id/one").check()
    assert refused(guard(nvme, ", destroy_data: /dev/disk/by-id/other")) == [
        f"t.yml: disk.destroy_data: /dev/disk/by-id/other is sdb, and at {ADDRESS} is nvme0n1, nvme0n2"
    ]
    assert refused(guard(nvme, ", destroy_data: /dev/disk/by-id/absent")) == [
        "t.yml: disk.destroy_data: /dev/disk/by-id/absent: No such file or directory"
    ]


def test_a_device_that_the_host_has_lost_cannot_be_confirmed(nvme: Host) -> None:
    nvme.put("sys/bus/pci/devices/0000:02:00.0/vendor")
    (message,) = refused(guard(nvme, ", destroy_data: /dev/disk/by-id/absent", address="0000:02:00.0"))
    assert "the host's nvme driver does not have 0000:02:00.0" in message


def test_the_other_namespace_counts_too_and_for_reads_as_well(nvme: Host) -> None:
    number = (nvme.root / "sys/class/block/nvme0n2/dev").read_text().strip()
    nvme.process("8", "mnt:[2]", mounted(number, "/precious"))
    expected = f"t.yml: disk.path: {ADDRESS} (nvme0n2): nvme0n2 is mounted on /precious"
    assert refused(guard(nvme, ", destroy_data: /dev/disk/by-id/one")) == [expected]
    assert refused(guard(nvme, rw="read")) == [expected]


def test_no_device_at_the_address(nvme: Host) -> None:
    assert refused(guard(nvme, rw="read", address="0000:09:00.0")) == [
        "t.yml: disk.path: there is no PCI device 0000:09:00.0"
    ]
