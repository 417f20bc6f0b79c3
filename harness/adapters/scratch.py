"""Directories for what is needed for a while: gone afterwards, or with the next run."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters.host.locks import exclusive, holder_of
from harness.adapters.short_paths import LONGEST_SOCKET, temporary_directories, temporary_directory
from harness.core.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "ab-scratch-"
_LOCK = "lock"
_LONGEST_PLACE = LONGEST_SOCKET - len(f"/{_PREFIX}12345678/qtest.1234567890123456")
"""Bytes; the last ones since ssh makes its socket under a longer name and renames it."""
_NOBODY_WAITS = "nothing: it is used by one process"
_LOCKED_AFTER_SECONDS = 60
"""More than a process takes from making its directory to locking it."""


@contextlib.contextmanager
def scratch(*, sockets: bool = False) -> Iterator[Path]:
    """Make a directory for the duration of the ``with`` block.

    Args:
        sockets: its path has to be short enough for UNIX sockets with short names.

    Raises:
        InputError: there is no directory with a path that is short enough.
    """
    place = place_for_sockets() if sockets else None
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    try:
        # The kernel drops the lock with this process, however it ends.
        with exclusive(directory / _LOCK, what=f"the directory {directory}", remedy=_NOBODY_WAITS):
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def place_for_sockets() -> Path:
    """Return where directories are made that hold sockets.

    Raises:
        InputError: as `temporary_directory`.
    """
    return temporary_directory(_LONGEST_PLACE)


def _is_ours(directory: Path) -> bool:
    """Return whether a directory is this user's own: in another's, any name may be a trap."""
    with contextlib.suppress(OSError):
        status = directory.lstat()
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return False


def sweep() -> None:
    """Remove the directories of processes that were killed."""
    for directory in left():
        # Another user's, or somebody was faster.
        with contextlib.suppress(HarnessError):
            remove(directory)


def left() -> list[Path]:
    """Return the directories of processes that were killed."""
    every = [path for place in temporary_directories() for path in sorted(place.glob(f"{_PREFIX}*"))]
    return [directory for directory in every if _is_left(directory)]


def remove(directory: Path) -> None:
    """Remove one that is left.

    Raises:
        HarnessError: somebody works there after all, or it is another user's.
    """
    try:
        if (directory / _LOCK).exists():
            with exclusive(directory / _LOCK, what=f"the directory {directory}", remedy=_NOBODY_WAITS):
                shutil.rmtree(directory)
        else:
            shutil.rmtree(directory)
    except OSError as error:
        raise HarnessError(f"cannot remove {directory}: {error.strerror}") from error


def is_in_use(directory: str) -> bool:
    """Return whether the process that made a directory still works there."""
    return holder_of(Path(directory) / _LOCK) is not None


def _is_left(directory: Path) -> bool:
    try:
        if not _is_ours(directory):
            return False
        if (directory / _LOCK).exists():
            return not is_in_use(str(directory))
        return time.time() - directory.stat().st_mtime > _LOCKED_AFTER_SECONDS
    except OSError:
        return False
