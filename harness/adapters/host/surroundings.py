"""What else goes on at this host: load, swap, other guests; and how full the experiment's disk is."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters import process
from harness.adapters.disks import image_path
from harness.adapters.host.cpus import read_setting
from harness.adapters.host.facts import mitigations
from harness.core.errors import HarnessError
from harness.core.model import Backend, DiskFormat
from harness.core.quiet.surroundings import DiskState, Surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.experiment import Experiment

_HYPERVISORS = ("qemu-system", "qemu-kvm", "kvm", "cloud-hypervis", "firecracker", "VBoxHeadless")
_MAP_SECONDS = 30.0


def surroundings(*, own: tuple[str, ...] = ()) -> Surroundings:
    """Return what goes on at this host.

    Args:
        own: how the domains begin that are not counted as other guests.
    """
    load = read_setting("/proc/loadavg")
    return Surroundings(
        load=float(load.split()[0]) if load else None,
        cpus=os.cpu_count() or 1,
        swap_bytes=_swap_bytes(),
        guests=tuple(_guests(own)),
        mitigations=mitigations(),
    )


def wakeup_limit_us() -> int | None:
    """Return how long waking up from idle may take at most, as somebody asks of the kernel; None: unknown."""
    try:
        return int.from_bytes(Path("/dev/cpu_dma_latency").read_bytes()[:4], "little", signed=True)
    except OSError:
        return None


def disk_state(experiment: Experiment, directory: Path) -> DiskState:
    """Return what is known of the file or device behind the experiment's disk.

    Args:
        experiment: of the largest disk where the backend is varied.
        directory: where images are made.
    """
    disk = experiment.disk
    if disk.backend is Backend.NULL_CO:
        return DiskState("null-co")
    if disk.backend is Backend.NVME:
        return DiskState(
            disk.path or "",
            unknown=f"what {disk.path} holds, which QEMU's own driver uses",
            node=_number(f"/sys/bus/pci/devices/{disk.path}/numa_node"),
        )
    path = Path(disk.path) if disk.path else image_path(disk, directory)
    try:
        found = path.stat()
    except OSError as error:
        return DiskState(str(path), unknown="" if disk.path is None else f"{path}: {error.strerror}")
    device = _device(found.st_rdev if stat.S_ISBLK(found.st_mode) else found.st_dev)
    node, scheduler = _node_of(device), _scheduler_of(device)
    if stat.S_ISBLK(found.st_mode):
        return DiskState(
            str(path),
            unknown=f"how much of {path} was written since it was last trimmed",
            node=node,
            scheduler=scheduler,
        )
    size, filled, unknown = found.st_size, found.st_blocks * 512, ""
    if disk.format is DiskFormat.QCOW2:
        size, filled, unknown = _qcow2(path)
    return DiskState(str(path), size, filled, unknown, node, scheduler)


def _swap_bytes() -> int | None:
    try:
        lines = Path("/proc/swaps").read_text().splitlines()[1:]
        return sum(int(line.split()[3]) for line in lines) * 1024
    except (OSError, ValueError, IndexError):
        return None


def _guests(own: tuple[str, ...]) -> Iterator[str]:
    for entry in Path("/proc").glob("[0-9]*"):
        name = read_setting(entry / "comm") or ""
        if not name.startswith(_HYPERVISORS) or name.startswith("kvm-"):
            continue
        with contextlib.suppress(OSError):
            guest = _guest_name((entry / "cmdline").read_bytes().decode(errors="replace").split("\0"))
            if not (own and guest.startswith(own)):
                yield f"{guest or name} (process {entry.name})"


def _guest_name(argv: list[str]) -> str:
    for option, value in pairwise(argv):
        if option == "-name":
            return value.removeprefix("guest=").partition(",")[0]
    return ""


def _qcow2(path: Path) -> tuple[int, int, str]:
    """Return the size a guest sees, what of it is stored, and why that is not known."""
    argv = ["qemu-img", "map", "--output=json", "-U", "-f", "qcow2", str(path)]
    try:
        extents = json.loads(process.run(argv, timeout=_MAP_SECONDS).stdout)
        stored = sum(part["length"] for part in extents if part["data"] and not part["zero"])
        return sum(part["length"] for part in extents), stored, ""
    except (HarnessError, ValueError, KeyError, TypeError) as error:
        return 0, 0, f"how much {path} stores ({str(error).splitlines()[0]})"


def _device(number: int) -> Path | None:
    """Return a block device's directory in /sys; None for a file system without one."""
    link = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    return link.resolve() if link.exists() else None


def _node_of(device: Path | None) -> int | None:
    """Return the NUMA node of the controller that a block device hangs on."""
    if device is None:
        return None
    found = (_number(parent / "numa_node") for parent in (device, *device.parents))
    return next((node for node in found if node is not None), None)


def _scheduler_of(device: Path | None) -> str | None:
    """Return the I/O scheduler of a disk, or of the disk that a partition is of."""
    if device is None:
        return None
    text = read_setting(device / "queue/scheduler") or read_setting(device.parent / "queue/scheduler")
    return text.partition("[")[2].partition("]")[0] or text if text else None


def _number(path: str | Path) -> int | None:
    text = read_setting(path)
    # -1: the firmware does not say.
    return int(text) if text is not None and text.isdecimal() else None
