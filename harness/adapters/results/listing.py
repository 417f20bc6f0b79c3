"""Files with what tells whether they changed since: listed with several processes where there are many."""

from __future__ import annotations

import hashlib
import os
import time
from array import array
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from harness.adapters.results.fio_files import pool, walk_tree

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    IntArray = npt.NDArray[np.int64]

_FEW = 20_000
_AT_ONCE = 8
_FIELDS = 5
_POSITIVE = 2**63 - 1
_MOMENT_NS = 2_000_000_000
_UNKNOWN = (0, 0, 0, -1, -1)


@dataclass(frozen=True)
class Listing:
    """Files, and their state.

    Attributes:
        files: their paths.
        states: size, mtime and ctime in ns, inode and device of each, shape (N, 5); -1 for inode and device
            of what cannot be looked at, or was not.
    """

    files: list[str]
    states: IntArray

    def key(self, *more: str) -> str:
        """Return a hash of all of it, and of what else is given: the same as long as nothing changed."""
        digest = hashlib.sha256()
        for parts in (self.files, more):
            # No path has a NUL in it: nothing else makes the same text.
            digest.update("\0".join((str(len(parts)), *parts, "")).encode(errors="surrogatepass"))
        digest.update(self.states.tobytes())
        return digest.hexdigest()

    def is_settled(self) -> bool:
        """Return whether each file was last touched long enough ago for its next change to be seen.

        A file system's clock ticks some hundred times a second, on some only every two seconds: what is
        written twice within a tick looks the same.
        """
        if not len(self.states):
            return True
        newest = int(self.states[:, 1:3].max())
        known = bool((self.states[:, 3] >= 0).all())
        return known and newest < time.time_ns() - _MOMENT_NS


def list_tree(root: Path, *, look: bool = True) -> Listing:
    """Return every file of a tree, as `find_files` does; with every core where there are many.

    Args:
        root: of the tree.
        look: whether the state of each is asked for, which takes most of the time.
    """
    begun = [root.as_posix(), *_directories_in(root)]
    found = [_scan([begun[0]], deep=False, look=look)]
    scan = partial(_scan, look=look)
    while (rest := begun[len(found) :]) and sum(len(part.files) for part in found) < _FEW:
        found.append(scan(rest[:1]))
    if rest:
        with pool() as workers:
            found += workers.map(
                scan, [rest[first : first + _AT_ONCE] for first in range(0, len(rest), _AT_ONCE)]
            )
    files = [file for part in found for file in part.files]
    unreadable = [directory for part in found for directory in part.unreadable]
    states = [np.frombuffer(part.states, dtype=np.int64) for part in found]
    unknown = np.array(_UNKNOWN * len(unreadable), dtype=np.int64)
    return Listing(files + unreadable, np.concatenate([*states, unknown]).reshape(-1, _FIELDS))


def _directories_in(root: Path) -> list[str]:
    """Return the directories that a tree has at its top, in the order of `find_files`."""
    _root, names, _files = next(os.walk(root), ("", [], []))
    inside = sorted(name for name in names if not name.startswith("."))
    paths = [f"{root}/{name}" for name in inside]
    return [path for path in paths if not os.path.islink(path)]  # noqa: PTH114


@dataclass(frozen=True)
class _Scanned:
    files: list[str]
    states: array[int]
    unreadable: list[str]


def _scan(roots: Sequence[str], *, deep: bool = True, look: bool) -> _Scanned:
    """Return what is in some trees, or in the directories themselves only."""
    files: list[str] = []
    states = array("q")
    unreadable: list[str] = []
    for root in roots:
        for directory, names in walk_tree(root, unreadable.append, deep=deep):
            files += names
            if look:
                _add_states(directory, names, states)
            else:
                states.extend(_UNKNOWN * len(names))
    return _Scanned(files, states, unreadable)


def _add_states(directory: str, files: Sequence[str], states: array[int]) -> None:
    # Relative to the open directory: looking up a path of some parts takes as long as the rest.
    begin = len(directory) + (not directory.endswith("/"))
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if files else -1
    try:
        for file in files:
            states.extend(_state(file[begin:], descriptor))
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _state(file: str, directory: int | None = None) -> tuple[int, int, int, int, int]:
    try:
        found = os.stat(file, dir_fd=directory)
    except OSError:
        return _UNKNOWN
    # The two last may need all of 64 bits, and have no sign.
    inode, device = found.st_ino & _POSITIVE, found.st_dev & _POSITIVE
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns, inode, device)


def listing_of(files: Sequence[str]) -> Listing:
    """Return files that are known, with their state now."""
    states = array("q")
    for file in files:
        states.extend(_state(file))
    return Listing(list(files), np.frombuffer(states, dtype=np.int64).reshape(-1, _FIELDS))
