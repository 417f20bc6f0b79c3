"""The file system: what is said to be written is on disk, whole, before the call returns."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import itertools
import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from harness.core.errors import HarnessError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CHUNK_BYTES = 2**20
_TEMPORARY = re.compile(r"^\..+\.\d+\.tmp$")
"""How `write_atomic` calls a file until it is whole: its name and the writer's process."""
PRIVATE = 0o700
PASSABLE = 0o711
"""For directories that QEMU's user has to get through: it may pass, and not see what else is there."""
MOST_BYTES = 2**30
"""Of a file that is read at once; what runs record is a thousandth of it."""


def write_atomic(path: Path, data: bytes, *, private: bool = False, durable: bool = True) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part.

    Args:
        path: the file.
        data: its content.
        private: for this user's eyes only, whatever the umask.
        durable: whether it has to be there after a crash of the host, which takes until the disk has it.

    Raises:
        HarnessError: the disk is full, read-only or the directory is not writable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            if private:
                os.fchmod(stream.fileno(), 0o600)
            stream.write(data)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        temporary.replace(path)
        if durable:
            sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise HarnessError(
            f"cannot write {path}: {error.strerror}",
            remedy="free some space or choose another directory; what was measured so far is kept",
        ) from error


def write_json(path: Path, value: Any, *, private: bool = False) -> None:
    """Write JSON for machines and people: sorted out by the caller, indented, atomic."""
    data = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    write_atomic(path, data, private=private)


def files_below(directory: Path) -> Iterator[Path]:
    """Return all that is below a directory but directories, in any order; links are not followed.

    Unlike `Path.rglob`, it is not stopped by a link whose target no file system could name.
    """
    for place, _directories, names in os.walk(directory):
        for name in names:
            yield Path(place, name)


def half_written(directory: Path, *, deep: bool = True) -> list[Path]:
    """Return the files that a process which was killed did not finish writing.

    To be asked where nobody writes.

    Args:
        directory: where.
        deep: at any depth; otherwise in it and in the directories in it.
    """
    found: Iterable[Path] = files_below(directory)
    if not deep:
        found = (*directory.glob(".*.tmp"), *directory.glob("*/.*.tmp"))
    return sorted(
        path for path in found if _TEMPORARY.match(path.name) and not path.is_symlink() and path.is_file()
    )


def remove_tree(path: Path) -> None:
    """Remove a file, or a directory with what is in it; what is gone already is fine.

    Raises:
        HarnessError: the system refused it.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    except OSError as error:
        raise HarnessError(f"cannot remove {path}: {error.strerror}") from error


def read_json(path: Path) -> Any:
    """Return a JSON file's content.

    Raises:
        InputError: the file cannot be read or is not JSON.
    """
    try:
        return orjson.loads(read_bytes(path))
    except orjson.JSONDecodeError as error:
        raise InputError.single(
            str(path), f"is not whole JSON: {error}", "restore the file, or leave it out"
        ) from error


def read_text(path: Path, *, pipe: bool = False) -> str:
    """Return the text of a file the user named.

    Args:
        path: the file.
        pipe: whether it may be a pipe or a terminal too, whose end is waited for.

    Raises:
        InputError: it is missing, no regular file, unreadable or not UTF-8.
    """
    return text_of(path, read_bytes(path, pipe=pipe))


def text_of(path: Path, data: bytes) -> str:
    """Return the text that a file's content is.

    Raises:
        InputError: it is not UTF-8; names the file.
    """
    try:
        with io.TextIOWrapper(io.BytesIO(data), encoding="utf-8") as stream:
            return stream.read()
    except UnicodeDecodeError as error:
        raise InputError.single(str(path), "is not UTF-8 text", "give a text file") from error


def read_bytes(path: Path | str, *, pipe: bool = False) -> bytes:
    """Return the content of a file the user named, to the byte.

    Args:
        path: the file. In a run directory from anybody it may be a pipe that nobody writes, or a device
            without end.
        pipe: as for `read_text`.

    Raises:
        InputError: it is missing, no regular file, unreadable or larger than any file of the harness.
    """
    return read_with_status(path, pipe=pipe)[0]


def read_with_status(path: Path | str, *, pipe: bool = False) -> tuple[bytes, os.stat_result]:
    """Return the content of a file, and in what state it was just before; otherwise as `read_bytes`."""
    try:
        # A pipe would be waited for, even by open().
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (0 if pipe else os.O_NONBLOCK))
        try:
            # Before it becomes a stream, which a directory cannot.
            status = os.fstat(descriptor)
            _check_readable(path, status, pipe=pipe)
            data = _whole(descriptor, status.st_size)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise InputError.single(str(path), "does not exist", "check the path") from error
    except OSError as error:
        remedy = "make it readable for this user" if isinstance(error, PermissionError) else None
        raise InputError.single(str(path), f"cannot be read: {error.strerror or error}", remedy) from error
    if len(data) > MOST_BYTES:
        raise InputError.single(str(path), f"is larger than {MOST_BYTES // 2**20} MiB", "check the path")
    return data, status


def _whole(descriptor: int, size: int) -> bytes:
    """Return what can be read, at most a byte more than `MOST_BYTES`."""
    if size <= _CHUNK_BYTES:
        # In one step, without room for a gigabyte: records are small, and many.
        data = os.read(descriptor, size + 1)
        if len(data) == size and size:
            return data
    else:
        data = b""
    with open(descriptor, "rb", closefd=False) as stream:
        return data + stream.read(MOST_BYTES + 1 - len(data))


def _check_readable(path: Path | str, status: os.stat_result, *, pipe: bool) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise InputError.single(str(path), "is a directory", "name the file in it")
    if not (stat.S_ISREG(status.st_mode) or pipe):
        raise InputError.single(str(path), "is no regular file", "name a file, not a pipe or a device")


def is_there(path: Path) -> bool:
    """Return whether there is anything of a name, be it a link that leads nowhere.

    Raises:
        InputError: nobody can tell: a directory on the way is none, or may not be entered.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError.single(str(path), f"cannot be looked for: {why}", "restore the directory") from error
    return True


def inside(directory: Path, *names: str) -> Path:
    """Return a path below a directory, from names that a file says: a run directory may be anybody's.

    Raises:
        InputError: a name leads elsewhere.
    """
    for name in names:
        refuse_elsewhere(directory, name)
    return directory.joinpath(*names)


def refuse_elsewhere(directory: Path, name: str) -> None:
    """Refuse a name that leads out of its directory; otherwise as `inside`.

    Raises:
        InputError: as `inside`.
    """
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise InputError.single(
            str(directory), f"names the file {name!r}, which is none of its own", "restore the run directory"
        )


def make_directory(path: Path, mode: int = PRIVATE) -> Path:
    """Make a directory and its parents, and put them on disk; an existing one is left as it is.

    Args:
        path: the directory.
        mode: of the directory itself, whatever the umask; its parents are made as the umask says.

    Raises:
        HarnessError: it cannot be made.
    """
    if path.is_dir():
        return path
    made = [path, *itertools.takewhile(lambda parent: not parent.exists(), path.absolute().parents)]
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
            path.chmod(mode)
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        # What is put on disk in a directory is lost with it: its own name has to be there, too.
        for directory in made:
            # One that this user may write to but not list cannot be opened.
            with contextlib.suppress(PermissionError):
                sync_directory(directory.absolute().parent)
    except OSError as error:
        raise HarnessError(
            f"cannot make the directory {path}: {error.strerror}", remedy="choose another with an option"
        ) from error
    return path


def sync_directory(path: Path) -> None:
    """Put a directory's entries on disk: a rename counts only after this."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path | str) -> str:
    """Return the hex SHA-256 of a file's content."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tail(path: Path, lines: int = 15, limit: int = 64 * 1024) -> str:
    """Return the last lines of a log, or an empty text when there is none; for messages only."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - limit))
            data = stream.read()
    except OSError:
        return ""
    return "\n".join(printable(line) for line in data.decode(errors="replace").splitlines()[-lines:])


def printable(text: str) -> str:
    """Return text from a guest without anything a terminal would act on."""
    return "".join(char if char.isprintable() or char == "\t" else "?" for char in text)


def printable_lines(text: str) -> str:
    """Return text of several lines without anything else a terminal would act on."""
    return "\n".join(printable(line) for line in text.split("\n"))
