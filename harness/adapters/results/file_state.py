"""What tells whether a file changed since."""

from __future__ import annotations

import os
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    IntArray = npt.NDArray[np.int64]
    State = tuple[int, int, int, int, int]

UNKNOWN: State = (0, 0, 0, 0, 0)
"""Of a file that nobody looked at, or that nobody could."""

TOUCHED = slice(1, 3)
"""Where a state says when its file was last touched, and when it was changed; both in ns."""

state_of: Callable[[os.stat_result], State] = attrgetter(
    "st_size", "st_mtime_ns", "st_ctime_ns", "st_ino", "st_dev"
)
"""Returns the state of a file."""


def state_now(path: str, directory: int | None = None) -> State:
    """Return the state of a file; `UNKNOWN` where it cannot be told.

    Args:
        path: of the file.
        directory: a descriptor of the directory that the path begins at; the working directory when None.
    """
    try:
        return state_of(os.stat(path, dir_fd=directory))
    except OSError:
        return UNKNOWN


def states_in(directory: int, names: Sequence[str]) -> Sequence[State]:
    """Return the states of files, as `state_now` does.

    Args:
        directory: a descriptor of theirs.
        names: theirs in it.
    """
    try:
        return [state_of(os.stat(name, dir_fd=directory)) for name in names]
    except OSError:
        return [state_now(name, directory) for name in names]


def states_array(states: Sequence[State]) -> IntArray:
    """Return states as rows, shape (files, 5)."""
    count = len(states) * len(UNKNOWN)
    try:
        found = np.fromiter(chain.from_iterable(states), np.int64, count)
    except OverflowError:
        # Inode numbers have 64 bits without a sign, and some file systems use them all.
        found = np.fromiter(map(_signed, chain.from_iterable(states)), np.int64, count)
    return found.reshape(-1, len(UNKNOWN))


def _signed(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63
