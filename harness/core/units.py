"""Sizes and durations as users write them: ``4k``, ``1GiB``, ``5s``, ``40m``."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(?P<number>[0-9]{1,20})\s*(?P<prefix>[kmgt]?)(?:i?b)?", re.IGNORECASE)
_FACTORS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_DURATION = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>ms|s|m|h)?")
_SIXTY = 60
_SECONDS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0}


def parse_size(text: str | int) -> int:
    """Return a size in bytes; prefixes are powers of 1024 as in fio's default (``4k`` is 4096).

    Raises:
        ValueError: the text is no size.
    """
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size such as 512, 4k, 128k, 1m or 1GiB")
    return int(match["number"]) * _FACTORS[match["prefix"].lower()]


def format_size(size_bytes: int) -> str:
    """Return the shortest exact label of a size, as fio users write it (4096 -> ``4k``)."""
    for prefix in ("t", "g", "m", "k"):
        factor = _FACTORS[prefix]
        if size_bytes >= factor and size_bytes % factor == 0:
            return f"{size_bytes // factor}{prefix}"
    return str(size_bytes)


def parse_duration(text: str | float) -> float:
    """Return a duration in seconds; a bare number is seconds.

    Raises:
        ValueError: the text is no duration.
    """
    if isinstance(text, int | float):
        return float(text)
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 500ms, 5s, 40m or 2h")
    return float(match["number"]) * _SECONDS[match["unit"]]


def format_duration(seconds: float) -> str:
    """Return a duration for people: ``12 s``, ``3 min 05 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < _SIXTY:
        return f"{whole} s"
    minutes, rest = divmod(whole, _SIXTY)
    if minutes < _SIXTY:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, _SIXTY)
    return f"{hours} h {minutes:02d} min"
