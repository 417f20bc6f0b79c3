"""The disks that make the coroutine pool hoard, as a driver outside has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.counting import rig
from harness.core.counting.pci import Feature, VirtioPci
from harness.core.counting.queue_memory import QueueLayout, Request, RequestType, lay_out
from harness.core.counting.rings import SplitRing
from harness.core.pool import pool_disks

if TYPE_CHECKING:
    import mmap

    from harness.adapters.guestless.qtest import QtestSocket
    from harness.core.counting.pci import Doorbell
    from harness.core.experiment import Pool

_BLOCK_BYTES = 4096
_SECTORS_A_BLOCK = 8


@dataclass(frozen=True, slots=True)
class RigDisk:
    """A disk that was started: its queue, and what kicks it."""

    ring: SplitRing
    bell: Doorbell


def layouts_of(pool: Pool, *, depth: int) -> list[QueueLayout]:
    """Return where the disks' queues lie; indirect descriptors let a queue hold a request an entry.

    Args:
        pool: rounds and disks.
        depth: the most requests in flight on a disk of the burst.
    """
    found: list[QueueLayout] = []
    for number, disk in enumerate(pool_disks(pool)):
        base = found[-1].end if found else rig.MEMORY_BASE
        most = depth if number < pool.burst_disks else 1
        found.append(lay_out(base, size=disk.queue_size, depth=most, block=_BLOCK_BYTES, indirect=True))
    return found


def start_disks(bus: QtestSocket, shared: mmap.mmap, layouts: list[QueueLayout]) -> list[RigDisk]:
    """Start every disk, as a guest's driver does.

    Raises:
        DeviceRefusedError: one of them does not do what is needed.
    """
    disks = []
    for number, layout in enumerate(layouts):
        device = VirtioPci(bus, rig.FIRST_SLOT + number, rig.REGISTERS + number * rig.REGISTERS_STEP)
        device.negotiate({Feature.VERSION_1, Feature.INDIRECT_DESC})
        bell = device.start_queue(0, layout.size, layout.addresses)
        ring = SplitRing(shared, layout, RequestType.READ)
        device.start()
        disks.append(RigDisk(ring, bell))
    return disks


def requests_apart(number: int) -> list[Request]:
    """Return reads with gaps: QEMU merges requests that touch, and merged ones are one coroutine."""
    return [Request(RequestType.READ, 2 * each * _SECTORS_A_BLOCK) for each in range(number)]
