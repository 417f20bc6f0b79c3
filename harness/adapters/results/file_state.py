"""What tells whether a file changed since."""

from __future__ import annotations

import os
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    State = tuple[int, int, int, int, int]

UNKNOWN: State = (0, 0, 0, 0, 0)
"""Of a file that nobody looked at, or that nobody could."""

TOUCHED = slice(1, 3)
"""Where a state says when its file was last touched, and when it was changed; both in ns."""

state_of: Callable[[os.stat_result], State] = attrgetter(
    "st_size", "st_mtime_ns", "st_ctime_ns", "st_ino", "st_dev"
)
"""Returns the state of a file."""


def state_now(path: str) -> State:
    """Return the state of a file; `UNKNOWN` where it cannot be told."""
    try:
        return state_of(os.stat(path))  # noqa: PTH116
    except OSError:
        return UNKNOWN
