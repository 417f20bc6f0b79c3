"""Where the user wants a result: a file or a link to one, but also a device, a pipe, or /dev/stdout."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from harness.adapters.files import write_atomic
from harness.adapters.results.run_layout import run_of
from harness.core.errors import HarnessError, InputError

_MOST_LINKS = 40
"""So many are followed, as by the kernel: links may lead in a circle."""


def file_replaced(path: Path) -> Path | None:
    """Return the file that writing a result to a path makes or replaces, links followed.

    Returns:
        None for what is written into, since replacing it would destroy it: a device, a pipe, and what this
        process was started with open (/dev/stdout), be it a file in which something stands already.
    """
    if _descriptor(path) is not None or _is_special(path):
        return None
    return Path(os.path.realpath(path))


def check_output(path: Path, example: str) -> None:
    """Refuse, before anything is read, to write a result where it cannot be written.

    Args:
        path: what the user named.
        example: how a file may be called, for who named a directory.

    Raises:
        InputError: it is a directory, a disk, a link that leads nowhere or a part of a run, or may not be
            written.
    """
    remedy = "name another file"
    if path.is_dir():
        raise InputError.single(str(path), "is a directory", f"name the file in it: {path / example}")
    if path.is_block_device():
        raise InputError.single(str(path), "is a disk, whose content would be lost", remedy)
    file = file_replaced(path)
    if file is None:
        # What is open is written by whoever has it, whoever may open it.
        if _descriptor(path) is None and not os.access(path, os.W_OK):
            raise InputError.single(str(path), "is not writable for this user", remedy)
        return
    if file.is_symlink():
        raise InputError.single(str(path), "is a link that leads in a circle", f"remove it, or {remedy}")
    if run := run_of(file):
        raise InputError.single(str(path), f"is a part of the run {run}, which would be lost", remedy)
    if not file.parent.is_dir():
        raise InputError.single(str(path), f"{file.parent} is not a directory", f"make it, or {remedy}")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise InputError.single(str(path), f"{file.parent} is not writable for this user", remedy)


def write_output(path: Path, data: bytes) -> None:
    """Write a result where the user wants it: a file whole or not at all, into anything else.

    Args:
        path: what passed `check_output`. A link stays one: its target is written, or made.
        data: the content.

    Raises:
        HarnessError: it cannot be written.
    """
    if (file := file_replaced(path)) is not None:
        write_atomic(file, data)
        return
    try:
        # To open anew what is open may be refused (a socket), or begin where something stands (a file).
        descriptor = _descriptor(path)
        opened = os.dup(descriptor) if descriptor is not None else os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        with os.fdopen(opened, "wb") as stream:
            stream.write(data)
    except BrokenPipeError:
        # Whoever reads the pipe has seen enough, as with `| head`: no error of anybody's.
        return
    except OSError as error:
        raise HarnessError(f"cannot write {path}: {error.strerror}", remedy="name another file") from error


def _descriptor(path: Path) -> int | None:
    """Return the number of this process's open file that a path such as /dev/stdout is another name of."""
    own = Path(os.path.realpath("/proc/self/fd"))
    for _link in range(_MOST_LINKS):
        if not path.is_symlink():
            break
        directory = Path(os.path.realpath(path.parent))
        if directory == own:
            return int(path.name)
        path = directory / path.readlink()
    return None


def _is_special(path: Path) -> bool:
    """Return whether a path is there, and neither a file nor a directory."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
