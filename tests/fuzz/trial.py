"""Trying inputs on a target, and keeping book."""

from __future__ import annotations

import shutil
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from fuzz.watch import MOST_CPU_SECONDS, Hang, watched

if TYPE_CHECKING:
    from fuzz.target import Target

CORPUS = Path(__file__).parent / "corpus"
_MEMORY = Path("/dev/shm")  # noqa: S108 - a private directory is made below it
_MOST_KEPT = 200


def corpus_of(target: Target) -> dict[str, bytes]:
    """Return the kept inputs of a target by file name: those that broke it once."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / target.name).glob("*"))}


@dataclass
class Book:
    """What came out.

    Attributes:
        outcomes: how often each.
        violations: a description -> the first input that showed it.
        slowest: CPU seconds of the slowest input.
        slowest_input: that one.
    """

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: dict[str, bytes] = field(default_factory=dict)
    broken: int = 0
    slowest: float = 0.0
    slowest_input: bytes = b""


def make_directory() -> Path:
    """Return a new private directory, in memory where there is some."""
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None))


class Trial:
    """Tries inputs on one target. Use as a context manager: it has a directory.

    Args:
        target: what reads them.
        most_cpu_seconds: that an input may use.

    Attributes:
        book: what came out so far.
    """

    def __init__(self, target: Target, most_cpu_seconds: float = MOST_CPU_SECONDS) -> None:
        self.target = target
        self._most_cpu_seconds = most_cpu_seconds
        self.book = Book()
        self._place = make_directory()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        shutil.rmtree(self._place, ignore_errors=True)

    def run(self, data: bytes) -> str | None:
        """Try one input; return what promise it broke, or None."""
        # A path of its own each time: nothing of the last input is in the way.
        directory = self._place / str(self.book.inputs)
        directory.mkdir()
        began = time.process_time()
        broke: str | None = None
        try:
            with watched(most_cpu_seconds=self._most_cpu_seconds):
                self.book.outcomes[self.target.check(data, directory)] += 1
        except Hang as hang:
            broke = f"Hang: {hang}\n{_innermost(hang)}"
        except Exception as error:  # noqa: BLE001 - whatever comes out is the finding
            broke = f"{type(error).__name__}: {error!s:.300}\n{_innermost(error)}"
        seconds = time.process_time() - began
        if seconds > self.book.slowest:
            self.book.slowest, self.book.slowest_input = seconds, data
        self.book.inputs += 1
        shutil.rmtree(directory, ignore_errors=True)
        if broke is not None:
            self.book.broken += 1
            where = broke.rpartition("\n")[2]
            if len(self.book.violations) < _MOST_KEPT and not any(
                w.endswith(where) and w[:8] == broke[:8] for w in self.book.violations
            ):
                self.book.violations[broke] = data
        return broke


def _innermost(error: BaseException) -> str:
    """Return the project's own line in which it happened."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/harness/" in frame.filename] or frames
    last = own[-1]
    return f"{last.filename.rpartition('/harness/')[2]}:{last.lineno} in {last.name}"
