"""pool-growth without a guest: a driver in the harness asks for the rounds, by way of the qtest socket."""

from __future__ import annotations

import contextlib
import platform
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.adapters import process
from harness.adapters.emulator import MappingsProbe, crash_record, emulator_facts
from harness.adapters.files import tail
from harness.adapters.guestless.machine_files import machine_files, shared_memory
from harness.adapters.guestless.pool_disks import RigDisk, layouts_of, requests_apart, start_disks
from harness.adapters.guestless.qtest import ConnectionLostError, QtestSocket, accepted, listening
from harness.adapters.scratch import scratch
from harness.core.counting import rig
from harness.core.counting.pci import DeviceRefusedError
from harness.core.counting.queue_memory import RequestFailedError
from harness.core.errors import GuestDiedError, GuestError, Interrupted
from harness.core.pool import rig_arguments
from harness.core.protocols import Execution
from harness.core.records import boot_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.core.experiment import Pool
    from harness.core.model import BuildRecord
    from harness.core.planning import PlannedIteration, PlannedSession
    from harness.core.protocols import StopSignal

_T = TypeVar("_T")
_PAUSE_SECONDS = 0.005
_GRACE_SECONDS = 30.0
_ANSWER_SECONDS = 30.0
_LOG_LINES = 200


@dataclass(frozen=True, slots=True)
class PoolRigLab:
    """Starts QEMUs without a guest, for the campaign.

    Attributes:
        pool: rounds and disks.
        machine: QEMU's machine type.
        builds: the provisioned build of each variant.
        stop: the user's wish to end the run.
    """

    pool: Pool
    machine: str
    builds: Mapping[str, BuildRecord]
    stop: StopSignal

    @contextlib.contextmanager
    def session(self, planned: PlannedSession, directory: Path, *, boot: int = 0) -> Iterator[PoolRig]:
        """Start the session's QEMU and its disks; it is killed when the ``with`` block is left.

        Raises:
            GuestError: QEMU did not start, died, or refused the driver.
            Interrupted: the user stopped the run.
        """
        build, began = self.builds[planned.variant], time.monotonic()
        log = directory / boot_file("qemu.log", boot)
        layouts = layouts_of(self.pool, depth=self.pool.queue_size)
        memory = rig.memory_bytes(layouts[-1].end)
        with contextlib.ExitStack() as stack:
            place = stack.enter_context(scratch(sockets=True))
            files = machine_files(place)
            shared = stack.enter_context(shared_memory(Path(files.memory), memory))
            server = stack.enter_context(listening(Path(files.qtest)))
            argv = [build.emulator, *rig_arguments(self.pool, self.machine, files, memory=memory)]
            running = stack.enter_context(process.background(argv, output=log))
            watched = _Watched(running, build.name, log, self.stop)
            connection = stack.enter_context(
                accepted(
                    server,
                    lambda started: watched.until(started, _GRACE_SECONDS),
                    answer_seconds=_ANSWER_SECONDS,
                )
            )
            facts = emulator_facts(running.pid, build) | {
                "accel": "tcg",
                "host_kernel": platform.release(),
            }
            disks = watched.guarded(lambda: start_disks(QtestSocket(connection), shared, layouts))
            started = PoolRig(self.pool, disks, watched, time.monotonic() - began, facts)
            started.greet()
            yield started


@dataclass(frozen=True, slots=True)
class PoolRig:
    """A QEMU without a guest, and a driver that takes rounds."""

    _pool: Pool
    _disks: list[RigDisk]
    _watched: _Watched
    ready_seconds: float
    facts: dict[str, Any]
    telemetry: None = None

    def greet(self) -> None:
        """Have every disk serve one request, as a guest does that looks for partitions.

        A thread's first request fills its own pool: with one coroutine in QEMU 7.2, a batch of 128 since 9.0.
        """
        self._serve(self._disks, requests=1)

    def run(self, iteration: PlannedIteration, *, runtime: float, ramp: float) -> Execution:  # noqa: ARG002
        """Run one round: fill the queues of the burst's disks, then ask one more disk for one block.

        Raises:
            GuestDiedError: QEMU ended.
            GuestError: it did not answer in time.
            Interrupted: the user stopped the run.
        """
        started, clock = datetime.now(UTC), time.monotonic()
        burst, light = self._disks[: self._pool.burst_disks], self._disks[self._pool.burst_disks :]
        self._serve(burst, requests=self._pool.queue_size)
        self._serve([light[iteration.repeat]], requests=1)
        return Execution(
            exit_code=0,
            stdout="",
            stderr="",
            started=started,
            seconds=time.monotonic() - clock,
            mappings=self._watched.probe.look(),
        )

    def _serve(self, disks: list[RigDisk], *, requests: int) -> None:
        batch = requests_apart(requests)
        for disk in disks:
            disk.ring.submit(batch)
            self._watched.guarded(disk.bell.ring)
        limit = self._pool.latency + _GRACE_SECONDS
        self._watched.until(lambda: all(disk.ring.completed() for disk in disks), limit)
        for disk in disks:
            self._watched.guarded(disk.ring.finish)


@dataclass(slots=True)
class _Watched:
    """A QEMU whose end is noticed, whatever is waited for."""

    running: process.Background
    build: str
    log: Path
    stop: StopSignal
    probe: MappingsProbe = field(init=False)

    def __post_init__(self) -> None:
        self.probe = MappingsProbe(self.running.pid)

    def until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait until something holds.

        Raises:
            GuestDiedError: QEMU ended.
            GuestError: time ran out.
            Interrupted: the user stopped the run.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if self.stop.is_set():
                raise Interrupted("interrupted")
            self.check()
            if time.monotonic() > deadline:
                raise GuestError(f"{self.build}: QEMU did not answer the driver within {seconds:.0f} s")
            # The mappings just before an abort are evidence.
            self.probe.look()
            time.sleep(_PAUSE_SECONDS)

    def check(self) -> None:
        """Raise what is known of QEMU's end, if it ended.

        Raises:
            GuestDiedError: it did.
        """
        if (status := self.running.ended()) is not None:
            said = tail(self.log, lines=_LOG_LINES).splitlines()
            crash = crash_record(status, said, mappings=self.probe.last)
            raise GuestDiedError(f"{self.build}: QEMU died: {crash.cause}", crash)

    def guarded(self, act: Callable[[], _T]) -> _T:
        """Do something with QEMU, and say why it failed where QEMU is the reason.

        Raises:
            GuestDiedError: QEMU ended.
            GuestError: it refused the driver.
        """
        try:
            return act()
        except ConnectionLostError as error:
            self.running.wait(_ANSWER_SECONDS)
            self.check()
            raise GuestError(f"{self.build}: {error.message}") from error
        except (DeviceRefusedError, RequestFailedError) as error:
            raise GuestError(f"{self.build}: {error}") from error
