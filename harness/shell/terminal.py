"""The last door before a terminal: nothing that a run directory, a guest or a file says commands it."""

from __future__ import annotations

import os
from typing import Any, TextIO, cast

from harness.adapters.files import printable_lines

_DUMB = ("dumb", "unknown")


class _Plain:
    """A stream that takes text and passes it on without control characters."""

    def __init__(self, stream: TextIO) -> None:
        self.unfiltered = stream

    def write(self, text: str) -> int:
        """Write text."""
        self.unfiltered.write(printable_lines(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unfiltered, name)


def plain(stream: TextIO) -> TextIO:
    """Return a stream for text of any origin: filtered where it is a terminal, else as it is.

    A file or another program gets every byte as it was made.
    """
    if isinstance(stream, _Plain) or not stream.isatty():
        return stream
    return cast("TextIO", _Plain(stream))


def unfiltered(stream: TextIO) -> TextIO:
    """Return the stream behind, for what draws on the terminal by its control characters."""
    return stream.unfiltered if isinstance(stream, _Plain) else stream


def redraws(stream: TextIO) -> bool:
    """Return whether a line that was written can be drawn anew: not in a file, nor in an editor's shell."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in _DUMB
