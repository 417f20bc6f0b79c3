"""Files with what tells whether they changed since: listed with several processes where there are many."""

from __future__ import annotations

import bisect
import functools
import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, groupby
from typing import TYPE_CHECKING, overload

import numpy as np

from harness.adapters.results.file_state import TOUCHED, UNKNOWN, states_array, states_in
from harness.adapters.results.workers import pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from harness.adapters.results.file_state import IntArray, State

_FEW = 20_000
_AT_ONCE = 8
_MOMENT_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Part:
    """The files of one directory, in the order of their names.

    Attributes:
        directory: what their paths begin with: a slash at its end, or nothing at all.
        names: theirs, each with a NUL behind it, which no name has. One text: a million would take longer
            from one process to another than to be looked at.
        count: of them.
        digest: a hash of the names and of what each file's state is.
        newest: when one was last touched or changed, in ns; 0 where nobody looked.
        is_known: whether the state of each is known.
    """

    directory: str
    names: str
    count: int
    digest: bytes
    newest: int
    is_known: bool

    @property
    def path(self) -> str:
        """Of the directory, without a slash behind it."""
        return self.directory.rstrip("/") or "/"


class FilePaths(Sequence[str]):
    """The paths of many files, each made when it is asked for."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._ends = list(accumulate(part.count for part in parts))
        self._names = functools.lru_cache(maxsize=4)(self._split)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(number)
        which = bisect.bisect_right(self._ends, number)
        part = self._parts[which]
        return part.directory + self._names(which)[number - self._ends[which] + part.count]

    def __iter__(self) -> Iterator[str]:
        for which, part in enumerate(self._parts):
            yield from (part.directory + name for name in self._split(which))

    def _split(self, which: int) -> list[str]:
        return self._parts[which].names.split("\0")[:-1]

    def called(self, name: str) -> list[str]:
        """Return the paths of the directories that have a file of this name."""
        return [part.path for part in self._parts if f"\0{name}\0" in f"\0{part.names}"]

    def directories_of(self, numbers: IntArray) -> tuple[IntArray, list[str]]:
        """Return which directory each of some files is in: the place of its path in the list behind."""
        return np.searchsorted(np.array(self._ends), numbers, side="right"), [
            part.path for part in self._parts
        ]


@dataclass(frozen=True)
class Listing:
    """Files, and their state.

    Attributes:
        parts: of which they are.
    """

    parts: Sequence[Part]

    @functools.cached_property
    def files(self) -> FilePaths:
        """Their paths."""
        return FilePaths(self.parts)

    def key(self, *more: str, below: Path | None = None) -> str:
        """Return a hash of all of it, and of what else is given: the same as long as nothing changed.

        Args:
            more: what else.
            below: from where the paths count: a directory may be called by many names.
        """
        digest = hashlib.sha256()
        # No path has a NUL in it: nothing else makes the same text.
        above = "" if below is None else f"{below.as_posix()}/"
        directories = [part.directory.removeprefix(above) for part in self.parts]
        for texts in (directories, more):
            digest.update("\0".join((str(len(texts)), *texts, "")).encode(errors="surrogatepass"))
        for part in self.parts:
            digest.update(part.digest)
        return digest.hexdigest()

    def seen(self, states: IntArray) -> Listing:
        """Return the same files with their states.

        Args:
            states: of each, as `State`; shape (files, 5).
        """
        ends = list(accumulate(part.count for part in self.parts))
        return Listing(
            [
                _part_of(part.directory, part.names, states[end - part.count : end])
                for part, end in zip(self.parts, ends, strict=True)
            ]
        )

    def is_settled(self) -> bool:
        """Return whether each file was last touched long enough ago for its next change to be seen.

        A file system's clock ticks some hundred times a second, on some only every two seconds: what is
        written twice within a tick looks the same.
        """
        newest = max((part.newest for part in self.parts), default=0)
        return all(part.is_known for part in self.parts) and newest < time.time_ns() - _MOMENT_NS


def list_tree(root: Path) -> Listing:
    """Return every file of a tree in the order of names, but for hidden ones and links to directories.

    A directory that cannot be listed is there as itself, at the end. Where there are many, every core looks.
    All are text: of a hundred thousand files, `Path` alone would take longer than to read them.
    """
    with pool():
        return begin_listing(root, look=True)()


def begin_listing(root: Path, *, look: bool, large: bool = False) -> Callable[[], Listing]:
    """Begin to do what `list_tree` does; the function that is returned waits for its end.

    Call both in a ``with pool()`` block.

    Args:
        root: of the tree.
        look: whether the state of each file is asked for, which takes most of the time.
        large: whether there seem to be many, so that other processes begin at once.
    """
    begun = [root.as_posix(), *_directories_in(root)]
    scan = functools.partial(_scan, look=look)
    found = [scan([begun[0]], deep=False)]
    while (rest := begun[len(found) :]) and not (
        look and (large or sum(part.count for part in chain(*found)) >= _FEW)
    ):
        found.append(scan(rest[:1]))
    groups = [rest[first : first + _AT_ONCE] for first in range(0, len(rest), _AT_ONCE)]
    with pool() as workers:
        elsewhere = workers.map(scan, groups)
    # What could not be listed comes last.
    return lambda: Listing(sorted(chain(*found, *elsewhere), key=_is_unlisted))


def _is_unlisted(part: Part) -> bool:
    return not part.directory


def _directories_in(root: Path) -> list[str]:
    """Return the directories that a tree has at its top, in the order of `list_tree`."""
    _root, names, _files = next(os.walk(root), ("", [], []))
    paths = [f"{root}/{name}" for name in _not_hidden(names)]
    return [path for path in paths if not os.path.islink(path)]  # noqa: PTH114


def _scan(roots: Sequence[str], *, deep: bool = True, look: bool) -> list[Part]:
    """Return what is in some trees, or in the directories themselves only."""
    unreadable: list[str] = []
    parts = []
    for root in roots:
        for directory, files in _walk(root, unreadable.append, deep=deep):
            if files:
                parts.append(_part(os.path.join(directory, ""), files, look=look))  # noqa: PTH118
    return parts + [_part("", [directory], look=False) for directory in unreadable]


def _walk(root: str, refused: Callable[[str], None], *, deep: bool) -> Iterator[tuple[str, list[str]]]:
    """Return each directory of a tree with its files' names, as `list_tree`; tell of the unreadable."""
    for directory, names, files in os.walk(root, onerror=lambda error: refused(str(error.filename))):
        names[:] = _not_hidden(names) if deep else []
        yield directory, _not_hidden(files)


def _not_hidden(names: Iterable[str]) -> list[str]:
    """Return names in their order, without hidden ones, which stand together."""
    ordered = sorted(names)
    first, behind = bisect.bisect_left(ordered, "."), bisect.bisect_left(ordered, "/")
    return ordered[:first] + ordered[behind:]


def _part(directory: str, names: Sequence[str], *, look: bool) -> Part:
    text = "\0".join((*names, ""))
    states = _states(directory, names) if look else [UNKNOWN] * len(names)
    return _part_of(directory, text, states_array(states))


def _part_of(directory: str, names: str, states: IntArray) -> Part:
    digest = hashlib.sha256(names.encode(errors="surrogatepass"))
    digest.update(states.tobytes())
    return Part(
        directory,
        names,
        len(states),
        digest.digest(),
        newest=int(states[:, TOUCHED].max()),
        is_known=bool(states.any(axis=1).all()),
    )


def _states(directory: str, names: Sequence[str]) -> Sequence[State]:
    # Relative to the open directory: looking up a path of some parts takes as long as the rest.
    try:
        descriptor = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return [UNKNOWN for _name in names]
    try:
        return states_in(descriptor, names)
    finally:
        os.close(descriptor)


def listing_of(files: Sequence[str], *, look: bool = True) -> Listing:
    """Return files that are known, with their state now if they are to be looked at."""
    parts = []
    for directory, paths in groupby(files, key=lambda file: file[: file.rfind("/") + 1]):
        names = [path[len(directory) :] for path in paths]
        parts.append(_part(directory, names, look=look))
    return Listing(parts)
