"""Processes that outlive the harness that started them, and the marks by which they are known as its own.

A playbook's workers have sessions of their own, and go on when it is cancelled; QEMU is a daemon.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters.host.processes import every_pid, head_of, still_runs
from harness.adapters.scratch import is_in_use
from harness.core.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "HARNESS_PLAYBOOK"
"""The environment variable by which everything that a playbook started on this host is known; its value is
the playbook's scratch directory."""

_GRACE_SECONDS = 5.0
_LOOK_SECONDS = 0.05
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Process:
    """A process, which is still the same as long as it began at the same time.

    Attributes:
        pid: its number.
        began: in clock ticks since the host's boot; None of one that is gone already.
        command: the beginning of its command line.
    """

    pid: int
    began: int | None
    command: str

    def __str__(self) -> str:
        return f"{self.pid} ({self.command})"

    def end(self) -> None:
        """End it: first by asking, then by force.

        Raises:
            HarnessError: this user may not, or it does not end.
        """
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + _GRACE_SECONDS
            try:
                if self._there():
                    os.kill(self.pid, number)
            except ProcessLookupError:
                return
            except OSError as error:
                raise HarnessError(f"process {self.pid} cannot be ended: {error.strerror}") from error
            while self._there():
                if time.monotonic() > deadline:
                    break
                time.sleep(_LOOK_SECONDS)
            else:
                return
        raise HarnessError(f"process {self.pid} did not end", remedy="it may wait for a disk")

    def _there(self) -> bool:
        return still_runs(self.pid, self.began)


def end_marked(value: str) -> int:
    """End every process that was started with the mark set to a value; return how many there were.

    They are asked to; what is still there after a few seconds is killed.
    """
    found = _marked_as(value)
    _signal(found, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    while (left := _marked_as(value)) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    _signal(left, signal.SIGKILL)
    return len(found)


def playbooks_left() -> list[Process]:
    """Return what playbooks started whose scratch directory is gone, or is nobody's any more."""
    return [
        process
        for process, mark in _marked()
        # An older harness set another mark, which says nothing of whether it still works.
        if mark.startswith("/") and _is_neighbour(process.pid) and not is_in_use(mark)
    ]


def emulators_left(embed_root: Path, prefix: str) -> list[Process]:
    """Return the QEMU processes of an embedded libvirt: guests, and those it asks what QEMU can.

    Only those that see the same files as this process: one in another container has another host's lock.

    Args:
        embed_root: of the state directory whose runs are dead.
        prefix: of the domains' names.
    """
    found = []
    for pid in _pids():
        argv = _read(pid, "cmdline")
        is_guest = f"guest={prefix}".encode() in argv and f"{embed_root}/".encode() in argv
        is_asked = f"\0-pidfile\0{embed_root}/lib/qemu/qmp-".encode() in argv
        if (is_guest or is_asked) and _is_neighbour(pid):
            found.append(_process(pid, argv))
    return [process for process in found if process.began is not None]


def _marked() -> Iterator[tuple[Process, str]]:
    mark = f"{MARK}=".encode()
    for pid in _pids():
        for variable in _read(pid, "environ").split(b"\0"):
            if variable.startswith(mark):
                yield _process(pid, _read(pid, "cmdline")), variable[len(mark) :].decode(errors="replace")


def _marked_as(value: str) -> list[Process]:
    return [process for process, mark in _marked() if mark == value]


def _signal(processes: list[Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _pids() -> list[int]:
    return [pid for pid in every_pid() if pid != os.getpid()]


def _process(pid: int, argv: bytes) -> Process:
    command = argv.replace(b"\0", b" ").decode(errors="replace").strip()
    head = head_of(pid)
    return Process(pid, head.began if head else None, command[:_SHOWN_CHARACTERS])


def _read(pid: int, name: str) -> bytes:
    """Return a file of a process; nothing when it has just ended, or is somebody else's."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""


def _is_neighbour(pid: int) -> bool:
    """Return whether a process sees the same files as this one; what another container does is its own."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/ns/mnt").readlink() == Path("/proc/self/ns/mnt").readlink()
    return False
