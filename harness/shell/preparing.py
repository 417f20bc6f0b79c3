"""From a user's disk image to the copy that sessions boot: fio put in place by a playbook, once an image."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters import process
from harness.adapters.files import (
    PASSABLE,
    make_directory,
    printable_lines,
    read_json,
    read_text,
    sha256_of,
    sync_directory,
    write_atomic,
    write_json,
)
from harness.adapters.guest.disk_guest import DiskGuest, disk_guest, settle
from harness.adapters.guest.image import ImageFile, copy_image, pin
from harness.adapters.guest.ssh import SshConnection
from harness.adapters.lab import DOMAIN_PREFIX, await_answer, console_tail
from harness.adapters.log_limit import LogLimit
from harness.adapters.provision import prepare_guest
from harness.adapters.starting import start_domain
from harness.adapters.waiting import Stop, Waiter
from harness.core.domain_xml import domain_spec, render_domain
from harness.core.errors import GuestError, HarnessError, InputError, Problem
from harness.core.guest_view import WHO, parse_guest
from harness.core.model import Accel, BuildRecord, Connection, GuestImage
from harness.resources import resource_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.adapters.domain import Domain
    from harness.adapters.hypervisor import Hypervisor
    from harness.adapters.playbook_events import TaskEvent
    from harness.adapters.workspace import Workspace
    from harness.core.domain_specs import RootSpec
    from harness.core.experiment import Experiment

FIO_SCRIPT = "/usr/local/libexec/qemu-ab-harness/fio.sh"
"""Where the playbook puts fio.sh, unless the role's variable says otherwise."""

DISK = "disk.qcow2"
_SHUTDOWN_SECONDS = 120.0
_NAME_LENGTH = 12
_UNKNOWN = "unknown"


def check_networks(experiment: Experiment, builds: Mapping[str, BuildRecord], source: str) -> None:
    """Refuse builds that cannot give a guest the network that SSH needs.

    Raises:
        InputError: with every such build.
    """
    guest = experiment.guest
    if not guest.reached_by_ssh:
        return
    without = [build for build in builds.values() if not _has_user_network(build)]
    measured = guest.connection is Connection.SSH
    if not without or (not measured and len(without) < len(builds)):
        return
    instead = "" if measured else ", or have fio in the image and write guest.prepare: false"
    raise InputError(
        [
            Problem(
                f"{source}: builds.{build.name}",
                f"{build.binary} is built without user networking (slirp), and SSH into the guest needs it",
                f"install libslirp's headers and configure it with --enable-slirp{instead}",
            )
            for build in without
        ]
    )


def _has_user_network(build: BuildRecord) -> bool:
    told = process.run([build.emulator, "-machine", "none", "-netdev", "help"], timeout=60, check=False)
    return "user" in told.stdout.split()


@dataclass(frozen=True, slots=True)
class Preparation:
    """Makes the copy of an image that sessions boot.

    Attributes:
        accel: to boot under.
        say: told, in a sentence, what takes time.
        on_task: hears of the playbook's tasks.
    """

    hypervisor: Hypervisor
    workspace: Workspace
    experiment: Experiment
    builds: Mapping[str, BuildRecord]
    accel: Accel
    stop: Stop
    say: Callable[[str], None]
    on_task: Callable[[TaskEvent], None]

    def image(self) -> GuestImage:
        """Return the copy for the image as it is now; made, where there is none yet.

        Raises:
            HarnessError: it cannot be made: no space, no answer, no fio; names the cause.
            Interrupted: the user stopped it.
        """
        source = self.experiment.guest.disk_image
        assert source is not None  # noqa: S101 - only images are prepared
        found = pin(Path(source), self.workspace.images / "hashes.json")
        place = self.workspace.images / f"disk-{self._name(found)}"
        record = place / "image.json"
        if record.exists() and (place / DISK).exists():
            return GuestImage(**read_json(record)["image"])
        part = self.workspace.images / f".{place.name}.making"
        shutil.rmtree(part, ignore_errors=True)
        # QEMU's user has to get at what is in it.
        make_directory(part, PASSABLE)
        try:
            self.say(f"copying {source} ({found.size_bytes >> 20} MiB): the image itself is never written")
            disk = part / DISK
            copy_image(found, disk)
            image = self._prepared(found, disk) if self.experiment.guest.prepares else _as_it_is(found)
            disk.chmod(0o444 if self._is_shared() else 0o400)
            image = _placed(image, place / DISK, sha256_of(disk))
            write_json(part / record.name, {"image": asdict(image), "source": asdict(found)})
            shutil.rmtree(place, ignore_errors=True)
            # Renamed last: a directory under its own name is a whole one.
            part.rename(place)
            sync_directory(place.parent)
        except OSError as error:
            raise HarnessError(f"cannot prepare {source}: {error}") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return image

    def _name(self, found: ImageFile) -> str:
        """Return a name that changes with everything that goes into the copy."""
        guest = self.experiment.guest
        inputs: dict[str, object] = {
            "sha256": found.sha256,
            "format": found.format,
            "prepares": guest.prepares,
        }
        if self._is_shared():
            inputs["shared"] = True
        if guest.prepares:
            inputs |= {"agent": guest.connection is Connection.AGENT, "files": _input_files()}
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:_NAME_LENGTH]

    def _is_shared(self) -> bool:
        """Return whether another user runs QEMU and keeps the copy, which this one has to read again.

        Of what lies below an overlay libvirt changes the owner, and does not change it back.
        """
        own = self.hypervisor.uri.startswith(("qemu:///embed", "qemu:///session"))
        return os.geteuid() != 0 and not own

    def _prepared(self, found: ImageFile, disk: Path) -> GuestImage:
        self.say(f"preparing a copy of {found.path} under {self.accel.value.upper()}: booting it once")
        guest = self.experiment.guest
        with (
            disk_guest(guest, disk, self.workspace.guest, connection=Connection.SSH, outgoing=True) as booted,
            booted.root(throw_away=False) as root,
        ):
            facts = self._converge(booted, root)
        return GuestImage(
            kernel="",
            initrd="",
            sha256=found.sha256,
            kernel_version=facts["kernel"] or _UNKNOWN,
            fio_version=facts["fio"] or _UNKNOWN,
            source=found.path,
            distribution=facts["distribution"],
            fio_script=FIO_SCRIPT,
        )

    def _converge(self, booted: DiskGuest, root: RootSpec) -> dict[str, str | None]:
        access = booted.access
        assert access is not None  # noqa: S101 - asked for
        assert root.host_port is not None  # noqa: S101 - likewise
        console = make_directory(self.workspace.state / "probe") / "console.log"
        timeout = self.experiment.timeouts.boot_seconds(self.accel, disk_image=True)
        with (
            self._domain(root, console) as (domain, waiter),
            SshConnection(access, root.host_port, waiter) as shell,
        ):
            await_answer(shell, "the guest that is to be prepared", timeout, console)
            settle(shell, timeout)
            prepare_guest(
                ssh_options=access.options(),
                user=access.user,
                port=root.host_port,
                fio_script=resource_dir("fio") / "fio.sh",
                agent=self.experiment.guest.connection is Connection.AGENT,
                playbooks=resource_dir("playbooks"),
                on_task=self.on_task,
                cancelled=self.stop.is_set,
                task_seconds=self.experiment.timeouts.task_seconds(compiles=False),
            )
            told = shell.run(["/bin/sh", "-c", WHO], grace=timeout)
            self._shut_down(shell, domain)
        facts = parse_guest(printable_lines(told.stdout))
        return {name: facts[name] for name in ("kernel", "fio", "distribution")}

    @contextlib.contextmanager
    def _domain(self, root: RootSpec, console: Path) -> Iterator[tuple[Domain, Waiter]]:
        build = self._build()
        spec = domain_spec(
            self.experiment.for_guest(self.experiment.guest_configs()[0]),
            name=f"{DOMAIN_PREFIX}{self.experiment.name}-prepare",
            uuid=str(uuid.uuid4()),
            run_id=f"{self.experiment.name}-prepare",
            emulator=build.emulator,
            accel=self.accel,
            kernel="",
            initrd="",
            console_log=str(console.absolute()),
            root=root,
            disks=(),
            iothreads=(),
        )
        xml = render_domain(spec, read_text(resource_dir("templates") / "test.xml.j2"))
        write_atomic(console.with_name("domain.xml"), xml.encode())
        timeout = self.experiment.timeouts.boot_seconds(self.accel, disk_image=True)
        domain = start_domain(self.hypervisor, xml, build, timeout=timeout, stop=self.stop)
        limit = LogLimit(filter(None, (console, domain.log)), domain.kill)
        guest = "the guest that is to be prepared"
        waiter = Waiter(
            self.stop,
            domain.stopped,
            lambda: limit.error(guest) or GuestError(f"{guest} stopped by itself{console_tail(console)}"),
        )
        try:
            limit.start()
            domain.on_change(waiter.wake)
            yield domain, waiter
        finally:
            waiter.close()
            limit.close()
            domain.destroy(self.experiment.timeouts.destroy)
            limit.cut()
            domain.forget_log()

    def _build(self) -> BuildRecord:
        """Return a build to prepare with: the baseline, unless only another has a network."""
        order = [self.builds[name] for name in self.experiment.variants]
        return next((build for build in order if _has_user_network(build)), order[0])

    def _shut_down(self, shell: SshConnection, domain: Domain) -> None:
        """Have the guest write everything to its disk and end."""
        with contextlib.suppress(GuestError):
            shell.run(["/bin/sh", "-c", "sync; systemctl poweroff || poweroff"], grace=_SHUTDOWN_SECONDS)
        if not domain.stopped.wait(_SHUTDOWN_SECONDS):
            raise GuestError(
                f"the prepared guest did not shut down within {_SHUTDOWN_SECONDS:.0f} s",
                remedy="try again; the copy was thrown away",
            )


def check_image_unchanged(image: GuestImage) -> None:
    """Refuse to go on with another copy than the one a run began with.

    The user's own file may have changed meanwhile: the run measures its copy.

    Raises:
        HarnessError: the copy is gone or differs.
    """
    if image.disk is None:
        return
    disk = Path(image.disk)
    remedy = "start a new run: one run measures one image"
    if not disk.is_file():
        raise HarnessError(f"{disk}, the run's copy of {image.source}, is gone", remedy=remedy)
    found = sha256_of(disk)
    if found != image.disk_sha256:
        raise HarnessError(
            f"{disk}, the run's copy of {image.source}, changed since the run began: "
            f"{str(image.disk_sha256)[:12]}, now {found[:12]}",
            remedy=remedy,
        )


def _as_it_is(found: ImageFile) -> GuestImage:
    return GuestImage("", "", found.sha256, _UNKNOWN, _UNKNOWN, source=found.path)


def _placed(image: GuestImage, disk: Path, sha256: str) -> GuestImage:
    return GuestImage(**(asdict(image) | {"disk": str(disk), "disk_sha256": sha256}))


def _input_files() -> dict[str, str]:
    """Return the hashes of what the playbook puts into an image, and of how."""
    playbooks = resource_dir("playbooks")
    role = playbooks / "roles" / "guest_fio"
    files = [playbooks / "guest.yml", *role.glob("tasks/*.yml"), *role.glob("defaults/*.yml")]
    return {str(path.relative_to(playbooks)): sha256_of(path) for path in sorted(files)} | {
        "fio.sh": sha256_of(resource_dir("fio") / "fio.sh")
    }
