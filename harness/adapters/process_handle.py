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

    def end(self, seconds: float) -> None:
        """Ask it to end (SIGTERM), and wait until it has, for a time; once is enough."""
        if self._descriptor is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGTERM)
            ended = select.poll()
            ended.register(self._descriptor, select.POLLIN)
            ended.poll(seconds * 1000)
        os.close(self._descriptor)
        self._descriptor = None
