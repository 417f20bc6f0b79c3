"""libvirt's QEMU driver: transient domains, and nothing that is not this project's."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from harness.adapters import embedded
from harness.adapters.domain import KILLED_SECONDS, Domain, qemu_pid
from harness.adapters.libvirt_api import ensure_event_loop, libvirt
from harness.adapters.libvirt_text import log_directory, name_and_files
from harness.adapters.process_handle import ProcessHandle
from harness.adapters.reaper import Reaper
from harness.core.errors import HypervisorError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class LibvirtVersion:
    """A version of libvirt, ordered."""

    major: int
    minor: int
    release: int

    @classmethod
    def from_number(cls, number: int) -> LibvirtVersion:
        """Return the version from libvirt's own number (9000000 is 9.0.0)."""
        return cls(number // 1_000_000, number // 1_000 % 1_000, number % 1_000)

    @property
    def parts(self) -> tuple[int, int, int]:
        """The three numbers."""
        return (self.major, self.minor, self.release)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.release}"


class Hypervisor:
    """A connection to libvirt's QEMU driver.

    ``qemu:///embed`` runs the driver inside this process, below a directory of its own: no daemon, nothing
    to configure. Use as a context manager.

    Args:
        uri: ``qemu:///embed``, ``qemu:///system``, ``qemu:///session`` or any other QEMU URI.
        embed_root: the directory of the embedded driver; short, since it holds UNIX sockets.
    """

    def __init__(self, uri: str, embed_root: Path) -> None:
        self.uri = uri
        self._logs = log_directory(uri, embed_root)
        self._reaper: Reaper | None = None
        self._started: list[Domain] = []
        if uri.startswith("qemu:///embed"):
            embedded.prepare_root(embed_root)
            self._reaper = Reaper.running()
            uri = f"qemu:///embed?root={embed_root}"
        ensure_event_loop()
        try:
            self._connection = libvirt.open(uri)
        except libvirt.libvirtError as error:
            if "Failed to acquire pid file" in str(error):
                raise HypervisorError(
                    f"the embedded libvirt below {embed_root} is in use by another process",
                    remedy="a run is probably going on: try again when it has ended",
                ) from error
            raise HypervisorError(
                f"cannot connect to {self.uri}: {_first_line(error)}",
                remedy="qemu:///embed needs no daemon; for the others, start virtqemud or libvirtd",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        for domain in self._started:
            domain.await_tidy()
        with contextlib.suppress(libvirt.libvirtError):
            self._connection.close()

    @property
    def version(self) -> LibvirtVersion:
        """The version of the libvirt that drives QEMU."""
        return LibvirtVersion.from_number(self._connection.getLibVersion())

    def start(self, xml: str) -> Domain:
        """Create a transient domain; it runs when this returns.

        Raises:
            HypervisorError: libvirt or QEMU refused; the message is theirs.
        """
        name, holds_files = name_and_files(xml)
        self._await_name(name)
        try:
            handle = self._connection.createXML(xml, 0)
        except libvirt.libvirtError as error:
            raise HypervisorError(f"the guest could not be started: {error.get_error_message()}") from error
        log = None if self._logs is None else self._logs / f"{handle.name()}.log"
        domain = Domain(self._connection, handle, log=log, reaper=self._reaper, holds_files=holds_files)
        self._started.append(domain)
        return domain

    def _await_name(self, name: str) -> None:
        """Wait until libvirt has forgotten the guest that had the same name before."""
        self._started = [domain for domain in self._started if domain.is_known()]
        for domain in self._started:
            if domain.name == name:
                domain.await_tidy()

    def domains(self, prefix: str) -> list[str]:
        """Return the names of the running domains that start with a prefix."""
        names = (domain.name() for domain in self._connection.listAllDomains(0))
        return sorted(name for name in names if name.startswith(prefix))

    def destroy(self, name: str) -> None:
        """Destroy a domain by name; one that is gone already is fine.

        Raises:
            HypervisorError: libvirt could not destroy it.
        """
        try:
            handle = self._connection.lookupByName(name)
        except libvirt.libvirtError:
            return
        # One whose start was cut off holds libvirt's lock on the domain for as long as it lives.
        if (pid := qemu_pid(handle.UUIDString())) is not None:
            ProcessHandle(pid).end(KILLED_SECONDS, kill=True)
        try:
            handle.destroy()
        except libvirt.libvirtError as error:
            if name in self.domains(name):
                raise HypervisorError(
                    f"{name} could not be ended: {_first_line(error)}",
                    remedy="if libvirt says that it is locked, restart virtqemud or libvirtd, and try again",
                ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
