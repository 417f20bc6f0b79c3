"""Text that every reader can read: names of files need not be UTF-8, what is printed and written is."""

from __future__ import annotations

import re
from typing import Any

import orjson

# What stands in Python's text for bytes that are no UTF-8; no encoding has it.
_SURROGATE = re.compile("[\ud800-\udfff]")


def utf8(text: str) -> bytes:
    """Return text as UTF-8, with U+FFFD for what cannot be written in it."""
    return _readable(text).encode()


def json_text(value: Any, option: int) -> str:
    """Return a value as JSON, with U+FFFD for what is no UTF-8.

    Args:
        value: as for ``orjson.dumps``; of anything else its text is taken.
        option: orjson's.
    """
    try:
        return orjson.dumps(value, default=str, option=option).decode()
    except orjson.JSONEncodeError:
        return orjson.dumps(_readable_value(value), default=_text, option=option).decode()


def _readable_value(value: Any) -> Any:
    if isinstance(value, str):
        return _readable(value)
    if isinstance(value, dict):
        return {_readable_value(key): _readable_value(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_readable_value(one) for one in value]
    return value


def _text(value: Any) -> str:
    return _readable(str(value))


def _readable(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text)
