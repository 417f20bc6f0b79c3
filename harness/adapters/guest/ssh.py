"""Into the guest, by OpenSSH's client: one connection a session, a host key known beforehand."""

from __future__ import annotations

import contextlib
import shlex
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from harness.adapters.files import printable_lines, tail
from harness.adapters.guest.shell import MAX_OUTPUT_BYTES
from harness.adapters.process import Background, Gathered, background
from harness.core.errors import GuestError
from harness.core.protocols import Execution

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.adapters.waiting import Waiter

HOST = "harness-guest"
"""What the guest is called in known_hosts: its address is the loopback's, as everybody's."""

_RETRY_SECONDS = 0.5
_CONNECT_SECONDS = 20
_CONNECTION_FAILED = 255
_UNKNOWN_HOST = ("Host key verification failed", "HOST IDENTIFICATION HAS CHANGED")
_REFUSED = ("Permission denied", "Too many authentication failures")


@dataclass(frozen=True, slots=True)
class SshAccess:
    """Who may log in to the guests of one run.

    Attributes:
        user: root, or who may sudo.
        key: the private key's file.
        known_hosts: the file that pins the guest's key.
        directory: a private one with a short path, for the connection's socket.
        guest_port: of the guest's sshd.
        final: whether key and host key are the user's: what is refused once is refused for good, while
            cloud-init may just not have put ours in place.
    """

    user: str
    key: Path
    known_hosts: Path
    directory: Path
    guest_port: int = 22
    final: bool = False

    @property
    def socket(self) -> Path:
        """The socket of the one connection."""
        return self.directory / "ssh"

    def options(self) -> list[str]:
        """Return what every ssh of ours is told; nothing of the user's own configuration counts."""
        settings = {
            "BatchMode": "yes",
            "ConnectTimeout": str(_CONNECT_SECONDS),
            "ConnectionAttempts": "1",
            "ControlPath": str(self.socket),
            "EscapeChar": "none",
            "GlobalKnownHostsFile": "/dev/null",
            "HostKeyAlias": HOST,
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "IdentityFile": str(self.key),
            "LogLevel": "ERROR",
            "PreferredAuthentications": "publickey",
            "StrictHostKeyChecking": "yes",
            "UpdateHostKeys": "no",
            "UserKnownHostsFile": str(self.known_hosts),
        }
        return [
            "-F",
            "none",
            "-T",
            *(part for key, value in settings.items() for part in ("-o", f"{key}={value}")),
        ]


class SshConnection:
    """Runs programs in a guest by SSH. Use as a context manager: the connection ends with it.

    Args:
        access: who logs in.
        port: on the host's loopback, which QEMU forwards.
        waiter: ends waits early when the guest stops or the user interrupts.
    """

    def __init__(self, access: SshAccess, port: int, waiter: Waiter) -> None:
        self._access = access
        self._where = ["-p", str(port), f"{access.user}@127.0.0.1"]
        self._waiter = waiter
        self._open = contextlib.ExitStack()
        self._master: Background | None = None
        self._log = access.directory / "ssh.log"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._open.close()
        self._access.socket.unlink(missing_ok=True)

    def wait_ready(self, timeout: float) -> bool:
        """Connect; return False when that did not work in time.

        Raises:
            GuestError: key or host key are wrong for good, or the guest died.
            Interrupted: the user stopped the run.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self._connect(deadline):
                return True
            if self._access.final and any(words in tail(self._log) for words in (*_UNKNOWN_HOST, *_REFUSED)):
                why, remedy = self.why_silent()
                raise GuestError(why, remedy=remedy)
            self._waiter.sleep(_RETRY_SECONDS)
        return False

    def _connect(self, deadline: float) -> bool:
        self._open.close()
        self._access.socket.unlink(missing_ok=True)
        argv = ["ssh", *self._access.options(), "-o", "ControlMaster=yes", "-N", *self._where]
        master = self._open.enter_context(background(argv, output=self._log))
        while master.ended() is None and time.monotonic() < deadline:
            # The socket appears when the guest has let us in.
            if self._access.socket.exists():
                self._master = master
                return True
            self._waiter.sleep(_RETRY_SECONDS / 5)
        return False

    def why_silent(self) -> tuple[str, str]:
        """Return what ssh said last, and what to do about it."""
        said = tail(self._log, lines=3).strip()
        ours = "is cloud-init in the image, and does it read a NoCloud seed? If not, use a key of your own: "
        if any(words in said for words in _UNKNOWN_HOST):
            why = f"the guest's host key is not the one that is pinned: {said.splitlines()[-1]}"
            return why, "correct guest.ssh.host_key" if self._access.final else f"{ours}guest.ssh"
        if any(words in said for words in _REFUSED):
            why = f"the guest refuses {self._access.user}'s key: {said}"
            remedy = "put the public key into the guest's authorized_keys; passwords are not used"
            return why, remedy if self._access.final else f"{ours}guest.ssh"
        remedy = "is sshd in the image, and started at boot?" if self._access.final else f"{ours}guest.ssh"
        return f"SSH: {said or 'no answer'}", remedy

    def run(self, argv: Sequence[str], *, stdin: str = "", due: float = 0.0, grace: float) -> Execution:
        """Run a program to its end. Meanwhile nothing is sent to the guest, not even a question.

        Args:
            argv: the program, by absolute path, and its arguments.
            stdin: what it reads.
            due: seconds it is known to take.
            grace: seconds beyond ``due`` after which it counts as hung.

        Raises:
            GuestError: it hung, or the guest died or stopped answering.
            Interrupted: the user stopped the run.
        """
        as_root = [] if self._access.user == "root" else ["sudo", "-n", "--"]
        command = shlex.join([*as_root, *argv])
        ssh = ["ssh", *self._access.options(), "-o", "ControlMaster=no", *self._where, command]
        started, clock = datetime.now(UTC), time.monotonic()
        with Gathered(
            ssh, input=stdin.encode(), limit_bytes=MAX_OUTPUT_BYTES, on_end=self._waiter.wake
        ) as process:
            if not self._waiter.until(process.ended, due + grace):
                raise GuestError(
                    f"{argv[0]} in the guest did not end within {grace:.0f} s of when it was due"
                )
            seconds, done = time.monotonic() - clock, process.result()
            if process.overflowed:
                raise GuestError(
                    f"the guest sent more than {MAX_OUTPUT_BYTES} bytes where fio's JSON was expected"
                )
        if done.returncode == _CONNECTION_FAILED and (
            self._master is None or self._master.ended() is not None
        ):
            raise GuestError(
                f"the SSH connection to the guest is lost: {printable_lines(done.stderr.strip())}"
            )
        return Execution(done.returncode, done.stdout, done.stderr, started, seconds)
