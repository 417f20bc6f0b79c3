"""The last door before stdout and stderr: nothing commands a terminal, and no closed pipe ends a verb."""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from harness.adapters.files import printable_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOWHERE = Path(os.devnull)
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


class _Lasting:
    """A stream that goes silent at the first error of a kind, so that whoever writes goes on."""

    def __init__(self, stream: TextIO, ends: type[OSError]) -> None:
        self._stream = stream
        self._ends = ends
        self._silent = False

    def write(self, text: str) -> int:
        """Write text, as long as somebody takes it."""
        if not self._silent:
            with self._ending():
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Pass on what was written."""
        if not self._silent:
            with self._ending():
                self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            yield
        except self._ends as error:
            # A reader that is slow is still there: only this text is lost.
            if not isinstance(error, BlockingIOError):
                self._end()

    def _end(self) -> None:
        self._silent = True
        # What the stream still holds would fail again at exit, and so would processes that inherit it.
        with suppress(OSError), _NOWHERE.open("wb") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())


def standard_streams() -> tuple[TextIO, TextIO]:
    """Return what stands for stdout and stderr from the start of the command on.

    stdout goes silent when its reader is gone, which is no error of anybody's; a full disk is one. stderr
    goes silent at any error: what it says is beside the result. One that was closed takes everything, and
    leads nowhere. Characters that an encoding does not have are escaped.
    """
    # In this order, so that each gets its own number again, before a file gets it.
    out, err = _opened(sys.stdout), _opened(sys.stderr)
    return plain(lasting(out, BrokenPipeError)), plain(lasting(err))


def _opened(stream: TextIO | None) -> TextIO:
    if stream is None:
        stream = _NOWHERE.open("w", encoding="utf-8")
        os.set_inheritable(stream.fileno(), True)  # noqa: FBT003 - os's signature
    elif isinstance(stream, io.TextIOWrapper):
        # click takes ASCII for a mistake and would write UTF-8 itself, past every filter.
        encoding = "utf-8" if stream.encoding.lower() in {"ascii", "us-ascii", "ansi_x3.4-1968"} else None
        stream.reconfigure(encoding=encoding, errors="backslashreplace")
    return stream


def lasting(stream: TextIO, ends: type[OSError] = OSError) -> TextIO:
    """Return a stream that goes silent at the first error of a kind: nobody reads it, or its disk is full."""
    if isinstance(unfiltered(stream), _Lasting):
        return stream
    return cast("TextIO", _Lasting(stream, ends))


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
