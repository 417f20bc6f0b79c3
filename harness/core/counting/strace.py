"""strace's summary of system calls (``-c``): how often each was made."""

from __future__ import annotations

import re

MAPPING_CALLS = ("mmap", "mprotect", "munmap")
"""What a coroutine's stack takes: one of each, from its making to its end."""

_ROW = re.compile(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)\s*", re.ASCII)


class StraceFormatError(ValueError):
    """The text is not a whole summary of strace."""


def parse_summary(text: str) -> dict[str, int]:
    """Return how often each system call was made, failed ones included.

    Raises:
        StraceFormatError: it is no summary, its end is missing, or its rows do not add up.
    """
    rows = [match for line in text.splitlines() if (match := _ROW.fullmatch(line))]
    calls = {match[2]: int(match[1]) for match in rows}
    total = calls.pop("total", None)
    if total is None:
        raise StraceFormatError("there is no total: strace did not finish writing it")
    if sum(calls.values()) != total:
        raise StraceFormatError(f"its rows do not add up to its total of {total}")
    return calls
