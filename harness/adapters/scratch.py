"""Directories for what is needed for a while: gone afterwards, or with the next run."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters.host.locks import exclusive
from harness.core.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "ab-scratch-"
_LOCK = "lock"
_NOBODY_WAITS = "nothing: it is used by one process"


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Make a directory for the duration of the ``with`` block; its path is short enough for sockets."""
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        # The kernel drops the lock with this process, however it ends.
        with exclusive(directory / _LOCK, what=f"the directory {directory}", remedy=_NOBODY_WAITS):
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _is_ours(directory: Path) -> bool:
    """Return whether a directory is this user's own: in another's, any name may be a trap."""
    with contextlib.suppress(OSError):
        status = directory.lstat()
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return False


def sweep() -> None:
    """Remove the directories of processes that were killed."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
        if not _is_ours(lock.parent):
            continue
        # Held: somebody works there.
        with (
            contextlib.suppress(HarnessError),
            exclusive(lock, what=f"the directory {lock.parent}", remedy=_NOBODY_WAITS),
        ):
            shutil.rmtree(lock.parent, ignore_errors=True)
