"""Locks: a measurement is alone on its host, and a run directory has one writer.

Both are ``flock`` on a file: the kernel drops them with their process, however it ends, so a lock is never
stale. Who holds one is read from /proc/locks, not from the file, which may lie.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import BusyError, HarnessError, Interrupted
from harness.core.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOCKS = Path("/proc/locks")
HOST_LOCK = Path("/run/lock/qemu-ab-harness.lock")
USERS_LOCK = Path("/tmp/qemu-ab-harness.lock")  # noqa: S108 - by this name for all users, whatever their TMPDIR
"""Where ordinary users may not make `HOST_LOCK`; root takes it too there, to meet them."""

_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""In a directory that all users share, the name may be anything: a link elsewhere, a pipe that blocks."""

_LOOK_SECONDS = 0.05
"""More than `holder_of` takes to look: who only looked must not be taken for a holder."""


_POLL_SECONDS = 1.0
_SAY_AGAIN_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a lock that somebody else holds.

    Attributes:
        seconds: at most; 0: not at all.
        say: told, in a sentence, for whom one waits, and now and then that one still does.
        stopped: asked all the time; true ends the wait.
    """

    seconds: float = 0.0
    say: Callable[[str], None] = lambda _sentence: None
    stopped: Callable[[], bool] = lambda: False


IMPATIENT = Patience()


@contextlib.contextmanager
def exclusive(
    path: Path, *, what: str, remedy: str, shared: bool = False, patience: Patience = IMPATIENT
) -> Iterator[None]:
    """Hold a lock for the duration of the ``with`` block.

    Args:
        path: the lock file; made when missing, left in place afterwards.
        what: what is locked, as the start of the message (``this host``).
        remedy: what the user can do when somebody else holds it.
        shared: let others hold it too who ask for it shared.
        patience: how long to wait while somebody else holds it.

    Raises:
        BusyError: somebody else holds it; names the process.
        Interrupted: the wait was ended.
        HarnessError: the lock file cannot be made.
    """
    descriptor = _open(path)
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        if not _take(descriptor, kind):
            time.sleep(_LOOK_SECONDS)
            if not _wait(descriptor, kind, patience):
                waited = f"; waited {format_duration(patience.seconds)}" if patience.seconds else ""
                raise BusyError(f"{what} is in use by {_holder(descriptor)}{waited}", remedy=remedy)
        yield
    finally:
        os.close(descriptor)


def _wait(descriptor: int, kind: int, patience: Patience) -> bool:
    """Take a lock as soon as it is free; return False when patience ran out.

    Raises:
        Interrupted: the wait was ended.
    """
    began = time.monotonic()
    waited, say_at = 0.0, 0.0
    while not _take(descriptor, kind):
        waited = time.monotonic() - began
        if waited >= patience.seconds:
            return False
        if patience.stopped():
            raise Interrupted("interrupted while waiting for the other run")
        if waited >= say_at:
            still = "waiting" if say_at == 0.0 else f"still waiting, {format_duration(waited)} by now,"
            patience.say(f"{still} for {_holder(descriptor)} to end")
            say_at = waited + _SAY_AGAIN_SECONDS
        time.sleep(min(_POLL_SECONDS, patience.seconds - waited))
    return True


@contextlib.contextmanager
def host_alone(patience: Patience = IMPATIENT) -> Iterator[None]:
    """Be the only measurement on this host, whoever runs the others."""
    remedy = "a measurement must be alone: have it wait with --wait, or stop the other"
    with _this_host(remedy, patience, shared=False):
        yield


@contextlib.contextmanager
def host_shared(patience: Patience = IMPATIENT) -> Iterator[None]:
    """Keep measurements off this host; counts of instructions do not mind one another."""
    remedy = "counting would disturb the measurement: have it wait with --wait, or stop the other"
    with _this_host(remedy, patience, shared=True):
        yield


@contextlib.contextmanager
def _this_host(remedy: str, patience: Patience, *, shared: bool) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for path in _host_locks():
            lock = exclusive(path, what="this host", remedy=remedy, shared=shared, patience=patience)
            stack.enter_context(lock)
        yield


def holder_of(path: Path) -> str | None:
    """Return who holds a lock, in words (``process 12 (harness run x.yml)``); None when nobody does.

    A lock file that is not there, or may not be read, is held by nobody that this user could know of.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _PLAIN)
    except OSError:
        return None
    try:
        # Asked by trying: /proc/locks does not show holders in other containers, or on other hosts.
        return None if _take(descriptor, fcntl.LOCK_SH) else _holder(descriptor)
    finally:
        os.close(descriptor)


def host_holder() -> str | None:
    """Return who measures on this host at the moment, in words; None when nobody does."""
    return next((holder for path in _host_locks() if (holder := holder_of(path))), None)


def _take(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _host_locks() -> list[Path]:
    """Return the lock files in the order in which everybody takes them.

    On some distributions only root may make a file in /run/lock. Then there is a second one, without which
    root and the users would not see each other.
    """
    theirs = [] if _is_everybodys(HOST_LOCK.parent) else [USERS_LOCK]
    return [HOST_LOCK, *theirs] if HOST_LOCK.exists() or os.access(HOST_LOCK.parent, os.W_OK) else theirs


def _is_everybodys(directory: Path) -> bool:
    return directory.exists() and bool(directory.stat().st_mode & stat.S_IWOTH)


def _open(path: Path) -> int:
    try:
        descriptor = _opened(path)
    except OSError as error:
        remedy = "make its directory writable"
        if path.is_symlink():
            remedy = "somebody has put a symbolic link there: look who (ls -l), and remove it"
        raise HarnessError(f"cannot make the lock {path}: {error.strerror}", remedy=remedy) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise HarnessError(f"the lock {path} is no file", remedy="look whose it is, and remove it")
    return descriptor


def _opened(path: Path) -> int:
    with contextlib.suppress(PermissionError):
        return os.open(path, os.O_RDONLY | os.O_CREAT | _PLAIN, 0o644)
    # Another user's file in a sticky directory may not be opened with O_CREAT; flock needs no more.
    return os.open(path, os.O_RDONLY | _PLAIN)


def _holder(descriptor: int) -> str:
    status = os.fstat(descriptor)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    found: dict[bool, int] = {}
    for line in _LOCKS.read_text().splitlines():
        fields = line.split()
        # 1: FLOCK ADVISORY WRITE 1234 00:1a:5678 0 EOF
        there, _colon, inode = fields[5].rpartition(":")
        if fields[1] == "FLOCK" and inode == str(status.st_ino):
            found.setdefault(there == device, int(fields[4]))
    # Some file systems tell their users another device than the kernel's own.
    pid = found.get(True, found.get(False))
    return "another process" if pid is None else _describe(pid)


def _describe(pid: int) -> str:
    with contextlib.suppress(OSError):
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        return f"process {pid} ({' '.join(argv).strip()})"
    return f"process {pid}"
