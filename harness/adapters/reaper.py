"""Reaps QEMU at once.

libvirt daemonizes QEMU, and waits, when it ends one, until the process is gone from the process table. An
orphan is reaped by PID 1, which in containers may look only every few seconds. So this process adopts its
orphaned descendants (a "child subreaper") and reaps them itself; their exit status comes as a bonus.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from pathlib import Path

from harness.adapters.host.processes import head_of

_PR_SET_CHILD_SUBREAPER = 36
_PAUSE_SECONDS = 0.02


class Reaper:
    """Reaps adopted orphans as long as the process lives; leaves alone the children somebody waits for."""

    _lock = threading.Lock()
    _instance: Reaper | None = None

    def __init__(self) -> None:
        self._statuses: dict[int, int] = {}
        self._news = threading.Condition()

    @classmethod
    def running(cls) -> Reaper:
        """Return the process's reaper, started on first use."""
        with cls._lock:
            if cls._instance is None:
                cls._instance = cls()
                ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
                threading.Thread(target=cls._instance.run, name="reaper", daemon=True).start()
            return cls._instance

    def exit_status(self, pid: int) -> int | None:
        """Return how an adopted process ended: its exit code, or minus its signal; None when unseen."""
        return self._statuses.get(pid)

    def wait(self, pid: int, timeout: float) -> int | None:
        """Return how an adopted process ended, waiting for its end; None when it was not seen in time."""
        with self._news:
            self._news.wait_for(lambda: pid in self._statuses, timeout)
        return self.exit_status(pid)

    def run(self) -> None:
        """Reap for ever."""
        while True:
            # Sleeps in the kernel until a child ends: nothing runs while a guest measures.
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
                if self._reap_orphans():
                    continue
            time.sleep(_PAUSE_SECONDS)

    def _reap_orphans(self) -> bool:
        reaped = False
        for pid in _children():
            if _is_dead_orphan(pid):
                with contextlib.suppress(ChildProcessError):
                    _pid, status = os.waitpid(pid, os.WNOHANG)
                    with self._news:
                        self._statuses[pid] = os.waitstatus_to_exitcode(status)
                        self._news.notify_all()
                    reaped = True
        return reaped


def _children() -> list[int]:
    pids: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            pids += map(int, (task / "children").read_text().split())
    return pids


def _is_dead_orphan(pid: int) -> bool:
    """Return whether a child is a zombie that nobody in this process waits for.

    Daemonized processes live in a session of their own. Its leader is either libvirt's short-lived
    intermediate, which libvirt waits for, or the one that QEMU's own ``-daemonize`` leaves behind.
    """
    head = head_of(pid)
    if head is None or head.state != "Z" or head.session == os.getsid(0):
        return False
    return head.session != pid or head.command.startswith("qemu")
