"""The guest of the workload pool-growth: disks that make the coroutine pool hoard.

A burst keeps many requests in flight on disks that answer late, all served by one IOThread. Their coroutines
end in that thread, and go to the global release pool. Then one other IOThread, idle so far, serves one
request. QEMU before 9.0 gives a thread whose pool is empty all that was released, and the thread keeps it:
each round hoards a burst's worth of coroutines in another thread, while no more are in flight than in the
first. See docs/pool.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.core.counting import rig
from harness.core.domain_specs import DiskSpec, IOThreadSpec, null_blockdev
from harness.core.model import Backend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.core.counting.rig import RigFiles
    from harness.core.experiment import Pool

_BURST_IOTHREAD = 1
BURST_THREAD = f"iothread{_BURST_IOTHREAD}"
"""The IOThread that serves the disks of the burst."""

_DISK_BYTES = 2**30
_ANY_PACE = 10**12


def rig_arguments(pool: Pool, machine: str, files: RigFiles, *, memory: int) -> list[str]:
    """Return the arguments of a QEMU without a guest that has the pool's disks.

    Args:
        pool: rounds and disks.
        machine: ``pc`` or ``q35``.
        files: what was made for it.
        memory: bytes, from `rig.memory_bytes`.
    """
    argv = rig.machine_arguments(machine, files, memory=memory)
    for iothread in pool_iothreads(pool):
        argv += ["-object", f"iothread,id=iothread{iothread.number}"]
    return argv + _disk_arguments(pool_disks(pool))


def counted_arguments(pool: Pool, machine: str, files: RigFiles, qmp: str, *, memory: int) -> list[str]:
    """Return the arguments of the same QEMU where it is counted: its disks answer at once.

    A latency would keep requests in flight only while the host is fast enough, and the list of its timers
    would cost more than the requests: `hold_command` holds them instead.

    Args:
        pool: rounds and disks.
        machine: ``pc`` or ``q35``.
        files: what was made for it.
        qmp: the UNIX socket that somebody listens on for QEMU's monitor.
        memory: bytes, from `rig.memory_bytes`.
    """
    argv = [*rig.machine_arguments(machine, files, memory=memory), "-qmp", f"unix:{qmp}"]
    for iothread in pool_iothreads(pool):
        # Polling would spend instructions on waiting.
        argv += ["-object", f"iothread,id=iothread{iothread.number},poll-max-ns=0"]
    return argv + _disk_arguments(tuple(replace(disk, latency_ns=None) for disk in pool_disks(pool)))


def hold_command(serial: str, *, hold: bool) -> tuple[str, dict[str, object]]:
    """Return the QMP command that has a disk keep its requests, or let them go.

    Each byte counts as a request, of which one a second may pass: after the first one of a disk that is held
    none does for an hour. Requests wait in a plain queue, which costs the same at any depth.

    Returns:
        Its name and arguments.
    """
    rates = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops_rd", "iops_wr"), 0)
    pace = {"iops": 1, "iops_size": 1} if hold else {"iops": _ANY_PACE, "iops_size": 0}
    device = f"/machine/peripheral/{serial}/virtio-backend"
    return "block_set_io_throttle", {"id": device, "group": f"group-{serial}", **rates, **pace}


def _disk_arguments(disks: Sequence[DiskSpec]) -> list[str]:
    argv: list[str] = []
    for number, disk in enumerate(disks):
        device = f"virtio-blk-pci,id={disk.serial},drive=node-{disk.serial}"
        device += f",iothread=iothread{disk.iothread},num-queues=1"
        device += f",queue-size={disk.queue_size},disable-legacy=on,addr={rig.FIRST_SLOT + number:#x}"
        argv += ["-blockdev", null_blockdev(replace(disk, serial=f"node-{disk.serial}")), "-device", device]
    return argv


PARALLEL_PROBE = "harness.parallel_probe=1"
"""Tells the guest's init to let the kernel look at all disks at once: those of the burst answer late."""


def burst_serials(pool: Pool) -> list[str]:
    """Return the serials of the disks that take the bursts."""
    return [f"burst{number}" for number in range(pool.burst_disks)]


def light_serial(round_number: int) -> str:
    """Return the serial of the disk of a round's light I/O; rounds count from 0."""
    return f"light{round_number}"


def pool_iothreads(pool: Pool) -> tuple[IOThreadSpec, ...]:
    """Return one IOThread for the bursts and one for each round."""
    return tuple(IOThreadSpec(number) for number in range(1, pool.planned_rounds + 2))


def pool_disks(pool: Pool) -> tuple[DiskSpec, ...]:
    """Return the disks of the bursts and of the light I/O, each of a size of 1 GiB, null-co."""
    burst = [
        DiskSpec(
            backend=Backend.NULL_CO,
            serial=serial,
            size_bytes=_DISK_BYTES,
            iothread=_BURST_IOTHREAD,
            queue_size=pool.queue_size,
            latency_ns=round(pool.latency * 1e9),
        )
        for serial in burst_serials(pool)
    ]
    light = [
        DiskSpec(
            backend=Backend.NULL_CO,
            serial=light_serial(number),
            size_bytes=_DISK_BYTES,
            iothread=_BURST_IOTHREAD + 1 + number,
        )
        for number in range(pool.planned_rounds)
    ]
    return (*burst, *light)
