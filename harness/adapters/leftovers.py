"""What a cancelled playbook leaves running: Ansible's workers have sessions of their own, and go on."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

_GRACE_SECONDS = 5.0
_LOOK_SECONDS = 0.1

MARK = "HARNESS_PLAYBOOK"
"""The environment variable by which everything that a playbook started on this host is known."""


def end_marked(value: str) -> int:
    """End every process that was started with the mark set to a value; return how many there were.

    They are asked to; what is still there after a few seconds is killed.
    """
    found = _marked(value)
    _signal(found, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    while (left := _marked(value)) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    _signal(left, signal.SIGKILL)
    return len(found)


def _marked(value: str) -> list[int]:
    wanted, found = f"{MARK}={value}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        # One that has just ended, or somebody else's.
        with contextlib.suppress(OSError):
            if process.name != str(os.getpid()) and wanted in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
