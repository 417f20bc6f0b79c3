"""The load ``virtio-blk``: a QEMU without a guest serves requests of a driver that lives in the harness."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters.guestless.callgrind import counting
from harness.adapters.guestless.machine_files import machine_files, shared_memory
from harness.adapters.guestless.qtest import ConnectionLostError, QtestSocket, accepted, listening
from harness.core.counting import rig as rigs
from harness.core.counting.pci import DeviceRefusedError, Feature, VirtioPci
from harness.core.counting.queue_memory import (
    QueueLayout,
    Request,
    RequestFailedError,
    RequestType,
    lay_out,
)
from harness.core.counting.rings import PackedRing, Ring, SplitRing
from harness.core.errors import HarnessError

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

    from harness.adapters.guestless.callgrind import Counted, Thread, Valgrind
    from harness.core.counting.pci import Doorbell
    from harness.core.protocols import StopSignal

_SECTOR_BYTES = 512
_ANSWER_SECONDS = 30


@dataclass(frozen=True, slots=True)
class VirtioLoad:
    """What a driver asks of a rig.

    Attributes:
        rig: the QEMU.
        depth: requests a kick.
        block: bytes a request.
        requests: all of them; whole batches.
        sequential: whether each request follows the one before on the disk.
    """

    rig: rigs.Rig
    depth: int
    block: int
    requests: int
    sequential: bool


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What is there once a load was served.

    Attributes:
        threads: all that existed when the requests began, as callgrind numbers them from 1.
        outputs: callgrind's files by the number of their thread.
        argv: what was counted.
    """

    threads: list[Thread]
    outputs: dict[int, Path]
    argv: list[str]


@dataclass(frozen=True, slots=True)
class _Queue:
    ring: Ring
    bell: Doorbell


def serve(
    load: VirtioLoad, emulator: str, valgrind: Valgrind, directory: Path, *, stop: StopSignal, timeout: float
) -> LoadResult:
    """Start a QEMU under callgrind, have it serve the requests, and end it.

    Args:
        load: what to ask of it.
        emulator: the binary, or a launcher that ends in ``exec`` of it.
        valgrind: the host's.
        directory: a fresh directory with a short path: it takes a socket.
        stop: the user's wish to end the run.
        timeout: seconds after which it is given up.

    Raises:
        HarnessError: QEMU did not start, refused the device, failed a request or took too long.
        Interrupted: the user stopped the run.
    """
    layouts = _layouts(load)
    memory = rigs.memory_bytes(layouts[-1].end)
    files = machine_files(directory)
    argv = [emulator, *rigs.arguments(load.rig, files, memory=memory)]
    with (
        shared_memory(Path(files.memory), memory) as shared,
        listening(Path(files.qtest)) as server,
        counting(
            valgrind.command(argv, directory),
            directory,
            stop=stop,
            timeout=timeout,
            io_uring=load.rig.disk.uses_io_uring,
        ) as counted,
        # Answers may take long under valgrind on a busy host, but not for ever.
        accepted(
            server, lambda started: counted.until(started, "starting QEMU"), answer_seconds=_ANSWER_SECONDS
        ) as connection,
    ):
        try:
            queues, sectors = _set_up(load, QtestSocket(connection), shared, layouts)
            counted.settle("starting the device")
            threads = counted.threads()
            _drive(load, queues, sectors, counted)
        except ConnectionLostError as error:
            # What QEMU said before it ended says more than a closed socket.
            counted.expect_end("serving qtest", error)
        except (DeviceRefusedError, RequestFailedError) as error:
            raise HarnessError(f"{error}", remedy=_refusal_remedy(load)) from error
        counted.settle("ending the requests")
        counted.end()
        return LoadResult(threads, counted.outputs(), argv)


def _refusal_remedy(load: VirtioLoad) -> str | None:
    if load.rig.packed:
        return "write instructions.ring: split: packed rings came with QEMU 4.2"
    return None


def _layouts(load: VirtioLoad) -> list[QueueLayout]:
    """Return where the queues of all disks lie, one behind the other."""
    found: list[QueueLayout] = []
    for _ in range(load.rig.disks * load.rig.disk.queues):
        found.append(
            lay_out(
                found[-1].end if found else rigs.MEMORY_BASE,
                size=load.rig.disk.queue_size,
                depth=load.depth,
                block=load.block,
                indirect=load.rig.indirect,
            )
        )
    return found


def _set_up(
    load: VirtioLoad, bus: QtestSocket, shared: mmap.mmap, layouts: list[QueueLayout]
) -> tuple[list[_Queue], int]:
    """Start every disk; return all queues and the smallest disk's size in sectors."""
    rig = load.rig
    wanted = {Feature.VERSION_1}
    wanted |= {Feature.RING_PACKED} if rig.packed else set()
    wanted |= {Feature.INDIRECT_DESC} if rig.indirect else set()
    wanted |= {Feature.BLK_MQ} if rig.disk.queues > 1 else set()
    kind = RequestType.WRITE if rig.writes else RequestType.READ
    make_ring = PackedRing if rig.packed else SplitRing
    queues: list[_Queue] = []
    sectors: list[int] = []
    for number in range(rig.disks):
        base = rigs.REGISTERS + number * rigs.REGISTERS_STEP
        device = VirtioPci(bus, rigs.FIRST_SLOT + number, base)
        device.negotiate(wanted)
        for queue in range(rig.disk.queues):
            layout = layouts[len(queues)]
            bell = device.start_queue(queue, rig.disk.queue_size, layout.addresses)
            queues.append(_Queue(make_ring(shared, layout, kind), bell))
        device.start()
        sectors.append(device.sectors)
    return queues, min(sectors)


def _drive(load: VirtioLoad, queues: list[_Queue], sectors: int, counted: Counted) -> None:
    """Ask for one batch after the other; the queues take turns."""
    requests = _requests(load, sectors)
    for batch in range(load.requests // load.depth):
        queue = queues[batch % len(queues)]
        queue.ring.submit(list(itertools.islice(requests, load.depth)))
        queue.bell.ring()
        counted.until(queue.ring.completed, "serving requests")
        queue.ring.finish()


def _requests(load: VirtioLoad, sectors: int) -> Iterator[Request]:
    """Yield the same requests every time."""
    kind = RequestType.WRITE if load.rig.writes else RequestType.READ
    each = load.block // _SECTOR_BYTES
    places = sectors // each
    if not places:
        raise HarnessError(
            f"the disk of {sectors} sectors is smaller than one request of {each}", remedy="use a larger disk"
        )
    dice = random.Random(1)  # noqa: S311 - reproducible on purpose, no secret
    # Only random() is promised to stay the same between Python versions.
    numbers = itertools.count() if load.sequential else iter(lambda: int(dice.random() * places), None)
    return (Request(kind, number % places * each) for number in numbers)
