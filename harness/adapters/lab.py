"""The lab: boots a session's guest on its build, and hands it to the campaign."""

from __future__ import annotations

import contextlib
import platform
import time
import uuid
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.adapters.emulator import MappingsProbe, crash_record, emulator_facts
from harness.adapters.files import printable_lines, read_text, tail, write_atomic
from harness.adapters.guest.agent import AgentConnection
from harness.adapters.guest.disk_guest import settle
from harness.adapters.guest.fio import Fio, target_of
from harness.adapters.guest.lateness import Lateness
from harness.adapters.guest.pool import PoolGuest
from harness.adapters.host.facts import volatile_settings
from harness.adapters.log_limit import LogLimit
from harness.adapters.qemu_view import QemuView
from harness.adapters.starting import start_domain
from harness.adapters.telemetry.sampler import TelemetryRecorder, telemetry_file
from harness.adapters.waiting import Waiter
from harness.core.domain_xml import domain_spec, render_domain
from harness.core.errors import GuestDiedError, GuestError, HarnessError
from harness.core.guest_view import SCRIPT, parse_guest
from harness.core.model import Workload
from harness.core.pool import PARALLEL_PROBE, burst_serials, pool_disks, pool_iothreads
from harness.core.qemu_log import qemu_said
from harness.core.records import boot_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from harness.adapters.disk_guard import DiskGuard
    from harness.adapters.domain import Domain
    from harness.adapters.guest.disk_guest import DiskGuest
    from harness.adapters.guest.shell import GuestShell
    from harness.adapters.hypervisor import Hypervisor
    from harness.core.domain_specs import DomainSpec, RootSpec
    from harness.core.experiment import Experiment
    from harness.core.model import Accel, BuildRecord, GuestConfig, GuestImage
    from harness.core.planning import PlannedIteration, PlannedSession
    from harness.core.protocols import Execution, StopSignal
    from harness.core.telemetry import TelemetryRecord

DOMAIN_PREFIX = "qemu-ab-"
"""How every domain of this project is called; nothing else is ever touched."""

TARGET = target_of("disk0")
"""The measured disk in the guest, by the serial that the domain XML gives it."""

_LOG_LINES = 200
_CONSOLE_ENDS, _CONSOLE_EMPTY = "; its console ends:", "; its console is empty"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long things may take, in seconds.

    Attributes:
        boot: from create to the agent's first answer.
        agent: for the agent to answer one command.
        grace: for fio, beyond ramp and runtime.
        destroy: for QEMU to end.
    """

    boot: float
    agent: float
    grace: float
    destroy: float


@dataclass(frozen=True, slots=True)
class LibvirtLab:
    """Boots guests through libvirt.

    Attributes:
        run_id: goes into the domains' names and metadata.
        builds: the provisioned build of each variant.
        template: of the domain XML.
        fio_script: the text of fio/fio.sh; the guest runs just this version of it.
        disks: the file or device behind the disk of each guest configuration; None where there is none.
        disk_guest: what guests boot from, where that is a disk image; None where the image is all there is.
        guard: looks at the device behind the disk before each guest; None where there can be none.
        lateness: what is known of how late programs end, by variant.
        meanwhile: done each time a guest boots, while it does: a second, at most, of work that need not wait.
    """

    hypervisor: Hypervisor
    experiment: Experiment
    run_id: str
    accel: Accel
    builds: Mapping[str, BuildRecord]
    image: GuestImage
    template: Path
    fio_script: Path
    disks: Mapping[GuestConfig, Path | None]
    timeouts: Timeouts
    stop: StopSignal
    disk_guest: DiskGuest | None = None
    guard: DiskGuard | None = None
    lateness: Mapping[str, Lateness] = field(default_factory=lambda: defaultdict(Lateness))
    meanwhile: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def session(
        self, planned: PlannedSession, directory: Path, *, boot: int = 0
    ) -> Iterator[BootedGuest | PoolGuest]:
        """Boot the session's guest; it is destroyed when the ``with`` block is left, whatever happened.

        Raises:
            GuestError: it did not boot, or died.
            InputError: the device behind the disk is in use, or is another one by now.
            Interrupted: the user stopped the run.
        """
        with contextlib.ExitStack() as stack:
            root = stack.enter_context(self.disk_guest.root()) if self.disk_guest else None
            yield stack.enter_context(self._booted(planned, directory, boot, root))

    @contextlib.contextmanager
    def _booted(
        self, planned: PlannedSession, directory: Path, boot: int, root: RootSpec | None
    ) -> Iterator[BootedGuest | PoolGuest]:
        build = self.builds[planned.variant]
        # What an earlier boot of the session left stays beside it.
        console = directory / boot_file("console.log", boot)
        xml = render_domain(self.domain_spec(planned, console, root), read_text(self.template))
        write_atomic(directory / boot_file("domain.xml", boot), xml.encode())
        if self.guard is not None:
            self.guard.check_again()
        began = time.monotonic()
        domain = start_domain(self.hypervisor, xml, build, timeout=self.timeouts.boot, stop=self.stop)
        probe = MappingsProbe(domain.pid)
        telemetry = TelemetryRecorder(directory / telemetry_file(boot), domain.pid, probe)
        limit = LogLimit(filter(None, (console, domain.log)), domain.kill)
        guest = f"the guest on {build.name}"
        waiter = Waiter(
            self.stop,
            domain.stopped,
            lambda: limit.error(guest) or _died(build, domain, console, probe),
        )
        view = QemuView(domain, waiter)
        try:
            limit.start()
            telemetry.start()
            domain.on_change(waiter.wake)
            self.meanwhile()
            facts = emulator_facts(domain.pid, build)
            with self._shell(domain, root, waiter, self.lateness[planned.variant]) as shell:
                await_answer(shell, guest, self.timeouts.boot, console)
                if root is not None:
                    settle(shell, self.timeouts.boot)
                ready = time.monotonic() - began
                facts |= self._guest_facts(shell) | self._own_facts()
                facts["qemu"] = view.facts(self.timeouts.agent)
                fio = Fio(shell, read_text(self.fio_script), self.timeouts.grace, self.image.fio_script)
                yield self._guest(fio, probe, telemetry, ready, facts)
        except GuestError as error:
            error.message = _with_console(error.message, console)
            raise
        finally:
            # From the last to the first, each whatever another one raises: a disk that fails must not keep
            # the guest alive.
            with contextlib.ExitStack() as ending:
                ending.callback(_keep_qemu_log, domain, directory / boot_file("qemu.log", boot))
                ending.callback(limit.cut)
                ending.callback(domain.destroy, self.timeouts.destroy)
                ending.callback(limit.close)
                ending.callback(telemetry.close)
                ending.callback(waiter.close)
                ending.callback(view.close)

    @contextlib.contextmanager
    def _shell(
        self, domain: Domain, root: RootSpec | None, waiter: Waiter, lateness: Lateness
    ) -> Iterator[GuestShell]:
        if self.disk_guest is None or root is None:
            yield AgentConnection(domain, waiter, self.timeouts.agent, lateness)
            return
        with self.disk_guest.shell(domain, root, waiter, self.timeouts.agent, lateness) as shell:
            yield shell

    def _guest(
        self,
        fio: Fio,
        probe: MappingsProbe,
        telemetry: TelemetryRecorder,
        ready: float,
        facts: dict[str, Any],
    ) -> BootedGuest | PoolGuest:
        # The disk's own name, found once: looking up a link takes a process of its own at each iteration.
        device = facts["guest"].pop("device")
        if self.experiment.workload is Workload.POOL_GROWTH:
            if probe.look() is None:
                raise HarnessError(
                    f"the memory mappings of QEMU cannot be seen: {probe.hidden or 'its process is gone'}",
                    remedy="run as root, or with libvirt: qemu:///embed, whose QEMU is this user's own",
                )
            return PoolGuest(fio, self.experiment.pool, telemetry, ready, facts)
        return BootedGuest(fio, telemetry, ready, facts, device or TARGET)

    def under(self, accel: Accel, *, boot_seconds: float | None = None) -> LibvirtLab:
        """Return the same lab under an accelerator, with the boot time-out that goes with it."""
        disk_image = self.experiment.guest.disk_image is not None
        boot = boot_seconds or self.experiment.timeouts.boot_seconds(accel, disk_image=disk_image)
        return replace(self, accel=accel, timeouts=replace(self.timeouts, boot=boot))

    def domain_spec(self, planned: PlannedSession, console: Path, root: RootSpec | None = None) -> DomainSpec:
        """Return the guest of a session."""
        build, disk = self.builds[planned.variant], self.disks[planned.guest]
        pool = self.experiment.pool if self.experiment.workload is Workload.POOL_GROWTH else None
        return domain_spec(
            self.experiment.for_guest(planned.guest),
            name=f"{DOMAIN_PREFIX}{self.run_id}-{planned.directory}",
            uuid=str(uuid.uuid4()),
            run_id=self.run_id,
            emulator=build.emulator,
            accel=self.accel,
            kernel=self.image.kernel,
            initrd=self.image.initrd,
            console_log=str(console.absolute()),
            disk_path=str(disk) if disk else None,
            root=root,
            disks=pool_disks(pool) if pool else None,
            iothreads=pool_iothreads(pool) if pool else None,
            extra_cmdline=PARALLEL_PROBE if pool else "",
        )

    def _own_facts(self) -> dict[str, Any]:
        return {
            "accel": self.accel.value,
            "host_kernel": platform.release(),
            "image_sha256": self.image.sha256,
            "host": volatile_settings(),
        }

    def _guest_facts(self, shell: GuestShell) -> dict[str, Any]:
        pool_growth = self.experiment.workload is Workload.POOL_GROWTH
        target = target_of(burst_serials(self.experiment.pool)[0]) if pool_growth else TARGET
        # The first programs of a boot come from a cold disk, and may take as long as the boot.
        grace = self.timeouts.boot if self.disk_guest else self.timeouts.grace
        execution = shell.run(["/bin/sh", "-c", SCRIPT, "sh", target], grace=grace)
        if execution.exit_code:
            said = printable_lines(execution.stderr.strip())
            raise GuestError(
                f"the guest has no disk {target} that is free to be measured, or no fio: {said}",
                remedy="with `prepare: false`, fio has to be in the image; else look at console.log",
            )
        guest = parse_guest(printable_lines(execution.stdout))
        return {"guest_kernel": guest.pop("kernel"), "guest_fio": guest.pop("fio"), "guest": guest}


@dataclass(frozen=True, slots=True)
class BootedGuest:
    """A guest that answers, and takes the iterations of a matrix."""

    _fio: Fio
    _telemetry: TelemetryRecorder
    ready_seconds: float
    facts: dict[str, Any]
    _target: str = TARGET

    @property
    def telemetry(self) -> TelemetryRecord | None:
        """What is kept of its telemetry, once the session has ended."""
        return self._telemetry.record

    def run(self, iteration: PlannedIteration, *, runtime: float, ramp: float) -> Execution:
        """Run fio once, on the measured disk.

        Raises:
            GuestDiedError: QEMU ended.
            GuestError: the guest did not answer in time.
            Interrupted: the user stopped the run.
        """
        self._telemetry.begin(iteration.number, ramp=ramp, runtime=runtime)
        execution = self._fio.run(iteration.cell, [self._target], runtime=runtime, ramp=ramp)
        return replace(execution, mappings=self._telemetry.end())


def await_answer(shell: GuestShell, guest: str, timeout: float, console: Path) -> None:
    """Wait for a guest's first answer.

    Args:
        shell: the way in.
        guest: what to call it.
        timeout: seconds.
        console: its console's log.

    Raises:
        GuestError: there was none, with what is known of the reason.
        Interrupted: the user stopped the run.
    """
    if not shell.wait_ready(timeout):
        why, remedy = shell.why_silent()
        raise GuestError(
            f"{guest} did not answer within {timeout:.0f} s of its start: {why}{console_tail(console)}",
            remedy=remedy,
        )


def console_tail(console: Path) -> str:
    """Return the console's last lines as the end of a message."""
    lines = tail(console)
    return f"{_CONSOLE_ENDS}\n{lines}" if lines else _CONSOLE_EMPTY


def _with_console(message: str, console: Path) -> str:
    """Return a message about a guest with its console's last lines, unless it has them already."""
    told = _CONSOLE_ENDS in message or message.endswith(_CONSOLE_EMPTY)
    return message if told else message + console_tail(console)


def _died(build: BuildRecord, domain: Domain, console: Path, probe: MappingsProbe) -> GuestDiedError:
    """Return what is known of a guest that stopped by itself."""
    status = domain.exit_status()
    crash = crash_record(
        status,
        _said(domain),
        console=tuple(tail(console).splitlines()),
        mappings=probe.last,
        qemu_failed=domain.failed if status is None else status != 0,
    )
    how = f"QEMU died: {crash.cause}" if crash.qemu_failed else crash.cause
    return GuestDiedError(f"the guest on {build.name} stopped by itself: {how}{console_tail(console)}", crash)


def _said(domain: Domain) -> list[str]:
    return qemu_said(tail(domain.log, lines=_LOG_LINES)) if domain.log else []


def _keep_qemu_log(domain: Domain, path: Path) -> None:
    """Keep what QEMU said, if anything; libvirt's own log holds the environment and is not kept."""
    if said := _said(domain):
        write_atomic(path, "".join(f"{line}\n" for line in said).encode())
    domain.forget_log()
