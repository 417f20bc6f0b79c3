"""Where something stands in an experiment file: ``matrix.bs[1]``."""

from __future__ import annotations

import re

Path = tuple[str | int, ...]

_PLAIN = re.compile(r"[\w+-]+")


def path_text(path: Path) -> str:
    """Return a path as messages show it."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{part[:60]!r}]"
    return text


def related(one: Path, other: Path) -> bool:
    """Return whether one path holds the other, or is the same."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
