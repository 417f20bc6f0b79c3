"""Counts one planned count: from a cell to callgrind's files in the run directory."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness.adapters.guestless.coroutine_load import run_counted, run_timed
from harness.adapters.guestless.pool_load import PoolLoad, count_calls, count_instructions
from harness.adapters.guestless.qemu_img_load import QemuImg, bench
from harness.adapters.guestless.strace import Strace
from harness.adapters.guestless.virtio_load import LoadResult, VirtioLoad, serve
from harness.adapters.scratch import scratch
from harness.core.counting.bench import BenchLoad
from harness.core.counting.coroutines import TIMED_ITERATIONS
from harness.core.counting.planning import POOL_BURSTS
from harness.core.counting.records import CountRecord, ThreadRecord
from harness.core.counting.rig import Rig
from harness.core.errors import HarnessError
from harness.core.experiment import Pool
from harness.core.model import CoroutineTest, Counter, CountLoad, ReadWrite, RingFormat
from harness.core.pool import BURST_THREAD
from harness.core.records import IterationState
from harness.core.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.adapters.disk_guard import DiskGuard
    from harness.adapters.guestless.callgrind import Thread, Valgrind
    from harness.adapters.guestless.store import CountDirectory
    from harness.core.counting.planning import PlannedCount
    from harness.core.experiment import Experiment
    from harness.core.model import BuildRecord, Cell, GuestConfig
    from harness.core.protocols import StopSignal

_MAIN = "main"
_KERNEL_NAME_LENGTH = 15
_PROOF = b"virtqueue_pop"
"""Only the thread that serves requests calls it, and even stripped builds name it if they load modules."""


@dataclass(frozen=True, slots=True)
class CountedThread:
    """One thread of a process that was counted.

    Attributes:
        number: callgrind's number of it.
        name: what it is.
        counted: whether its instructions are what the run is about.
        output: callgrind's file.
    """

    number: int
    name: str
    counted: bool
    output: Path


@dataclass(frozen=True, slots=True)
class CountBench:
    """Where counts are made.

    Attributes:
        store: where they are kept.
        disks: the file behind the disk of each guest configuration.
        guard: looks at the device behind the disk before each count; None where there can be none.
    """

    experiment: Experiment
    builds: Mapping[str, BuildRecord]
    disks: Mapping[GuestConfig, Path | None]
    store: CountDirectory
    valgrind: Valgrind
    stop: StopSignal
    guard: DiskGuard | None = None
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def count(self, planned: PlannedCount) -> CountRecord:
        """Make one count and keep it; a count that fails is kept as failed.

        Raises:
            InputError: the device behind the disk is in use, or is another one by now.
            Interrupted: the user stopped the run.
        """
        record = CountRecord(
            number=planned.number,
            variant=planned.variant,
            repeat=planned.repeat,
            factors=planned.cell.factors(),
            requests=planned.requests,
            started=datetime.now(UTC).isoformat(timespec="milliseconds"),
            seconds=0.0,
            state=IterationState.OK,
        )
        began = time.monotonic()
        try:
            with self._file_alone(planned.cell), scratch(sockets=True) as directory:
                if self.guard is not None:
                    self.guard.check_again()
                if planned.counter is Counter.STRACE:
                    record.argv, record.calls = self._traced(planned, directory)
                else:
                    record.argv, record.threads = self._counted(planned, directory)
        except HarnessError as error:
            if error.exit_code != HarnessError.exit_code:
                raise
            record.state = IterationState.FAILED
            record.reason = error.message + (f"; remedy: {error.remedy}" if error.remedy else "")
        record.seconds = round(time.monotonic() - began, 3)
        self.store.save(planned, record)
        return record

    @contextlib.contextmanager
    def _file_alone(self, cell: Cell) -> Iterator[None]:
        """Have one QEMU at a time open a file that some counts write: it would refuse to share it."""
        shares = self._path(cell) is None or not any(rw.writes for rw in self.experiment.matrix.rw)
        with contextlib.nullcontext() if shares else self._writing:
            yield

    def _counted(self, planned: PlannedCount, directory: Path) -> tuple[list[str], list[ThreadRecord]]:
        run = {
            CountLoad.VIRTIO_BLK: self._serve,
            CountLoad.QEMU_IMG: self._bench,
            CountLoad.COROUTINE_POOL: self._burst,
            CountLoad.TEST_COROUTINE: self._benchmark,
        }[self.experiment.instructions.load]
        result = run(planned, directory)
        iothreads = self._iothreads(planned.cell)
        threads = all_threads(result) if iothreads is None else identified(result, iothreads)
        outputs = [(thread.number, thread.name, thread.counted, thread.output) for thread in threads]
        return result.argv, self.store.keep_outputs(planned, outputs)

    def _iothreads(self, cell: Cell) -> tuple[str, ...] | None:
        """Return which threads serve the requests; None where all threads are counted."""
        load = self.experiment.instructions.load
        if load is CountLoad.VIRTIO_BLK:
            return self._rig(cell).iothreads
        return (BURST_THREAD,) if load is CountLoad.COROUTINE_POOL else None

    def _burst(self, planned: PlannedCount, directory: Path) -> LoadResult:
        return count_instructions(
            self._pool(planned),
            self._emulator(planned),
            self.valgrind,
            directory,
            stop=self.stop,
            timeout=self._timeout,
        )

    def _traced(self, planned: PlannedCount, directory: Path) -> tuple[list[str], dict[str, int]]:
        strace = Strace.find()
        if strace is None:
            raise HarnessError("strace is not installed: it counts system calls", remedy="install strace")
        emulator = self._emulator(planned)
        result = count_calls(
            self._pool(planned), emulator, strace, directory, stop=self.stop, timeout=self._timeout
        )
        return result.argv, result.calls

    @property
    def _timeout(self) -> float:
        return self.experiment.instructions.count_seconds

    def _emulator(self, planned: PlannedCount) -> str:
        return self.builds[planned.variant].emulator

    def _pool(self, planned: PlannedCount) -> PoolLoad:
        single, depth = self.experiment.for_guest(planned.cell.guest), planned.cell.iodepth
        return PoolLoad(
            pool=Pool(
                rounds=max(POOL_BURSTS),
                burst_disks=single.instructions.disks,
                queue_size=single.disk.queue_size,
            ),
            machine=single.guest.machine,
            depth=depth,
            bursts=planned.requests // depth,
            hoarder=single.instructions.hoarder,
        )

    def _serve(self, planned: PlannedCount, directory: Path) -> LoadResult:
        cell = planned.cell
        load = VirtioLoad(
            rig=self._rig(cell),
            depth=cell.iodepth,
            block=parse_size(cell.bs),
            requests=planned.requests,
            sequential=cell.rw in {ReadWrite.READ, ReadWrite.WRITE},
        )
        emulator = self._emulator(planned)
        return serve(load, emulator, self.valgrind, directory, stop=self.stop, timeout=self._timeout)

    def _bench(self, planned: PlannedCount, directory: Path) -> LoadResult:
        cell = planned.cell
        load = BenchLoad(
            disk=self.experiment.for_guest(cell.guest).disk,
            path=self._path(cell),
            depth=cell.iodepth,
            block=parse_size(cell.bs),
            requests=planned.requests,
            writes=ReadWrite(cell.rw).writes,
        )
        program = QemuImg.of(self._emulator(planned))
        return bench(load, program, self.valgrind, directory, stop=self.stop, timeout=self._timeout)

    def _benchmark(self, planned: PlannedCount, directory: Path) -> LoadResult:
        return run_counted(
            _test_of(planned.cell),
            planned.requests,
            self._emulator(planned),
            self.valgrind,
            directory,
            stop=self.stop,
            timeout=self._timeout,
        )

    def time(self, variant: str, cell: Cell) -> float:
        """Return the nanoseconds of an iteration of a benchmark of coroutines, not under callgrind.

        Raises:
            HarnessError: it failed.
        """
        test, emulator = _test_of(cell), self.builds[variant].emulator
        return run_timed(test, TIMED_ITERATIONS[test], emulator, timeout=self._timeout)

    def _rig(self, cell: Cell) -> Rig:
        single = self.experiment.for_guest(cell.guest)
        return Rig(
            machine=single.guest.machine,
            disk=single.disk,
            path=self._path(cell),
            disks=single.instructions.disks,
            packed=single.instructions.ring is RingFormat.PACKED,
            indirect=single.instructions.indirect,
            writes=ReadWrite(cell.rw).writes,
        )

    def _path(self, cell: Cell) -> str | None:
        path = self.disks[cell.guest]
        return None if path is None else str(path)


def all_threads(result: LoadResult) -> list[CountedThread]:
    """Return the threads of a process that does nothing but what is counted."""
    return [
        CountedThread(number, _name([_MAIN], number), counted=True, output=path)
        for number, path in result.outputs.items()
    ]


def identified(result: LoadResult, iothreads: tuple[str, ...]) -> list[CountedThread]:
    """Return the threads of a QEMU, and which of them served the requests.

    callgrind numbers threads in the order in which they were made, the kernel lists them in that order, and
    QEMU names them. Where the binary has a symbol that only the serving thread calls, that has to agree.

    Args:
        result: of a load.
        iothreads: the IOThreads' names; the main loop is counted where there are none.

    Raises:
        HarnessError: it cannot be told which thread served the requests.
    """
    wanted = {f"IO {name}"[:_KERNEL_NAME_LENGTH] for name in iothreads} or {_MAIN}
    names = _names(result.threads)
    if missing := wanted - set(names):
        raise HarnessError(f"no thread is called {', '.join(sorted(missing))}; there are: {', '.join(names)}")
    serving = {number for number, path in result.outputs.items() if _PROOF in path.read_bytes()}
    counted = {number for number in result.outputs if _name(names, number) in wanted}
    if not counted or (serving and not serving & counted):
        raise HarnessError(
            f"callgrind's threads {sorted(serving)} served requests, but {sorted(counted)} should have: "
            "the order of threads cannot be trusted here"
        )
    return [
        CountedThread(number, _name(names, number), number in counted, path)
        for number, path in result.outputs.items()
    ]


def _names(threads: Sequence[Thread]) -> list[str]:
    """Return the threads' names; one that was made before QEMU knew how to name it has the process's."""
    process = threads[0].name if threads else _MAIN
    named = [thread.name if thread.name != process else f"thread {n}" for n, thread in enumerate(threads, 1)]
    return [_MAIN, *named[1:]]


def _name(names: Sequence[str], number: int) -> str:
    # Threads that begin later are QEMU's workers.
    return names[number - 1] if number <= len(names) else f"worker {number}"


def _test_of(cell: Cell) -> CoroutineTest:
    return CoroutineTest(str(dict(cell.guest)["test"]))
