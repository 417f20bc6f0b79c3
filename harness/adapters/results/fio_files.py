"""Files of fio's output: found, unpacked, read; what cannot be used is named with the reason."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import zlib
from itertools import islice
from typing import IO, TYPE_CHECKING

import zstandard

from harness.adapters.results.file_state import UNKNOWN, state_now, state_of, states_array
from harness.core.fio_cells import Measurement, read_measurements
from harness.core.fio_document import FioOutputError
from harness.core.fio_plain import PlainReports
from harness.core.fio_table import FioTable, join, table_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.adapters.results.file_state import IntArray

MOST_BYTES = 256 * 2**20
"""Of one file, unpacked. A report is 10 kB; an hour of --status-interval=1 is 25 MB."""

_HEAD = 4096
_ZSTD_STEP = 512  # compressed bytes at a time: a step makes 16 MiB at most, whatever the file says
_SMALL_BYTES = 2**20
_UNREADABLE = (FioOutputError, OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeDecodeError)


def read_some(paths: Sequence[str]) -> FioTable:
    """Read files. What cannot be used is among the table's problems."""
    return read_and_look(paths)[0]


def read_and_look(paths: Sequence[str]) -> tuple[FioTable, IntArray]:
    """Read files, and tell the state in which each was, as `file_state.State`; shape (files, 5)."""
    plain = PlainReports()
    measured: list[tuple[int, Sequence[Measurement]]] = []
    problems: list[tuple[int, str]] = []
    states = [UNKNOWN] * len(paths)

    def read(number: int, *, perhaps_plain: bool) -> None:
        try:
            data, status = _read_bytes(paths[number])
            states[number] = state_of(status)
            if perhaps_plain and plain.take(number, data):
                return
            found, reasons = read_measurements(_decoded(data))
        except _UNREADABLE as error:
            found, reasons = [], [_words(error)]
            states[number] = state_now(paths[number])
        measured.append((number, found))
        problems.extend((number, reason) for reason in reasons)

    for number in range(len(paths)):
        read(number, perhaps_plain=True)
    table, refused = plain.finish()
    # Rarely any: it looked plain, and contradicts itself.
    for number in refused:
        read(number, perhaps_plain=False)
    if measured or problems:
        table = join([(0, table), (0, table_of(measured, problems))])
    return table, states_array(states)


def _words(error: Exception) -> str:
    return error.message if isinstance(error, FioOutputError) else str(error)


def read_text(path: str | Path) -> str:
    """Return a file's text, unpacked by what its first bytes say: gzip, Zstandard, xz, bzip2.

    Raises:
        FioOutputError: too large, or no text.
        OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeDecodeError: unreadable or damaged.
    """
    return _decoded(_read_bytes(path)[0])


def _read_bytes(path: str | Path) -> tuple[bytes, os.stat_result]:
    """Return what a file holds, unpacked, and in what state it was then.

    Raises:
        FioOutputError, OSError, EOFError, zlib.error, lzma.LZMAError: as `read_text`.
    """
    descriptor, status = _opened(path)
    try:
        data = _small(descriptor, status.st_size)
        if data is None:
            with open(descriptor, "rb", closefd=False) as stream:
                data = _unpacked(stream)
    finally:
        os.close(descriptor)
    if len(data) > MOST_BYTES:
        raise FioOutputError(f"it is larger than any fio output ({MOST_BYTES // 2**20} MiB)")
    if b"\0" in data[:_HEAD]:
        raise FioOutputError("it is no text")
    return data, status


def _opened(path: str | Path) -> tuple[int, os.stat_result]:
    """Return the descriptor of a regular file, and the file's state."""
    try:
        # A pipe would wait for who writes it.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        if os.path.isfile(path):  # noqa: PTH113
            raise
        raise _no_file(path) from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise _no_file(path)
    return descriptor, status


def _no_file(path: str | Path) -> FioOutputError:
    listed = os.path.isdir(path)  # noqa: PTH112
    return FioOutputError("its files cannot be listed" if listed else "it is no regular file")


def _small(descriptor: int, size: int) -> bytes | None:
    """Return what a file holds, in one step; None where there is more to it than a short text in braces."""
    if size > _SMALL_BYTES:
        return None
    data = os.read(descriptor, size + 1)
    if len(data) == size and data.startswith(b"{"):
        return data
    os.lseek(descriptor, 0, os.SEEK_SET)
    return None


def _unpacked(raw: IO[bytes]) -> bytes:
    head = raw.read(_HEAD)
    if head.startswith(b"{"):
        return head + raw.read(MOST_BYTES + 1 - len(head))
    raw.seek(0)
    return _unpack(raw, head)


def _decoded(data: bytes) -> str:
    return data.decode("utf-8-sig")


def _unpack(raw: IO[bytes], head: bytes) -> bytes:
    """Return at most one byte more than MOST_BYTES: a small archive can be endless."""
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw).read(MOST_BYTES + 1)
    if head.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMAFile(raw).read(MOST_BYTES + 1)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(raw).read(MOST_BYTES + 1)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return _unpack_zstd(raw)
    if b"\0" in head:
        return head  # a disk image, say: not worth reading to its end
    return raw.read(MOST_BYTES + 1)


def _unpack_zstd(raw: IO[bytes]) -> bytes:
    """Return what Zstandard frames hold; zstandard's own reader takes a frame that is cut off for its end."""
    found, size = [], 0
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    pending = b""
    while chunk := pending or raw.read(_ZSTD_STEP):
        try:
            found.append(unpacker.decompress(chunk))
        except zstandard.ZstdError as error:
            raise FioOutputError(f"its Zstandard data is damaged: {error}") from error
        size += len(found[-1])
        if size > MOST_BYTES:
            break
        pending = b""
        if unpacker.eof and (pending := unpacker.unused_data or raw.read(_ZSTD_STEP)):
            unpacker = zstandard.ZstdDecompressor().decompressobj()
    else:
        if not unpacker.eof:
            raise EOFError("its Zstandard data ends before its end")
    return b"".join(found)[: MOST_BYTES + 1]


def first_line(text: str) -> str:
    """Return the first line that is not blank."""
    return next((line for line in islice(text.splitlines(), 100) if line.strip()), "")
