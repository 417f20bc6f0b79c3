"""The load ``coroutine-pool``: bursts that stay in flight together, of a driver that lives in the harness."""

from __future__ import annotations

import contextlib
import select
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters.guestless.callgrind import counting
from harness.adapters.guestless.machine_files import machine_files, shared_memory
from harness.adapters.guestless.pool_disks import RigDisk, layouts_of, requests_apart, start_disks
from harness.adapters.guestless.qmp import QmpSocket
from harness.adapters.guestless.qtest import ConnectionLostError, QtestSocket, accepted, listening
from harness.adapters.guestless.strace import Strace, read_calls
from harness.adapters.guestless.virtio_load import LoadResult
from harness.core.counting import rig
from harness.core.counting.pci import DeviceRefusedError
from harness.core.counting.queue_memory import RequestFailedError
from harness.core.errors import HarnessError
from harness.core.pool import burst_serials, counted_arguments, hold_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.adapters.guestless.callgrind import Counted, Thread, Valgrind
    from harness.core.counting.queue_memory import QueueLayout
    from harness.core.experiment import Pool
    from harness.core.protocols import StopSignal

_ANSWER_SECONDS = 30


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """What a driver asks of the pool's disks.

    Attributes:
        pool: the disks; as many light ones as any count has bursts, so that all counts have the same QEMU.
        machine: QEMU's machine type.
        depth: requests of a burst, over all its disks.
        bursts: how many.
        hoarder: whether a request to an IOThread that was idle until then follows each burst.
    """

    pool: Pool
    machine: str
    depth: int
    bursts: int
    hoarder: bool

    @property
    def each(self) -> int:
        """Requests of a burst on each of its disks."""
        return self.depth // self.pool.burst_disks


@dataclass(frozen=True, slots=True)
class CallsResult:
    """What is there once a load was served under strace.

    Attributes:
        calls: how often each system call was made, from QEMU's start to its end.
        argv: what was counted.
    """

    calls: dict[str, int]
    argv: list[str]


def count_instructions(
    load: PoolLoad, emulator: str, valgrind: Valgrind, directory: Path, *, stop: StopSignal, timeout: float
) -> LoadResult:
    """Serve a load under callgrind.

    Args:
        load: what to ask of it.
        emulator: the binary, or a launcher that ends in ``exec`` of it.
        valgrind: the host's.
        directory: a fresh directory with a short path: it takes a socket.
        stop: the user's wish to end the run.
        timeout: seconds after which it is given up.

    Raises:
        HarnessError: QEMU did not start, refused a disk, or took too long.
        Interrupted: the user stopped the run.
    """
    machine = _Machine.prepare(load, emulator, directory)
    command = valgrind.command(machine.argv, directory)
    with _served(load, machine, command, stop=stop, timeout=timeout) as (counted, threads):
        counted.end()
        return LoadResult(threads, counted.outputs(), machine.argv)


def count_calls(
    load: PoolLoad, emulator: str, strace: Strace, directory: Path, *, stop: StopSignal, timeout: float
) -> CallsResult:
    """Serve a load under strace; the arguments are those of `count_instructions`.

    Raises:
        HarnessError: as there, or strace may not trace here.
        Interrupted: the user stopped the run.
    """
    machine = _Machine.prepare(load, emulator, directory)
    command = strace.command(machine.argv, directory)
    with _served(load, machine, command, stop=stop, timeout=timeout) as (counted, _threads):
        counted.end()
        return CallsResult(read_calls(counted, directory), machine.argv)


@dataclass(frozen=True, slots=True)
class _Machine:
    """A QEMU about to be started: what it is told, and the places that it meets the driver at."""

    argv: list[str]
    layouts: list[QueueLayout]
    memory: int
    files: rig.RigFiles
    directory: Path

    @property
    def monitor(self) -> Path:
        return self.directory / "qmp"

    @classmethod
    def prepare(cls, load: PoolLoad, emulator: str, directory: Path) -> _Machine:
        layouts = layouts_of(load.pool, depth=load.each)
        memory = rig.memory_bytes(layouts[-1].end)
        files = machine_files(directory)
        monitor = str(directory / "qmp")
        argv = counted_arguments(load.pool, load.machine, files, monitor, memory=memory)
        return cls([emulator, *argv], layouts, memory, files, directory)


@contextlib.contextmanager
def _served(
    load: PoolLoad, machine: _Machine, command: Sequence[str], *, stop: StopSignal, timeout: float
) -> Iterator[tuple[Counted, list[Thread]]]:
    """Start QEMU as a command does, have it serve the load, and yield it at rest with its threads."""
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        shared = enter(shared_memory(Path(machine.files.memory), machine.memory))
        servers = [enter(listening(path)) for path in (Path(machine.files.qtest), machine.monitor)]
        counted = enter(counting(command, machine.directory, stop=stop, timeout=timeout))

        def waiting(started: Callable[[], bool]) -> None:
            counted.until(started, "starting QEMU")

        qtest, qmp = (enter(accepted(server, waiting, answer_seconds=_ANSWER_SECONDS)) for server in servers)
        # It connects long before it answers, on a busy host; but it greets when it is ready.
        waiting(lambda: bool(select.select([qmp], [], [], 0)[0]))
        try:
            monitor = QmpSocket(qmp)
            disks = start_disks(QtestSocket(qtest), shared, machine.layouts)
            driver = _Driver(load, disks, monitor, counted)
            driver.greet()
            threads = counted.threads()
            driver.drive()
        except ConnectionLostError as error:
            # What QEMU said before it ended says more than a closed socket.
            counted.expect_end("serving requests", error)
        except (DeviceRefusedError, RequestFailedError) as error:
            raise HarnessError(f"{error}") from error
        counted.settle("ending the requests")
        yield counted, threads


@dataclass(frozen=True, slots=True)
class _Driver:
    load: PoolLoad
    disks: list[RigDisk]
    qmp: QmpSocket
    counted: Counted

    def greet(self) -> None:
        """Have every disk serve one request: a thread's first one fills its own pool."""
        self._submit(self.disks, 1)
        self._take_back(self.disks)

    def drive(self) -> None:
        disks = self.load.pool.burst_disks
        burst, light = self.disks[:disks], self.disks[disks:]
        for number in range(self.load.bursts):
            self._hold(hold=True)
            self._submit(burst, self.load.each)
            # All have been taken when every thread sleeps; the first one of each disk passes.
            self.counted.settle("taking the requests")
            if any(disk.ring.answered() > 1 for disk in burst):
                raise HarnessError("QEMU answers requests that it should hold: its throttling does not")
            self._hold(hold=False)
            self._take_back(burst)
            if self.load.hoarder:
                self._submit([light[number]], 1)
                self._take_back([light[number]])

    def _submit(self, disks: Sequence[RigDisk], requests: int) -> None:
        self.counted.settle("coming to rest")
        batch = requests_apart(requests)
        for disk in disks:
            disk.ring.submit(batch)
            disk.bell.ring()

    def _take_back(self, disks: Sequence[RigDisk]) -> None:
        self.counted.until(lambda: all(disk.ring.completed() for disk in disks), "serving requests")
        for disk in disks:
            disk.ring.finish()

    def _hold(self, *, hold: bool) -> None:
        for serial in burst_serials(self.load.pool):
            self.qmp.execute(*hold_command(serial, hold=hold))
