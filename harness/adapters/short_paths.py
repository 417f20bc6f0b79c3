"""Where temporary directories go that hold UNIX sockets, whose paths the kernel wants short."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from harness.core.errors import InputError

LONGEST_SOCKET = 107
"""Bytes that the path of a UNIX socket may have."""

_SHARED = Path("/tmp")  # noqa: S108 - what is made there has a name of its own, or is checked for its owner


def bytes_of(path: Path | str) -> int:
    """Return how long a path is for the kernel."""
    return len(os.fsencode(path))


def temporary_directory(longest: int) -> Path:
    """Return the directory for temporary files; where the path of the user's own is too long, the host's.

    Args:
        longest: bytes that its path may have.

    Raises:
        InputError: it is too long, and nothing can be made in the host's.
    """
    own = Path(tempfile.gettempdir())
    over = bytes_of(own) - longest
    if over <= 0:
        return own
    if not os.access(_SHARED, os.W_OK | os.X_OK):
        raise InputError.single(
            str(own),
            f"is {over} bytes too long for the UNIX sockets below it, and {_SHARED} is not writable",
            f"set a shorter TMPDIR, of at most {longest} bytes",
        )
    return _SHARED


def temporary_directories() -> list[Path]:
    """Return every directory that `temporary_directory` may return for this user."""
    return list(dict.fromkeys((Path(tempfile.gettempdir()), _SHARED)))
