"""What is said of a value that cannot be used."""

from __future__ import annotations

import reprlib
from difflib import get_close_matches
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


class BadValueError(ValueError):
    """A value that cannot be used, with the remedy beside the message."""

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


def shown(value: object) -> str:
    """Return a value as a message shows it: as in YAML, and never long."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping (key: value)"
    if isinstance(value, list | tuple):
        return "a list"
    return _SHORT.repr(value.value if isinstance(value, Enum) else value)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant."""
    by_folded = {k.lower(): k for k in known}
    folded = word.lower()[:100]
    close = get_close_matches(folded, list(by_folded), n=1, cutoff=0.6)
    shortened = [known for known in by_folded if len(folded) > 2 and known.startswith(folded)]  # noqa: PLR2004
    found = [*close, *shortened]
    return by_folded[found[0]] if found else None
