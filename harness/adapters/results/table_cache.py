"""What fio's files said, kept as columns in the user's cache directory: derived, and never trusted.

An entry stands for a tree of fio's output or a run directory. It counts only as long as each of its files is
in the state in which it was read, the code that read them is the same, and its own checksum is right.
Anything else means that the files are read again. `docs/performance.md` says what cannot be noticed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from harness.adapters.files import make_directory, write_atomic
from harness.adapters.workspace import NO_CACHE, cache_directory
from harness.core.errors import HarnessError
from harness.core.fio_cells import Setup
from harness.core.fio_table import FioTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.adapters.results.listing import Listing

WORTH_IT = 500
"""Files from which on an entry is kept: reading fewer takes less than 50 ms."""

_MAGIC = b"qemu-ab-harness samples 1\n"
_HEAD_AT = len(_MAGIC) + 65
"""After the SHA-256 of what follows, and a newline."""
_MOST_BYTES = 2**30
_SUFFIX = ".samples"
_READERS = ("core/fio_*.py", "adapters/results/fio_files.py", "adapters/results/run_outputs.py")


def is_allowed() -> bool:
    """Return whether the user did not forbid it."""
    return not os.environ.get(NO_CACHE)


def is_on(files: int) -> bool:
    """Return whether so many files are worth an entry, and the user did not forbid it."""
    return files >= WORTH_IT and is_allowed()


def read(source: Path) -> bytes | None:
    """Return the entry of a tree or a run directory; None where there is none, or a damaged one.

    Whether it still counts, `load` says: this can be done before the files were looked at.
    """
    try:
        data = entry_of(source).read_bytes()
    except OSError:
        return None
    body = memoryview(data)[_HEAD_AT:]
    checksum = data[len(_MAGIC) : _HEAD_AT - 1]
    whole = data.startswith(_MAGIC) and hashlib.sha256(body).hexdigest().encode() == checksum
    return data if whole else None


def load(entry: bytes | None, source: Path, listing: Listing, *more: str) -> FioTable | None:
    """Return what was read of these files when they were as they are now; None where nobody can tell.

    Args:
        entry: of `read`.
        source: the tree or the run directory.
        listing: its files.
        more: what else the result depends on.
    """
    if entry is None:
        return None
    try:
        table = unpacked(entry, _key(source, listing, more), len(listing.files))
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    if table is not None:
        with contextlib.suppress(OSError):
            os.utime(entry_of(source))  # the least recently used goes first
    return table


def store(source: Path, listing: Listing, table: FioTable, *more: str) -> None:
    """Keep what was read of files that were in these states before.

    Whatever goes wrong with it is nobody's business: the next one reads the files again.
    """
    if not listing.is_settled():
        return
    path = entry_of(source)
    # TypeError: a reason quotes what is no text.
    with contextlib.suppress(OSError, HarnessError, TypeError):
        make_directory(path.parent)
        # A crash of the host may leave any part of it: its checksum is wrong then.
        write_atomic(path, packed(table, _key(source, listing, more)), private=True, durable=False)
        _make_room(path.parent)


def has_entry(source: Path) -> bool:
    """Return whether something is kept of a tree or a run directory, whether or not it still counts."""
    return is_allowed() and os.path.exists(entry_of(source))  # noqa: PTH110 - no error where it may not look


def entry_of(source: Path) -> Path:
    """Return the file that holds, or would hold, what was read of a tree or a run directory."""
    where = hashlib.sha256(os.fsencode(source.absolute())).hexdigest()
    return cache_directory() / "samples" / f"{where[:32]}{_SUFFIX}"


def _key(source: Path, listing: Listing, more: tuple[str, ...]) -> str:
    return listing.key(_readers(), *more, below=source)


@functools.cache
def _readers() -> str:
    """Return a hash of the code that reads: what another version read is not what this one would."""
    package = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256(f"{platform.python_version()} {np.__version__}".encode())
    for pattern in _READERS:
        for file in sorted(package.glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def packed(table: FioTable, key: str) -> bytes:
    """Return an entry of the cache: what it is, its checksum, a line of JSON, the columns."""
    head = {
        "key": key,
        "rows": len(table),
        "numbers": list(table.numbers),
        "setups": [[dict(setup.factors), dict(setup.settings)] for setup in table.setups],
        "problems": table.problems,
    }
    columns = [table.setup, table.file, table.identity, *table.numbers.values()]
    first = orjson.dumps(head)
    # Numbers are read where they lie: at multiples of their size.
    first += b" " * (-(_HEAD_AT + len(first) + 1) % 8) + b"\n"
    body = b"".join([first, *(np.ascontiguousarray(column).tobytes() for column in columns)])
    return _MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def unpacked(data: bytes, key: str, files: int) -> FioTable | None:
    """Return the table in an entry that is not damaged; None, or an error, where it is of other files.

    Raises:
        ValueError, KeyError, TypeError, IndexError: it is none.
    """
    end = data.index(b"\n", _HEAD_AT)
    head: Mapping[str, Any] = orjson.loads(data[_HEAD_AT:end])
    if head["key"] != key:
        return None
    rows, names = head["rows"], head["numbers"]
    columns = np.frombuffer(data, dtype=np.int64, offset=end + 1).reshape(3 + len(names), rows)
    setups = tuple(Setup(factors, settings) for factors, settings in head["setups"])
    table = FioTable(
        setups=setups,
        setup=columns[0],
        file=columns[1],
        identity=columns[2].view(np.uint64),
        numbers={name: columns[3 + number].view(np.float64) for number, name in enumerate(names)},
        problems=tuple((number, why) for number, why in head["problems"]),
    )
    return table if _is_whole(table, files) else None


def _is_whole(table: FioTable, files: int) -> bool:
    """Return whether every row points at something."""
    if not len(table):
        return True
    known = table.file.min() >= 0 and table.file.max() < files
    return bool(known and table.setup.min() >= 0 and table.setup.max() < max(1, len(table.setups)))


def _make_room(place: Path) -> None:
    """Remove what was not used for longest, until the rest is small enough."""
    entries = [(entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in os.scandir(place)]
    room = _MOST_BYTES
    for _when, size, path in sorted(entries, reverse=True):
        room -= size
        if room < 0:
            Path(path).unlink(missing_ok=True)
