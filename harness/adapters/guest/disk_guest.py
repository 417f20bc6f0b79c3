"""Guests that boot from a disk image: their overlay, seed, keys and port, for one run and not longer."""

from __future__ import annotations

import contextlib
import shutil
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters.files import PASSABLE, make_directory
from harness.adapters.guest.agent import AgentConnection
from harness.adapters.guest.image import make_overlay
from harness.adapters.guest.seed import new_key_pair, write_seed
from harness.adapters.guest.ssh import HOST, SshAccess, SshConnection
from harness.adapters.scratch import scratch
from harness.core.domain_specs import RootSpec
from harness.core.errors import HarnessError
from harness.core.guest_seed import known_host, meta_data, user_data
from harness.core.model import Connection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.adapters.domain import Domain
    from harness.adapters.guest.lateness import Lateness
    from harness.adapters.guest.shell import GuestShell
    from harness.adapters.waiting import Waiter
    from harness.core.experiment import Guest

_SETTLE = (
    "if command -v systemctl >/dev/null; then systemctl is-system-running --wait; "
    "elif command -v cloud-init >/dev/null; then cloud-init status --wait; fi; exit 0"
)
"""Returns when the boot is over: a service that still starts would be measured too."""


@dataclass(frozen=True, slots=True)
class DiskGuest:
    """What the guests of one run have in common.

    Attributes:
        image: the harness's own copy; its guests write into overlays.
        directory: for the overlay and the seed; QEMU's user may enter it.
        access: who logs in by SSH; None where the agent is all.
        seed: cloud-init's files; None where it has nothing to say.
        outgoing: whether guests may speak to the world.
    """

    image: Path
    directory: Path
    access: SshAccess | None
    seed: dict[str, str] | None
    outgoing: bool = False

    @contextlib.contextmanager
    def root(self, *, throw_away: bool = True) -> Iterator[RootSpec]:
        """Provide what one boot needs; it is gone when the ``with`` block is left.

        Args:
            throw_away: boot from an overlay; otherwise from the copy itself, which is written.

        Raises:
            HarnessError: overlay or seed cannot be made.
        """
        remove_left_over(self.directory)
        make_directory(self.directory, PASSABLE)
        try:
            disk = self.directory / "root.qcow2" if throw_away else self.image
            if throw_away:
                make_overlay(self.image, disk)
            seed = None
            if self.seed is not None:
                seed = self.directory / "seed.iso"
                write_seed(seed, self.seed)
            yield RootSpec(
                overlay=str(disk),
                seed=str(seed) if seed else None,
                host_port=free_port() if self.access else None,
                guest_port=self.access.guest_port if self.access else 22,
                outgoing=self.outgoing,
            )
        except OSError as error:
            raise HarnessError(f"cannot make the guest's disks in {self.directory}: {error}") from error
        finally:
            remove_left_over(self.directory)

    @contextlib.contextmanager
    def shell(
        self, domain: Domain, root: RootSpec, waiter: Waiter, answer_timeout: float, lateness: Lateness
    ) -> Iterator[GuestShell]:
        """Provide the way into a guest that was booted from ``root``."""
        if self.access is None or root.host_port is None:
            yield AgentConnection(domain, waiter, answer_timeout, lateness)
            return
        with SshConnection(self.access, root.host_port, waiter) as connection:
            yield connection


@contextlib.contextmanager
def disk_guest(
    guest: Guest, image: Path, directory: Path, *, connection: Connection, outgoing: bool = False
) -> Iterator[DiskGuest]:
    """Provide the guests of one run, with keys that were never used before and never will be again.

    Args:
        guest: of the experiment.
        image: the harness's own copy of its image.
        directory: for the overlay and the seed of the one guest that is there at a time.
        connection: by which way it is reached.
        outgoing: whether guests may speak to the world.
    """
    if connection is Connection.AGENT:
        yield DiskGuest(image, directory, None, None, outgoing)
        return
    with scratch(sockets=True) as private:
        known_hosts = private / "known_hosts"
        if ssh := guest.ssh:
            known_hosts.write_text(known_host(HOST, ssh.host_key))
            access = SshAccess(ssh.user, Path(ssh.key), known_hosts, private, ssh.port, final=True)
            yield DiskGuest(image, directory, access, None, outgoing)
            return
        login, host = new_key_pair(), new_key_pair()
        known_hosts.write_text(known_host(HOST, host.public))
        key = private / "id_ed25519"
        key.touch(0o600)
        key.write_text(login.private)
        files = {
            "user-data": user_data(login=login.public, host=host),
            "meta-data": meta_data(f"harness-{uuid.uuid4()}"),
        }
        yield DiskGuest(image, directory, SshAccess("root", key, known_hosts, private), files, outgoing)


def settle(shell: GuestShell, timeout: float) -> None:
    """Wait until a guest's boot is over.

    Raises:
        GuestError: it was not in time, or the guest died.
        Interrupted: the user stopped the run.
    """
    shell.run(["/bin/sh", "-c", _SETTLE], grace=timeout)


def remove_left_over(directory: Path) -> None:
    """Remove what a boot needed; also that of one that was killed. Only who is alone on the host may."""
    shutil.rmtree(directory, ignore_errors=True)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
