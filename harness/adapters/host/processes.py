"""Processes of this host, as /proc shows them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.procfs import parse_head

if TYPE_CHECKING:
    from harness.core.procfs import ProcessHead


def every_pid() -> list[int]:
    """Return the numbers of all processes that are there."""
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]


def head_of(pid: int) -> ProcessHead | None:
    """Return what a process is; None when it is gone."""
    try:
        return parse_head(Path(f"/proc/{pid}/stat").read_text(errors="replace"))
    except OSError:
        return None


def still_runs(pid: int, began: int | None) -> bool:
    """Return whether a process still runs: its number may be another one's by now.

    Args:
        pid: its number.
        began: when it began (`ProcessHead`); None of one that was gone when somebody looked.
    """
    head = head_of(pid)
    return head is not None and head.began == began and not head.has_ended
