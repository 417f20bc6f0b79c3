"""The QEMU that is counted: no guest, a processor that halts, virtio-blk disks for a driver outside."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.core.model import Aio, Backend, Cache, DiskFormat

if TYPE_CHECKING:
    from harness.core.experiment import Disk

BIOS = b"\xf4" * 2**16
"""Firmware of ``hlt`` instructions: whatever the processor begins with, it stops."""

FIRST_SLOT = 4
"""Disks take the slots of the root bus from here on: below it both machines have devices of their own."""

REGISTERS = 0xE000_0000
"""Where the devices' registers are put: far above the memory, below the interrupt controllers."""

REGISTERS_STEP = 0x10_0000
MEMORY_BASE = 16 * 2**20
"""Where queues begin: above everything that a machine of the PC's kind has in its first MiB."""

_SMALLEST_MEMORY = 64 * 2**20
_MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Rig:
    """One QEMU to count.

    Attributes:
        machine: ``pc`` or ``q35``.
        disk: the experiment's disk: backend, IOThreads, queues, queue size.
        path: the file behind it, where its backend has one.
        disks: how many such disks.
        packed: whether the rings are packed.
        indirect: whether requests are indirect descriptors.
        writes: whether the requests write.
    """

    machine: str
    disk: Disk
    path: str | None
    disks: int = 1
    packed: bool = False
    indirect: bool = False
    writes: bool = False

    @property
    def iothreads(self) -> tuple[str, ...]:
        """The IOThreads' names; none where the main loop serves the disks."""
        return tuple(f"io{number}" for number in range(self.disk.iothreads))


@dataclass(frozen=True, slots=True)
class RigFiles:
    """The files that a rig takes.

    Attributes:
        bios: holds ``BIOS``.
        memory: becomes the memory of the machine.
        qtest: the UNIX socket that somebody listens on.
    """

    bios: str
    memory: str
    qtest: str


def memory_bytes(end: int) -> int:
    """Return how much memory a machine needs whose queues and requests end at an address."""
    return max(_SMALLEST_MEMORY, -(-end // _MEBIBYTE) * _MEBIBYTE)


def arguments(rig: Rig, files: RigFiles, *, memory: int) -> list[str]:
    """Return QEMU's arguments.

    Args:
        rig: what to count.
        files: what was made for it.
        memory: bytes, from `memory_bytes`.
    """
    argv = machine_arguments(rig.machine, files, memory=memory)
    for name in rig.iothreads:
        # Polling would spend instructions on waiting.
        argv += ["-object", f"iothread,id={name},poll-max-ns=0"]
    for number in range(rig.disks):
        argv += ["-blockdev", json.dumps(_node(rig, number)), "-device", _option(_device(rig, number))]
    return argv


def machine_arguments(machine: str, files: RigFiles, *, memory: int) -> list[str]:
    """Return the arguments of a machine whose processor only halts, without any disk."""
    argv = ["-nodefaults", "-no-user-config", "-display", "none", "-vga", "none", "-accel", "tcg"]
    argv += ["-name", "counted,debug-threads=on"]
    argv += ["-machine", f"{machine},memory-backend=ram", "-smp", "1", "-m", f"{memory // _MEBIBYTE}M"]
    argv += ["-object", f"memory-backend-file,id=ram,size={memory},mem-path={files.memory},share=on"]
    return [*argv, "-bios", files.bios, "-qtest", f"unix:{files.qtest}", "-qtest-log", "/dev/null"]


def _option(device: dict[str, Any]) -> str:
    """Return a device as QEMU's option: in words where they can say it, as JSON is known from 6.2 on only."""
    if any(isinstance(value, list) for value in device.values()):
        return json.dumps(device)
    words = {key: "on" if value is True else str(value) for key, value in device.items()}
    return ",".join([words.pop("driver"), *(f"{key}={value}" for key, value in words.items())])


def _device(rig: Rig, number: int) -> dict[str, Any]:
    device: dict[str, Any] = {
        "driver": "virtio-blk-pci",
        "id": f"disk{number}",
        "drive": f"node{number}",
        "num-queues": rig.disk.queues,
        "queue-size": rig.disk.queue_size,
        "disable-legacy": "on",
        "addr": f"{FIRST_SLOT + number:#x}",
    }
    if rig.packed:
        device["packed"] = True
    if rig.disk.iothread_mapping:
        device["iothread-vq-mapping"] = [{"iothread": name} for name in rig.iothreads]
    elif rig.iothreads:
        device["iothread"] = rig.iothreads[number % len(rig.iothreads)]
    return device


def _node(rig: Rig, number: int) -> dict[str, Any]:
    disk, name = rig.disk, f"node{number}"
    if disk.backend is Backend.NULL_CO:
        node = {"driver": "null-co", "node-name": name, "size": disk.size, "read-zeroes": False}
        return node | ({"latency-ns": round(disk.latency * 1e9)} if disk.latency else {})
    direct = disk.cache in {Cache.NONE, Cache.DIRECTSYNC}
    protocol = {
        "driver": "host_device" if disk.backend is Backend.BLOCK else "file",
        "filename": rig.path,
        "aio": str(Aio(disk.aio)),
        "cache": {"direct": direct, "no-flush": disk.cache is Cache.UNSAFE},
    }
    return {
        "driver": str(DiskFormat(disk.format)),
        "node-name": name,
        "read-only": not rig.writes,
        "file": protocol,
    }
