"""A process held by a file descriptor: what its number means can change, what the descriptor means cannot."""

from __future__ import annotations

import contextlib
import os
import select
import signal


class ProcessHandle:
    """A process of this host, whoever started it.

    Args:
        pid: its number, now.
    """

    def __init__(self, pid: int) -> None:
        self._descriptor: int | None = None
        # Gone already, or a kernel before 5.3: then there is nothing to be held.
        with contextlib.suppress(OSError):
            self._descriptor = os.pidfd_open(pid)

    def end(self, seconds: float, *, kill: bool = False) -> None:
        """Ask it to end (SIGTERM), and wait until it has, for a time; once is enough.

        Args:
            seconds: of patience.
            kill: whether it is killed (SIGKILL) when they are over, and waited for as long again.
        """
        if self._descriptor is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if not _ends_by(self._descriptor, signal.SIGTERM, seconds) and kill:
                _ends_by(self._descriptor, signal.SIGKILL, seconds)
        os.close(self._descriptor)
        self._descriptor = None


def _ends_by(descriptor: int, number: signal.Signals, seconds: float) -> bool:
    """Send a process a signal, and return whether it ends within a time."""
    signal.pidfd_send_signal(descriptor, number)
    ended = select.poll()
    ended.register(descriptor, select.POLLIN)
    return bool(ended.poll(seconds * 1000))
