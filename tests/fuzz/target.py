"""What a fuzz target is: a reader, what may come out of it, and how to make inputs for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.errors import HarnessError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

READ = "read"
"""The outcome of an input that was accepted; else it is the name of an error's class."""

_LONGEST_MESSAGE = 20_000


class Violation(AssertionError):  # noqa: N818 - what it is called on the page
    """A reader broke its promise: says which."""


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        name: on the command line, and of its directory in the corpus.
        title: for the table.
        check: reads one input below a directory that is empty and private; returns the outcome. It raises
            `Violation` for a wrong answer; whatever else it raises is a violation too.
        seeds: valid inputs.
        mutate: makes another input of one; the same random numbers make the same one.
        longest: bytes of an input.
    """

    name: str
    title: str
    check: Callable[[bytes, Path], str]
    seeds: Callable[[], list[bytes]]
    mutate: Callable[[bytes, Random], bytes]
    longest: int = 1 << 16


def require(holds: object, message: str) -> None:
    """Say that a promise was broken, unless it holds."""
    if not holds:
        raise Violation(message)


def outcome_of(error: HarnessError) -> str:
    """Return the name of an error's class, if its message says something, and not too much.

    What a terminal would act on in it is the console's business, which prints nothing else.
    """
    texts = [error.message, error.remedy or ""]
    if isinstance(error, InputError):
        texts = [text for p in error.problems for text in (p.where, p.message, p.remedy or "")]
    require(error.message.strip(), f"an error without a message: {error!r}")
    for text in texts:
        require(len(text) <= _LONGEST_MESSAGE, f"a message of {len(text)} characters: {text:.200}")
    return type(error).__name__


def same_number(found: float, wanted: float) -> bool:
    """Return whether two numbers are one, but for rounding."""
    return abs(found - wanted) <= 1e-9 * max(abs(found), abs(wanted), 1e-300)
